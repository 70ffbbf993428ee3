"""Write src/whisperx/assets/pyannote_segmentation.safetensors from the checkpoint in the whisperx wheel.

    pip download --no-deps whisperx==3.8.6 && unzip whisperx-3.8.6-py3-none-any.whl whisperx/assets/pytorch_model.bin
    python tools/convert_segmentation.py whisperx/assets/pytorch_model.bin

The file is pyannote/segmentation as its author published it, under the MIT licence. The weights stay float32.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whisperx.checkpoints.pyannote import open_checkpoint

TARGET = Path(__file__).parents[1] / "src" / "whisperx" / "assets" / "pyannote_segmentation.safetensors"
CONSTANTS = ("filterbank.window_", "filterbank.n_")  # the same in every such network


def main(checkpoint: str) -> None:
    tensors, specifications = open_checkpoint(Path(checkpoint))
    learned = {name: np.ascontiguousarray(t.read()) for name, t in tensors.items() if not name.endswith(CONSTANTS)}
    save_file(learned, TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, {len(learned)} tensors, windows of {specifications['duration']} s")


if __name__ == "__main__":
    main(sys.argv[1])

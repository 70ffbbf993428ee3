"""Write tests/goldens/*.npz: what the reference implementations answer for small random networks.

    .venv-oracle/bin/python tools/make_goldens.py

The users' tests compare with these files, so that they need neither torch nor the references. Run again only when a
case is added: `make test-oracle` compares live, over many more cases.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers
import whisper

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "oracle")]

from random_wav2vec2 import SMALL_WAV2VEC2, noise, random_wav2vec2  # noqa: E402
from random_whisper import SMALL_DIMS, random_arrays, random_mel, random_tokens  # noqa: E402
from references import openai_whisper, transformers_wav2vec2  # noqa: E402


def whisper_goldens() -> dict[str, np.ndarray]:
    goldens = {}
    for name, dims in SMALL_DIMS.items():
        model = openai_whisper(dims, random_arrays(dims))
        with torch.no_grad():
            features = model.encoder(torch.from_numpy(random_mel(dims))[None])
            logits = model.decoder(torch.tensor([random_tokens(dims, 20)]), features)
        goldens[f"{name}.features"] = features[0].numpy()
        goldens[f"{name}.logits"] = logits[0].numpy()
    return goldens


def wav2vec2_goldens() -> dict[str, np.ndarray]:
    goldens = {}
    for name, dims in SMALL_WAV2VEC2.items():
        model = transformers_wav2vec2(dims, random_wav2vec2(dims), "hubert" if name == "bare" else "wav2vec2")
        with torch.no_grad():
            logits = model(torch.from_numpy(noise(8000))[None]).logits[0]
        goldens[name] = logits.log_softmax(1).numpy()
    return goldens


def main() -> None:
    folder = ROOT / "tests" / "goldens"
    folder.mkdir(exist_ok=True)
    np.savez_compressed(folder / "whisper.npz", **whisper_goldens())
    print(f"openai-whisper {whisper.__version__}, torch {torch.__version__}: wrote {folder}/whisper.npz")
    np.savez_compressed(folder / "wav2vec2.npz", **wav2vec2_goldens())
    print(f"transformers {transformers.__version__}: wrote {folder}/wav2vec2.npz")


if __name__ == "__main__":
    main()

"""Whisper networks with random weights, the same on every machine: what the tests compare needs no download."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from whisperx.backends.mlx import MlxBackend
from whisperx.checkpoints import Checkpoint, WhisperDimensions, expected_shapes

# Small networks of each kind: as tiny, as large-v3 (128 mels), as turbo (few decoder layers, encoder of another width).
# fmt: off
SMALL_DIMS = {
    "tiny": WhisperDimensions(80, 100, 128, 2, 2, 1000, 64, 128, 2, 2),
    "large-v3": WhisperDimensions(128, 60, 192, 3, 2, 1003, 448, 192, 3, 2),
    "turbo": WhisperDimensions(128, 75, 128, 2, 4, 997, 448, 128, 2, 1),
}
# fmt: on


def random_arrays(dims: WhisperDimensions, seed: int = 0) -> dict[str, np.ndarray]:
    """A float32 array for each tensor of `dims`, scaled so that signals neither vanish nor blow up."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in expected_shapes(dims).items():
        values = rng.standard_normal(shape, np.float32)
        if name.endswith("_ln.weight") or (".ln" in name and name.endswith("weight")):
            arrays[name] = 1 + 0.1 * values
        elif name.endswith("weight") and len(shape) > 1:
            arrays[name] = values * np.float32(np.prod(shape[1:]) ** -0.5)
        else:
            arrays[name] = 0.1 * values
    return arrays


def checkpoint(dims: WhisperDimensions, arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    return Checkpoint(dims, dict(arrays), np.zeros((0, 2), np.int64), None, {}, {})


def random_mel(dims: WhisperDimensions, seed: int = 1) -> np.ndarray:
    """(n_mels, 2 * n_audio_ctx) in the range of real log-mel spectrograms."""
    values = np.random.default_rng(seed).uniform(-1, 1.5, (dims.n_mels, 2 * dims.n_audio_ctx))
    return values.astype(np.float32)


def random_tokens(dims: WhisperDimensions, n: int, seed: int = 2) -> list[int]:
    return np.random.default_rng(seed).integers(0, dims.n_vocab, n).tolist()


# A vocabulary and an audio context of real size, the rest as small as can be: a whole model for tests of whole runs.
EOT = 50257
TALKER = WhisperDimensions(80, 1500, 64, 1, 1, 51865, 448, 64, 1, 2)


def talker_arrays() -> dict[str, np.ndarray]:
    """Random weights that answer every sound with words of its own, of varying length."""
    arrays = random_arrays(TALKER, seed=3)
    arrays["decoder.token_embedding.weight"] *= 4  # scores that differ clearly, as those of a trained model do
    arrays["decoder.token_embedding.weight"][EOT] *= 1.1  # so that transcripts end now and then
    arrays["decoder.positional_embedding"] *= 8  # so that tokens do not repeat for ever
    for name in arrays:
        if "cross_attn.query.weight" in name or "cross_attn.out.weight" in name:
            arrays[name] *= 6  # so that what is heard decides, not the tokens before
    return arrays


def write_talker(folder: Path) -> Path:
    """A model folder with the talker's weights."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(talker_arrays(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(TALKER)))
    return folder


def random_speech(seconds: float, seed: int) -> np.ndarray:
    """Noise whose loudness and colour wander, so that no two chunks look alike: float32 (n_samples,)."""
    rng = np.random.default_rng(seed)
    n_samples = round(seconds * 16000)
    noise = rng.standard_normal(n_samples).astype(np.float32)
    loudness = np.repeat(rng.uniform(0, 0.3, n_samples // 1600 + 1), 1600)[:n_samples]
    tone = np.sin(np.cumsum(np.repeat(rng.uniform(0.05, 1.0, n_samples // 3200 + 1), 3200)[:n_samples]))
    return ((noise * 0.3 + tone) * loudness).astype(np.float32)


class EncodesOnce(MlxBackend):
    """Keeps what it encoded: a chunk is encoded by itself whatever the batch, and that takes most of the time here."""

    def _encode(self, audio, meter, features=None):
        self.kept = getattr(self, "kept", {})
        if id(audio) not in self.kept:
            self.kept[id(audio)] = audio, super()._encode(audio, meter, features)
        return self.kept[id(audio)][1]

"""Models for CTranslate2: folders in its own format as they are, any other checkpoint converted once.

A converted model is kept in the user's cache, under a name that follows from the files that it was made of.
"""

import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whisperx.backends.model_files import fingerprint
from whisperx.checkpoints import Checkpoint, load_checkpoint
from whisperx.checkpoints.ctranslate2 import generation_config
from whisperx.checkpoints.tensors import Array
from whisperx.checkpoints.weights import read_json
from whisperx.checkpoints.whisper import dequantize, sinusoids
from whisperx.errors import BackendError, CheckpointError
from whisperx.folders import complete_or_absent
from whisperx.tokenizer import Tokenizer, read_tokenizer

if TYPE_CHECKING:
    from ctranslate2.specs.whisper_spec import WhisperSpec

logger = logging.getLogger(__name__)

_LAYOUT = 1  # of what is written; a change makes everybody convert anew
_SIZES_FILE = "whisperx.json"  # what CTranslate2's own files do not tell
N_TEXT_CTX = 448  # of every published Whisper


@dataclass(frozen=True)
class ModelFolder:
    """A model as CTranslate2 reads it."""

    path: Path
    tokenizer: Tokenizer
    n_text_ctx: int


def is_ctranslate2_model(path: Path) -> bool:
    return (path / "model.bin").is_file() if path.is_dir() else path.name == "model.bin"


def model_folder(model: Path) -> ModelFolder:
    """A model, a folder or weights file, for CTranslate2, converted first where it must be.

    Raises CheckpointError for files that make no model, BackendError where a converted one cannot be kept.
    """
    folder = converted(model)
    settings = (folder / name for name in ("config.json", _SIZES_FILE))
    config, sizes = (read_json(path) if path.is_file() else {} for path in settings)
    tokenizer = read_tokenizer(folder, _n_tokens(folder), generation_config(config))
    return ModelFolder(folder, tokenizer, sizes.get("n_text_ctx", N_TEXT_CTX))


def converted(model: Path) -> Path:
    """The folder of a model in the format of CTranslate2: its own, or one in the cache.

    Raises as `model_folder`.
    """
    if is_ctranslate2_model(model):
        return model if model.is_dir() else model.parent
    name = model.name if model.is_dir() else model.stem
    digest = hashlib.sha256(repr((_LAYOUT, fingerprint(model))).encode()).hexdigest()[:16]
    folder = cache_folder() / f"{name}-{digest}"
    if not folder.is_dir():
        _convert(model, folder)
    return folder


def cache_folder() -> Path:
    """Where converted models are kept. Whatever is deleted there is made anew when it is wanted."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisperx" / "ctranslate2"


def _n_tokens(folder: Path) -> int:
    for name in ("vocabulary.json", "vocabulary.txt"):
        path = folder / name
        if path.is_file():
            try:
                text = path.read_bytes().decode("utf-8")  # lines end with "\n" alone
                return len(json.loads(text)) if path.suffix == ".json" else len(text.removesuffix("\n").split("\n"))
            except (ValueError, TypeError, RecursionError) as error:
                raise CheckpointError(f"{path} is broken ({error}); download the model again") from error
    raise CheckpointError(f"{folder} lacks vocabulary.json or vocabulary.txt; download the model again")


def _convert(model: Path, folder: Path) -> None:
    checkpoint = load_checkpoint(model)
    beside = model if model.is_dir() else model.parent
    tokenizer = read_tokenizer(beside, checkpoint.dims.n_vocab, checkpoint.generation_config)
    spec = _spec(checkpoint, tokenizer)
    logger.info("converting %s for CTranslate2, into %s", model, folder)
    try:
        with complete_or_absent(folder) as new:
            spec.save(str(new))
            (new / _SIZES_FILE).write_text(json.dumps({"n_text_ctx": checkpoint.dims.n_text_ctx}), "utf-8")
            for name in ("tokenizer.json", "preprocessor_config.json"):  # with which other programs read it, too
                if (beside / name).is_file():
                    shutil.copy(beside / name, new)
    except OSError as error:
        if folder.is_dir():  # somebody else was faster, and made the same
            return
        raise BackendError(
            f"The model cannot be converted for CTranslate2 into {folder.parent} ({error.strerror}). Set "
            "XDG_CACHE_HOME to a folder with room for a copy of the model, or use --backend mlx."
        ) from error


def _spec(checkpoint: Checkpoint, tokenizer: Tokenizer) -> "WhisperSpec":
    """CTranslate2's description of a model, filled with the weights of a checkpoint."""
    with _torch_left_alone():
        from ctranslate2.specs.whisper_spec import WhisperSpec

    dims = checkpoint.dims
    weights = _Weights(checkpoint)
    spec = WhisperSpec(dims.n_audio_layer, dims.n_audio_head, dims.n_text_layer, dims.n_text_head)
    for conv in ("conv1", "conv2"):
        weights.fill_conv(getattr(spec.encoder, conv), f"encoder.{conv}")
    spec.encoder.position_encodings.encodings = weights.get(
        "encoder.positional_embedding", sinusoids(dims.n_audio_ctx, dims.n_audio_state)
    )
    weights.fill_norm(spec.encoder.layer_norm, "encoder.ln_post")
    spec.decoder.position_encodings.encodings = weights["decoder.positional_embedding"]
    weights.fill_norm(spec.decoder.layer_norm, "decoder.ln")
    spec.decoder.embeddings.weight = weights["decoder.token_embedding.weight"]
    spec.decoder.projection.weight = spec.decoder.embeddings.weight
    for part, layers in (("encoder", spec.encoder.layer), ("decoder", spec.decoder.layer)):
        for i, layer in enumerate(layers):
            _fill_layer(layer, f"{part}.blocks.{i}", weights, listens=part == "decoder")
    spec.register_vocabulary(_vocabulary(tokenizer, dims.n_vocab))
    spec.config.suppress_ids = sorted({*tokenizer.non_speech_tokens, *tokenizer.suppressed})
    spec.config.suppress_ids_begin = sorted({*tokenizer.encode(" "), tokenizer.eot, *tokenizer.suppressed_first})
    spec.config.lang_ids = sorted(tokenizer.language_tokens.values())
    spec.config.alignment_heads = checkpoint.alignment_heads.tolist()
    spec.validate()
    spec.decoder.projection.weight = "decoder/embeddings/weight"  # stored once
    return spec


@contextmanager
def _torch_left_alone() -> Iterator[None]:
    """CTranslate2's specs import PyTorch where it is installed; nothing here needs the seconds that takes."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        yield
    finally:
        del sys.modules["torch"]


def _fill_layer(layer: Any, prefix: str, weights: "_Weights", *, listens: bool) -> None:
    weights.fill_norm(layer.self_attention.layer_norm, f"{prefix}.attn_ln")
    weights.fill_linear(
        layer.self_attention.linear[0], *(f"{prefix}.attn.{name}" for name in ("query", "key", "value"))
    )
    weights.fill_linear(layer.self_attention.linear[1], f"{prefix}.attn.out")
    if listens:
        weights.fill_norm(layer.attention.layer_norm, f"{prefix}.cross_attn_ln")
        weights.fill_linear(layer.attention.linear[0], f"{prefix}.cross_attn.query")
        weights.fill_linear(layer.attention.linear[1], f"{prefix}.cross_attn.key", f"{prefix}.cross_attn.value")
        weights.fill_linear(layer.attention.linear[2], f"{prefix}.cross_attn.out")
    weights.fill_norm(layer.ffn.layer_norm, f"{prefix}.mlp_ln")
    weights.fill_linear(layer.ffn.linear_0, f"{prefix}.mlp1")
    weights.fill_linear(layer.ffn.linear_1, f"{prefix}.mlp2")


class _Weights:
    """The arrays of a checkpoint, expanded where they are packed, all in one floating-point type."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._arrays: Mapping[str, Array] = checkpoint.arrays
        self._packing = checkpoint.quantization
        is_half = checkpoint.arrays["decoder.token_embedding.weight"].dtype == np.float16
        self._dtype = np.float16 if is_half and self._packing is None else np.float32

    def __getitem__(self, name: str) -> Array:
        array = self._arrays[name]
        stem = name.removesuffix("weight")
        if self._packing is not None and f"{stem}scales" in self._arrays:
            scales, biases = self._arrays[f"{stem}scales"], self._arrays[f"{stem}biases"]
            array = dequantize(array, scales, biases, self._packing.group_size, self._packing.bits)
        return np.ascontiguousarray(array, self._dtype)

    def get(self, name: str, default: Array) -> Array:
        return self[name] if name in self._arrays else default.astype(self._dtype)

    def fill_norm(self, norm: Any, name: str) -> None:
        norm.gamma, norm.beta = self[f"{name}.weight"], self[f"{name}.bias"]

    def fill_conv(self, conv: Any, name: str) -> None:
        # (out, kernel, in) -> (out, in, kernel)
        conv.weight = np.ascontiguousarray(self[f"{name}.weight"].transpose(0, 2, 1))
        conv.bias = self[f"{name}.bias"]

    def fill_linear(self, linear: Any, *names: str) -> None:
        """One layer in place of several; those without a bias get one of zeros."""
        linear.weight = np.concatenate([self[f"{name}.weight"] for name in names])
        zeros = np.zeros(len(self._arrays[f"{names[0]}.weight"]), self._dtype)
        linear.bias = np.concatenate([self.get(f"{name}.bias", zeros) for name in names])


def _vocabulary(tokenizer: Tokenizer, n_vocab: int) -> list[str]:
    """The text of each token, byte by byte. CTranslate2 looks up the special ones, and the empty one of multilingual
    vocabularies, by which it knows them."""
    texts = {token: name for name, token in tokenizer.special.items()}
    for token in range(tokenizer.eot):
        texts[token] = tokenizer.encoding.decode_single_token_bytes(token).decode("latin-1")
    return [texts.get(token, f"<|{token}|>") for token in range(n_vocab)]

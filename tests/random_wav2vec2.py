"""wav2vec2 networks with random weights, the same on every machine, and folders as the Hub has them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from whisperx.models.wav2vec2 import STRIDES, Wav2Vec2Dimensions, expected_shapes

LABELS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]

_BASE = Wav2Vec2Dimensions(
    conv_dim=(32,) * 7,
    conv_kernel=(10, 3, 3, 3, 3, 2, 2),
    conv_stride=STRIDES,
    conv_bias=False,
    conv_norm="group",
    n_state=48,
    n_layer=2,
    n_head=3,
    n_intermediate=80,
    pos_kernel=16,
    pos_groups=4,
    stable_layer_norm=False,
    feature_norm=True,
    n_labels=len(LABELS),
)
# fmt: off
SMALL_WAV2VEC2 = {
    "base": _BASE,
    "large": replace(_BASE, conv_bias=True, conv_norm="layer", stable_layer_norm=True),
    "bare": replace(_BASE, feature_norm=False, pos_kernel=15),  # some HuBERT networks; an odd kernel
    "aligner": replace(
        _BASE, conv_dim=(24, 32, 40), conv_kernel=(40, 8, 2), conv_stride=(20, 8, 2), conv_bias=True, conv_norm="layer",
        stable_layer_norm=True,
    ),
}
# fmt: on


def random_wav2vec2(dims: Wav2Vec2Dimensions, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays by their names in Hugging Face's checkpoints, without the first part, in PyTorch's layout."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, shape in expected_shapes(dims).items():
        values = rng.standard_normal(shape, np.float32)
        if values.ndim > 1:
            arrays[name] = values * np.float32(np.prod(values.shape[1:]) ** -0.5)
        else:
            arrays[name] = 0.1 * values + np.float32("layer_norm.weight" in name)
    positions = "encoder.pos_conv_embed.conv.weight"
    direction = arrays.pop(positions)
    arrays[positions + "_g"] = rng.uniform(1, 2, (1, 1, dims.pos_kernel)).astype(np.float32)
    arrays[positions + "_v"] = direction
    return arrays


def settings_of(dims: Wav2Vec2Dimensions, model_type: str = "wav2vec2") -> dict[str, Any]:
    """config.json of such a network."""
    return {
        "model_type": model_type,
        "vocab_size": dims.n_labels,
        "hidden_size": dims.n_state,
        "num_hidden_layers": dims.n_layer,
        "num_attention_heads": dims.n_head,
        "intermediate_size": dims.n_intermediate,
        "feat_extract_norm": dims.conv_norm,
        "conv_dim": dims.conv_dim,
        "conv_stride": dims.conv_stride,
        "conv_kernel": dims.conv_kernel,
        "conv_bias": dims.conv_bias,
        "num_conv_pos_embeddings": dims.pos_kernel,
        "num_conv_pos_embedding_groups": dims.pos_groups,
        "do_stable_layer_norm": dims.stable_layer_norm,
        "feat_proj_layer_norm": dims.feature_norm,
        "layer_norm_eps": dims.epsilon,
    }


def write_wav2vec2(
    folder: Path,
    dims: Wav2Vec2Dimensions,
    *,
    arrays: dict[str, np.ndarray] | None = None,
    do_normalize: bool = False,
    **settings: Any,
) -> Path:
    """A model folder as the Hub has it."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = random_wav2vec2(dims) if arrays is None else arrays
    names = {name: name if name.startswith("lm_head") else f"wav2vec2.{name}" for name in arrays}
    save_file({names[name]: array for name, array in arrays.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(settings_of(dims) | settings))
    (folder / "vocab.json").write_text(json.dumps({label: i for i, label in enumerate(LABELS)}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": do_normalize}))
    return folder


def noise(n_samples: int, seed: int = 1) -> np.ndarray:
    """float32 (n_samples,), as loud as speech."""
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)

"""The reference implementations, built from our arrays."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import torch
import transformers
import whisper

from whisperx.checkpoints import WhisperDimensions
from whisperx.models.wav2vec2 import Wav2Vec2Dimensions


def openai_whisper(dims: WhisperDimensions, arrays: Mapping[str, np.ndarray]) -> whisper.Whisper:
    """openai-whisper's network with these arrays (names of `checkpoints.expected_shapes`), in float32 on the CPU."""
    model = whisper.Whisper(whisper.ModelDimensions(**asdict(dims)))
    state = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if ".conv" in name and tensor.ndim == 3:
            tensor = tensor.permute(0, 2, 1)
        state[name.replace("mlp1", "mlp.0").replace("mlp2", "mlp.2")] = tensor
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"encoder.positional_embedding"}, missing
    assert not unexpected, unexpected
    return model.eval()


_HF_PARTS = {
    "blocks": "layers",
    "attn": "self_attn",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn": "encoder_attn",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp_ln": "final_layer_norm",
    "mlp1": "fc1",
    "mlp2": "fc2",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "ln_post": "layer_norm",
    "ln": "layer_norm",
    "token_embedding": "embed_tokens",
    "positional_embedding": "embed_positions.weight",
}


def transformers_whisper(
    dims: WhisperDimensions, arrays: Mapping[str, np.ndarray]
) -> transformers.WhisperForConditionalGeneration:
    """transformers' network with these arrays, in float32 on the CPU."""
    config = transformers.WhisperConfig(
        vocab_size=dims.n_vocab,
        num_mel_bins=dims.n_mels,
        d_model=dims.n_audio_state,
        encoder_layers=dims.n_audio_layer,
        encoder_attention_heads=dims.n_audio_head,
        encoder_ffn_dim=4 * dims.n_audio_state,
        decoder_layers=dims.n_text_layer,
        decoder_attention_heads=dims.n_text_head,
        decoder_ffn_dim=4 * dims.n_text_state,
        max_source_positions=dims.n_audio_ctx,
        max_target_positions=dims.n_text_ctx,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        decoder_start_token_id=0,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    state = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if ".conv" in name and tensor.ndim == 3:
            tensor = tensor.permute(0, 2, 1)
        state["model." + ".".join(_HF_PARTS.get(part, part) for part in name.split("."))] = tensor
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"model.encoder.embed_positions.weight", "proj_out.weight"}, missing
    assert not unexpected, unexpected
    return model.eval()


def transformers_wav2vec2(
    dims: Wav2Vec2Dimensions, arrays: Mapping[str, np.ndarray], model_type: str
) -> transformers.PreTrainedModel:
    """transformers' network with these arrays (names of `random_wav2vec2`), in float32 on the CPU.

    model_type : wav2vec2 or hubert
    """
    from random_wav2vec2 import settings_of  # not on the path of benchmarks, which use the other references

    kinds = {
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2ForCTC),
        "hubert": (transformers.HubertConfig, transformers.HubertForCTC),
    }
    config, network = kinds[model_type]
    settings = {name: value for name, value in settings_of(dims).items() if name != "model_type"}
    model = network(config(**settings))
    # PyTorch 2 has other names for the two parts of a normalised weight.
    parts = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    state = {}
    for name, array in arrays.items():
        stem, _, last = name.rpartition(".")
        full = f"{stem}.{parts.get(last, last)}"
        state[full if stem == "lm_head" else f"{model_type}.{full}"] = torch.from_numpy(array)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert all("masked_spec_embed" in name for name in missing), missing
    assert all("feature_projection.layer_norm" in name for name in unexpected), unexpected
    return model.eval()

"""Small random Whispers in every container, written without the code under test and without PyTorch."""

import json
import struct
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from whisperx.checkpoints import WhisperDimensions, sinusoids

DIMS = WhisperDimensions(
    n_mels=8, n_audio_ctx=10, n_audio_state=64, n_audio_head=1, n_audio_layer=2,
    n_vocab=70, n_text_ctx=12, n_text_state=64, n_text_head=1, n_text_layer=3,
)  # fmt: skip

# Names in OpenAI's files -> in Hugging Face's, for what follows `encoder.` or `decoder.`
_HF_BLOCK = {
    "attn_ln": "self_attn_layer_norm", "attn.query": "self_attn.q_proj", "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj", "attn.out": "self_attn.out_proj",
    "cross_attn_ln": "encoder_attn_layer_norm", "cross_attn.query": "encoder_attn.q_proj",
    "cross_attn.key": "encoder_attn.k_proj", "cross_attn.value": "encoder_attn.v_proj",
    "cross_attn.out": "encoder_attn.out_proj", "mlp.0": "fc1", "mlp.2": "fc2", "mlp_ln": "final_layer_norm",
}  # fmt: skip


def openai_arrays(dims: WhisperDimensions = DIMS, dtype: str = "float16") -> dict[str, np.ndarray]:
    """Random weights under OpenAI's names and in PyTorch's layout, as `whisper.model.Whisper.state_dict()` has them."""
    rng = np.random.default_rng(7)
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, *shape: int) -> None:
        arrays[name] = rng.normal(size=shape).astype(dtype)

    def add_block(prefix: str, state: int, attentions: list[str]) -> None:
        for attention in attentions:
            for linear in ("query", "key", "value", "out"):
                add(f"{prefix}.{attention}.{linear}.weight", state, state)
                if linear != "key":
                    add(f"{prefix}.{attention}.{linear}.bias", state)
            add(f"{prefix}.{attention}_ln.weight", state)
            add(f"{prefix}.{attention}_ln.bias", state)
        for linear, n_out, n_in in (("mlp.0", 4 * state, state), ("mlp.2", state, 4 * state)):
            add(f"{prefix}.{linear}.weight", n_out, n_in)
            add(f"{prefix}.{linear}.bias", n_out)
        add(f"{prefix}.mlp_ln.weight", state)
        add(f"{prefix}.mlp_ln.bias", state)

    arrays["encoder.positional_embedding"] = sinusoids(dims.n_audio_ctx, dims.n_audio_state).astype(dtype)
    add("encoder.conv1.weight", dims.n_audio_state, dims.n_mels, 3)
    add("encoder.conv1.bias", dims.n_audio_state)
    add("encoder.conv2.weight", dims.n_audio_state, dims.n_audio_state, 3)
    add("encoder.conv2.bias", dims.n_audio_state)
    for layer in range(dims.n_audio_layer):
        add_block(f"encoder.blocks.{layer}", dims.n_audio_state, ["attn"])
    add("encoder.ln_post.weight", dims.n_audio_state)
    add("encoder.ln_post.bias", dims.n_audio_state)
    add("decoder.positional_embedding", dims.n_text_ctx, dims.n_text_state)
    add("decoder.token_embedding.weight", dims.n_vocab, dims.n_text_state)
    for layer in range(dims.n_text_layer):
        add_block(f"decoder.blocks.{layer}", dims.n_text_state, ["attn", "cross_attn"])
    add("decoder.ln.weight", dims.n_text_state)
    add("decoder.ln.bias", dims.n_text_state)
    return arrays


def expected_arrays(openai: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a checkpoint with these weights must load to."""
    return mlx_arrays({name: array for name, array in openai.items() if name != "encoder.positional_embedding"})


def mlx_arrays(openai: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, array in openai.items():
        if array.ndim == 3:
            array = np.ascontiguousarray(array.transpose(0, 2, 1))
        arrays[name.replace("mlp.0", "mlp1").replace("mlp.2", "mlp2")] = array
    return arrays


def hf_arrays(openai: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {_hf_name(name): array for name, array in openai.items()}


def _hf_name(name: str) -> str:
    part, rest = name.split(".", 1)
    if rest.startswith("blocks."):
        _, layer, rest = rest.split(".", 2)
        module, leaf = rest.rsplit(".", 1)
        return f"model.{part}.layers.{layer}.{_HF_BLOCK[module]}.{leaf}"
    module, _, leaf = rest.rpartition(".")
    renamed = {"ln_post": "layer_norm", "ln": "layer_norm", "token_embedding": "embed_tokens"}.get(module, module)
    return f"model.{part}." + ("embed_positions.weight" if rest == "positional_embedding" else f"{renamed}.{leaf}")


def mlx_config(dims: WhisperDimensions = DIMS) -> dict[str, object]:
    return {"model_type": "whisper", **asdict(dims)}


def hf_config(dims: WhisperDimensions = DIMS) -> dict[str, object]:
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "num_mel_bins": dims.n_mels,
        "max_source_positions": dims.n_audio_ctx,
        "d_model": dims.n_audio_state,
        "encoder_layers": dims.n_audio_layer,
        "encoder_attention_heads": dims.n_audio_head,
        "decoder_layers": dims.n_text_layer,
        "decoder_attention_heads": dims.n_text_head,
        "max_target_positions": dims.n_text_ctx,
        "vocab_size": dims.n_vocab,
        "tie_word_embeddings": True,
    }


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


def write_hf_folder(folder: Path, openai: dict[str, np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(hf_arrays(openai), folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", hf_config())
    return folder


# CTranslate2's `model.bin`

_CT2_TYPES = {np.dtype(name): i for i, name in enumerate(("float32", "int8", "int16", "int32", "float16"))}
_CT2_ATTENTION = {"attn": "self_attention", "cross_attn": "attention"}


def ctranslate2_variables(openai: dict[str, np.ndarray], dims: WhisperDimensions = DIMS) -> dict[str, Any]:
    """Weights under the names, and joined, as CTranslate2 has them."""
    variables: dict[str, Any] = {"decoder/projection/weight": "decoder/embeddings/weight"}

    def norm(theirs: str, ours: str) -> None:
        variables[f"{theirs}/gamma"], variables[f"{theirs}/beta"] = openai[f"{ours}.weight"], openai[f"{ours}.bias"]

    def linear(theirs: str, *ours: str) -> None:
        weights = [openai[f"{name}.weight"] for name in ours]
        nothing = np.zeros(len(weights[0]), weights[0].dtype)
        variables[f"{theirs}/weight"] = np.concatenate(weights)
        variables[f"{theirs}/bias"] = np.concatenate([openai.get(f"{name}.bias", nothing) for name in ours])

    for part, n_layers, n_heads in (
        ("encoder", dims.n_audio_layer, dims.n_audio_head),
        ("decoder", dims.n_text_layer, dims.n_text_head),
    ):
        variables[f"{part}/num_heads"] = np.array(n_heads, np.int16)
        variables[f"{part}/scale_embeddings"] = np.array(0, np.int8)
        variables[f"{part}/position_encodings/encodings"] = openai[f"{part}.positional_embedding"]
        norm(f"{part}/layer_norm", f"{part}.ln_post" if part == "encoder" else f"{part}.ln")
        for i in range(n_layers):
            theirs, ours = f"{part}/layer_{i}", f"{part}.blocks.{i}"
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln")
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.attn.{name}" for name in ("query", "key", "value")))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out")
            if part == "decoder":
                norm(f"{theirs}/attention/layer_norm", f"{ours}.cross_attn_ln")
                linear(f"{theirs}/attention/linear_0", f"{ours}.cross_attn.query")
                linear(f"{theirs}/attention/linear_1", f"{ours}.cross_attn.key", f"{ours}.cross_attn.value")
                linear(f"{theirs}/attention/linear_2", f"{ours}.cross_attn.out")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")
    for conv in ("conv1", "conv2"):
        for leaf in ("weight", "bias"):
            variables[f"encoder/{conv}/{leaf}"] = openai[f"encoder.{conv}.{leaf}"]
    variables["decoder/embeddings/weight"] = openai["decoder.token_embedding.weight"]
    return variables


def write_ctranslate2(path: Path, variables: dict[str, Any], version: int = 6, model: str = "WhisperSpec") -> None:
    """Variables that are a name instead of an array are that of another, which they are equal to."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    arrays = {name: value for name, value in variables.items() if not isinstance(value, str)}
    aliases = {name: value for name, value in variables.items() if isinstance(value, str)}
    content = struct.pack("<I", version) + string(model) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        content += string(name) + struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
        content += struct.pack("<BI", _CT2_TYPES[array.dtype], array.nbytes) + array.tobytes()
    content += struct.pack("<I", len(aliases)) + b"".join(string(a) + string(b) for a, b in aliases.items())
    path.write_bytes(content)


# PyTorch's files. Pickles are put together from opcodes, so that they can say what `pickle.dumps` would not.


@dataclass(frozen=True)
class Raw:
    """Opcodes to put into a pickle as they are."""

    opcodes: bytes


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its pickle describes it, truthfully or not."""

    key: str
    storage_type: str
    n_items: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    function: str = "torch._utils\n_rebuild_tensor_v2"

    def opcodes(self, legacy: bool) -> Raw:
        identity = ("storage", global_(f"torch\n{self.storage_type}"), self.key, "cpu", self.n_items)
        storage = Raw(opcodes((*identity, None) if legacy else identity) + b"Q")
        hooks = Raw(opcodes(global_("collections\nOrderedDict")) + b")R")
        arguments = (storage, self.offset, self.size, self.stride, False, hooks)
        return Raw(opcodes(global_(self.function)) + opcodes(arguments) + b"R")


def global_(name: str) -> Raw:
    return Raw(b"c" + name.encode() + b"\n")


def opcodes(value: object) -> bytes:
    match value:
        case Raw(code):
            return code
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(key) + opcodes(item) for key, item in value.items()) + b"u"
    raise TypeError(type(value))


def pickled(value: object) -> bytes:
    return b"\x80\x02" + opcodes(value) + b"."


def torch_zip(
    path: Path, program: bytes, storages: dict[str, bytes], folder: str = "archive", **members: bytes
) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/data.pkl", program)
        for name, content in {"byteorder": b"little", "version": b"3\n", **members}.items():
            archive.writestr(f"{folder}/{name}", content)
        for key, content in storages.items():
            archive.writestr(f"{folder}/data/{key}", content)


def torch_legacy(path: Path, program: bytes, storages: dict[str, bytes], n_items: dict[str, int]) -> None:
    preamble = pickled(Raw(b"\x8a\x0a" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little"))) + pickled(1001)
    system = pickled({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 8}})
    numbers = b"".join(struct.pack("<q", n_items[key]) + content for key, content in storages.items())
    path.write_bytes(preamble + system + program + pickled(list(storages)) + numbers)


def write_torch(
    path: Path, arrays: dict[str, np.ndarray], dims: dict[str, int] | None = None, legacy: bool = False
) -> None:
    """What `torch.save` of a state dict, or of OpenAI's `{"dims", "model_state_dict"}`, writes."""
    types = {"float16": "HalfStorage", "float32": "FloatStorage", "int64": "LongStorage"}
    state: dict[str, object] = {}
    storages, lengths = {}, {}
    for index, (name, array) in enumerate(arrays.items()):
        key = str(index)
        stride = tuple(step // array.itemsize for step in array.strides)
        tensor = StoredTensor(key, types[str(array.dtype)], array.size, 0, array.shape, stride)
        state[name] = tensor.opcodes(legacy)
        storages[key], lengths[key] = array.tobytes(), array.size
    root: dict[str, object] = state if dims is None else {"dims": dims, "model_state_dict": state}
    if legacy:
        torch_legacy(path, pickled(root), storages, lengths)
    else:
        torch_zip(path, pickled(root), storages)

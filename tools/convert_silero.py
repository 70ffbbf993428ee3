"""Write src/whisperx/assets/silero_vad_16k.safetensors from the ONNX file in the silero-vad wheel.

    pip download --no-deps silero-vad==6.2.3 && unzip silero_vad-6.2.3-py3-none-any.whl
    pip install onnx safetensors
    python tools/convert_silero.py silero_vad/data/silero_vad_16k_op15.onnx

The wheel's own silero_vad_16k.safetensors is not used: its weights are not those of the ONNX and TorchScript files
beside it but of another training, and on real speech a window may be speech for the one and none for the other.
"""

import sys
from pathlib import Path

import onnx
from onnx import numpy_helper
from safetensors.numpy import save_file

TARGET = Path(__file__).parents[1] / "src" / "whisperx" / "assets" / "silero_vad_16k.safetensors"
NAMES = {
    "model.stft.forward_basis_buffer": "stft_conv.weight",
    **{
        f"model.encoder.{n}.reparam_conv.{kind}": f"conv{n + 1}.{kind}" for n in range(4) for kind in ("weight", "bias")
    },
    **{
        f"model.decoder.rnn.{kind}_{side}": f"lstm_cell.{kind}_{side}"
        for kind in ("weight", "bias")
        for side in ("ih", "hh")
    },
    "model.decoder.decoder.2.weight": "final_conv.weight",
    "model.decoder.decoder.2.bias": "final_conv.bias",
}


def main(onnx_path: str) -> None:
    initializers = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(onnx_path).graph.initializer}
    save_file({name: initializers[onnx_name] for onnx_name, name in NAMES.items()}, TARGET)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, {len(NAMES)} tensors")


if __name__ == "__main__":
    main(sys.argv[1])

"""Which of MLX's devices a name means."""

import mlx.core as mx

from whisperx.errors import BackendError, OptionError


def find_device(name: str, index: int = 0) -> mx.Device:
    """The device called "auto", "cpu", "cuda", "cuda:1", "mps", "metal", "mlx" or "gpu".

    Raises OptionError for another name, BackendError for a GPU that MLX cannot use here.
    """
    kind, _, number = name.lower().partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps", "metal", "mlx", "gpu") or not (number or "0").isdecimal():
        raise OptionError(f"Unknown device: {name}; expected auto, cpu, cuda, cuda:N, mps or mlx.")
    if kind == "cpu":
        return mx.Device(mx.cpu)
    n_gpus, wanted = mx.device_count(mx.gpu), int(number) if number else index
    if kind in ("auto", "mlx") and not (n_gpus and wanted):
        return mx.default_device()
    if n_gpus == 0 or (kind in ("mps", "metal") and not mx.metal.is_available()):
        raise BackendError(
            f"MLX finds no device {name!r} here. Use --device cpu, or on Linux with an NVIDIA GPU: "
            "pip install 'whisperx-mlx[cuda13]' (or [cuda12])."
        )
    if wanted >= n_gpus:
        raise BackendError(f"MLX finds {n_gpus} of these devices here, counted from 0: there is no number {wanted}.")
    return mx.Device(mx.gpu, wanted)

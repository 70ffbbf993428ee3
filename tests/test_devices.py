import mlx.core as mx
import pytest

from whisperx.errors import BackendError, OptionError
from whisperx.models.devices import find_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes MLX believe in so many GPUs, Apple's or NVIDIA's."""

    def pretend(n_gpus: int, *, metal: bool = False) -> None:
        monkeypatch.setattr(mx, "device_count", lambda kind: n_gpus)
        monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
        monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu if n_gpus else mx.cpu))

    return pretend


@pytest.mark.parametrize(
    ("n_gpus", "metal", "name", "index", "expected"),
    [
        (0, False, "auto", 0, (mx.cpu, 0)),
        (0, False, "auto", 1, (mx.cpu, 0)),  # as with CTranslate2: without a GPU it does not matter which
        (0, False, "cpu", 1, (mx.cpu, 0)),
        (1, True, "auto", 0, (mx.gpu, 0)),
        (1, True, "MPS", 0, (mx.gpu, 0)),
        (1, True, "mlx", 0, (mx.gpu, 0)),
        (2, False, "auto", 1, (mx.gpu, 1)),
        (2, False, "cuda", 0, (mx.gpu, 0)),
        (2, False, "cuda", 1, (mx.gpu, 1)),
        (2, False, "cuda:1", 0, (mx.gpu, 1)),
        (2, False, "cuda:0", 1, (mx.gpu, 0)),
        (2, False, "cpu", 0, (mx.cpu, 0)),
    ],
)
def test_a_name_and_an_index_mean_a_device(machine, n_gpus, metal, name, index, expected):
    machine(n_gpus, metal=metal)
    assert find_device(name, index) == mx.Device(*expected)


@pytest.mark.parametrize(
    ("n_gpus", "name", "index", "error", "message"),
    [
        (0, "cuda", 0, BackendError, "MLX finds no device 'cuda' here. Use --device cpu"),
        (0, "mps", 0, BackendError, "MLX finds no device 'mps'"),
        (2, "mps", 0, BackendError, "MLX finds no device 'mps'"),
        (2, "cuda:2", 0, BackendError, "MLX finds 2 of these devices here, counted from 0: there is no number 2"),
        (2, "auto", 7, BackendError, "there is no number 7"),
        (2, "tpu", 0, OptionError, "Unknown device: tpu; expected auto"),
        (2, "cuda:x", 0, OptionError, "Unknown device: cuda:x"),
    ],
)
def test_a_device_that_is_not_there_is_an_error_that_says_so(machine, n_gpus, name, index, error, message):
    machine(n_gpus)
    with pytest.raises(error, match=message):
        find_device(name, index)

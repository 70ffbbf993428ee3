"""Arithmetic on the host: right, and the same bits wherever it happens."""

import math
from unittest import mock

import numpy as np
import pytest

from whisperx.models import ops
from whisperx.models.blas import loaded_mkl
from whisperx.models.host import MklMath, NumpyMath


@pytest.fixture(params=["numpy", "mkl"])
def host(request):
    if request.param == "numpy":
        return NumpyMath()
    library = loaded_mkl()
    if library is None:
        pytest.skip("MKL is not what MLX computes with here")
    return MklMath(library)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_products_of_rows_and_of_columns_and_of_parts_are_numpys(host, rng):
    a, b = rng.normal(size=(5, 70)).astype(np.float32), rng.normal(size=(9, 100)).astype(np.float32)
    out = np.zeros((5, 30), np.float32)
    host.multiply(a[:, 10:40], b[:, 20:50].T, out[:, 7:16])
    np.testing.assert_allclose(out[:, 7:16], a[:, 10:40] @ b[:, 20:50].T, atol=1e-5)
    assert not out[:, :7].any()
    assert not out[:, 16:].any()


@pytest.mark.parametrize(("n_in", "n_out"), [(64, 64), (384, 1366), (1536, 384), (50, 7)])
def test_a_row_of_a_tile_has_the_same_bits_at_any_place_and_address_and_beside_any_others(host, rng, n_in, n_out):
    a, b = rng.normal(size=(16, n_in)).astype(np.float32), rng.normal(size=(n_out, n_in)).astype(np.float32)
    laid_out = host.laid_out(b.T, 16)
    memory = np.empty(16 * n_in + 64, np.float32)

    def product(tile: np.ndarray, offset: int) -> np.ndarray:
        out, moved = np.full((16, n_out + 5), 7, np.float32), memory[offset : offset + tile.size].reshape(tile.shape)
        moved[:] = tile
        host.for_each(lambda _: host.multiply_laid_out(moved, laid_out, out[:, 2:-3]), [0])
        assert (out[:, [0, 1, -3, -2, -1]] == 7).all()
        return out[:, 2:-3]

    expected = product(a, 0)
    np.testing.assert_allclose(expected, a @ b.T, atol=1e-4)
    if isinstance(host, NumpyMath):
        return  # docs/cpu.md says which of its BLAS keep the bits
    for offset, shift in [(1, 0), (7, 3), (16, 15)]:
        others = rng.normal(size=a.shape).astype(np.float32)
        others[shift] = a[5]
        assert product(others, offset)[shift].tobytes() == expected[5].tobytes(), (offset, shift)


def test_a_single_row_is_a_matrix_too_whatever_numpy_says_of_the_next_one(host, rng):
    a, b = rng.normal(size=70).astype(np.float32), rng.normal(size=(50, 9)).astype(np.float32)
    row, out = np.lib.stride_tricks.sliding_window_view(a, 50)[::5][:1], np.empty((1, 9), np.float32)
    host.multiply(row, b, out)
    np.testing.assert_allclose(out, row @ b, atol=1e-5)


def test_exp_and_erf_are_right_to_float32s_rounding(host):
    x = np.linspace(-6, 6, 4001, dtype=np.float32)
    y = x.copy()
    host.exp(y)
    np.testing.assert_allclose(y, [math.exp(value) for value in x.astype(float)], rtol=3e-7)
    y = x.copy()
    host.erf(y)
    np.testing.assert_allclose(y, [math.erf(value) for value in x.astype(float)], atol=5e-7)


@pytest.mark.parametrize("function", ["exp", "erf"])
def test_a_number_has_the_same_result_at_any_address_and_beside_any_others(host, rng, function):
    x = rng.normal(size=500).astype(np.float32)
    expected = x.copy()
    getattr(host, function)(expected)
    memory = np.empty(600, np.float32)
    for offset, length in [(0, 500), (1, 500), (7, 333), (16, 17), (3, 1)]:
        y = memory[offset : offset + length]
        y[:] = x[:length]
        getattr(host, function)(y)
        assert y.tobytes() == expected[:length].tobytes(), (offset, length)


def test_all_pieces_are_worked_on_and_errors_come_out(host):
    done = []
    host.for_each(done.append, range(20))
    assert sorted(done) == list(range(20))
    with pytest.raises(ZeroDivisionError):
        host.for_each(lambda piece: 1 // piece, [1, 0])


def test_stacks_of_products_are_numpys(host, rng):
    a, b = rng.normal(size=(12, 5, 64)).astype(np.float32), rng.normal(size=(12, 300, 64)).astype(np.float32)
    there, back = np.empty((12, 5, 300), np.float32), np.empty((12, 5, 64), np.float32)
    host.multiply_stacks(a, b.swapaxes(1, 2), there)
    host.multiply_stacks(there, b, back)
    np.testing.assert_allclose(there, a @ b.swapaxes(1, 2), atol=1e-4)
    np.testing.assert_allclose(back, there @ b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n_heads", [1, 2, 6])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_a_chunk_attends_to_its_sound_with_the_same_bits_among_any_number_of_others(host, rng, n_heads, n_queries):
    q = rng.normal(size=(8, n_heads, n_queries, 64)).astype(np.float32)
    k, v = rng.normal(size=(2, 8, n_heads, 1500, 64)).astype(np.float32)
    with mock.patch.object(ops, "host_math", return_value=host):
        together = ops.attention(q, k, v)
        for first, last in [(0, 1), (3, 4), (0, 2), (2, 5), (0, 7)]:
            some = ops.attention(q[first:last], k[first:last], v[first:last])
            assert some.tobytes() == together[first:last].tobytes(), (first, last)
    scores = q @ k.swapaxes(2, 3) / 8
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(together, weights @ v / weights.sum(axis=-1, keepdims=True), atol=1e-5)

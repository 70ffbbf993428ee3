"""Matrix products, exp and erf on a CPU's cores, in NumPy arrays, for what MLX computes one element at a time there.

With MKL (see `blas`) its kernels do the work, several pieces at once on a core each. A piece is computed by one core in
one order, so results depend neither on the number of threads nor on where in memory an array lies. Without it NumPy
computes piece after piece, each on as many threads as its own BLAS likes, whose number may change the last bits.
"""

import ctypes
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from mmap import mmap
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from whisperx.models.blas import loaded_mkl

Floats = npt.NDArray[np.float32]

T = TypeVar("T")


class HostMath(Protocol):
    """float32 arrays throughout; a matrix has contiguous rows or contiguous columns."""

    def multiply(self, a: Floats, b: Floats, out: Floats, *, add: bool = False) -> None:
        """a (M, K) @ b (K, N) into out (M, N), or added to what is there."""

    def laid_out(self, b: Floats, n_rows: int) -> Any:
        """b (K, N) as `multiply_laid_out` wants it for an a of exactly `n_rows` rows; b itself or a copy."""

    def multiply_laid_out(self, a: Floats, b: Any, out: Floats) -> None:
        """a (M, K) @ b (K, N) into out (M, N), time and again with the same b."""

    def multiply_stacks(self, a: Floats, b: Floats, out: Floats) -> None:
        """a (N, M, K) @ b (N, K, L) into out (N, M, L): N products of one shape, the same number for the same bits."""

    def exp(self, x: Floats) -> None:
        """In place; x is contiguous."""

    def erf(self, x: Floats) -> None:
        """In place; x is contiguous."""

    def for_each(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        """`work(piece)` for all pieces, in any order."""


@cache
def host_math() -> HostMath:
    """The fastest there is in this process."""
    mkl = loaded_mkl()
    return NumpyMath() if mkl is None else MklMath(mkl)


def product(math: HostMath, a: Floats, b: Floats) -> Floats:
    """a (M, K) @ b (K, N), in an array of its own."""
    out = np.empty((len(a), b.shape[1]), np.float32)
    math.multiply(a, b, out)
    return out


# erfc(z) = t * (a1 + t * (a2 + ...)) * exp(-z^2) with t = 1 / (1 + p * z), z >= 0, to 1.5e-7
# (Abramowitz and Stegun 1964, 7.1.26).
_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


class NumpyMath:
    def multiply(self, a: Floats, b: Floats, out: Floats, *, add: bool = False) -> None:
        if add:
            out += a @ b
        else:
            np.matmul(a, b, out=out)

    def laid_out(self, b: Floats, n_rows: int) -> Any:
        return b

    def multiply_laid_out(self, a: Floats, b: Any, out: Floats) -> None:
        np.matmul(a, b, out=out)

    def multiply_stacks(self, a: Floats, b: Floats, out: Floats) -> None:
        np.matmul(a, b, out=out)

    def exp(self, x: Floats) -> None:
        np.exp(x, out=x)

    def erf(self, x: Floats) -> None:
        z = np.abs(x)
        t = 1 / (1 + np.float32(_P) * z)
        tail = np.full_like(t, _A[4])
        for coefficient in _A[3::-1]:
            tail *= t
            tail += np.float32(coefficient)
        tail *= t
        z *= z
        np.negative(z, out=z)
        tail *= np.exp(z, out=z)
        np.copysign(1 - tail, x, out=x)

    def for_each(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        for piece in pieces:
            work(piece)


_ROWS, _PLAIN, _TRANSPOSED, _PACKED, _SECOND_MATRIX = 101, 111, 112, 151, 162  # mkl_cblas.h
_SIZE = 4  # of a float32


class MklMath:
    """MKL's sgemm and vector mathematics, single-threaded in each of as many workers as MKL has threads."""

    _LOW_ACCURACY = 1  # mkl_vml_defines.h: VML_LA, at most 1 ulp; the same for every element of a vector

    def __init__(self, library: ctypes.CDLL) -> None:
        self._mkl = library
        number, pointer, single = ctypes.c_int, ctypes.c_void_p, ctypes.c_float
        sizes, matrix, stack = (number,) * 6, (pointer, number), (pointer, number, number)
        library.cblas_sgemm.argtypes = (*sizes, single, *matrix, *matrix, single, *matrix)
        library.cblas_sgemm.restype = None
        library.cblas_sgemm_batch_strided.argtypes = (*sizes, single, *stack, *stack, single, *stack, number)
        library.cblas_sgemm_batch_strided.restype = None
        library.cblas_sgemm_pack_get_size.argtypes = (number,) * 4
        library.cblas_sgemm_pack_get_size.restype = ctypes.c_size_t
        library.cblas_sgemm_pack.argtypes = (*sizes, single, *matrix, pointer)
        library.cblas_sgemm_pack.restype = None
        library.cblas_sgemm_compute.argtypes = (*sizes, *matrix, *matrix, single, *matrix)
        library.cblas_sgemm_compute.restype = None
        for function in (library.vmsExp, library.vmsErf):
            function.argtypes = (number, pointer, pointer, ctypes.c_int64)
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def multiply(self, a: Floats, b: Floats, out: Floats, *, add: bool = False) -> None:
        (m, n), k = out.shape, a.shape[1]
        (a_order, *a_place), (b_order, *b_place), (_, *place) = _matrix(a), _matrix(b), _matrix(out)
        self._mkl.cblas_sgemm(_ROWS, a_order, b_order, m, n, k, 1.0, *a_place, *b_place, float(add), *place)

    def laid_out(self, b: Floats, n_rows: int) -> Any:
        k, n = b.shape
        n_bytes = self._mkl.cblas_sgemm_pack_get_size(_SECOND_MATRIX, n_rows, n, k)
        # Several times as much as is written. What nobody touches of a mapping of its own takes no memory.
        packed = np.frombuffer(mmap(-1, n_bytes), np.uint8)
        order, *place = _matrix(b)
        self._mkl.cblas_sgemm_pack(_ROWS, _SECOND_MATRIX, order, n_rows, n, k, 1.0, *place, packed.ctypes.data)
        return packed

    def multiply_laid_out(self, a: Floats, b: Any, out: Floats) -> None:
        (m, n), k = out.shape, a.shape[1]
        (a_order, *a_place), (_, *place) = _matrix(a), _matrix(out)
        self._mkl.cblas_sgemm_compute(_ROWS, a_order, _PACKED, m, n, k, *a_place, b.ctypes.data, k, 0.0, *place)

    def multiply_stacks(self, a: Floats, b: Floats, out: Floats) -> None:
        (n_products, m, n), k = out.shape, a.shape[2]
        (a_order, *a_place), (b_order, *b_place), (_, *place) = (
            (*_matrix(x[0]), x.strides[0] // x.itemsize) for x in (a, b, out)
        )
        self._mkl.cblas_sgemm_batch_strided(
            _ROWS, a_order, b_order, m, n, k, 1.0, *a_place, *b_place, 0.0, *place, n_products
        )

    def exp(self, x: Floats) -> None:
        self._mkl.vmsExp(x.size, x.ctypes.data, x.ctypes.data, self._LOW_ACCURACY)

    def erf(self, x: Floats) -> None:
        self._mkl.vmsErf(x.size, x.ctypes.data, x.ctypes.data, self._LOW_ACCURACY)

    def for_each(self, work: Callable[[T], None], pieces: Iterable[T]) -> None:
        pieces = list(pieces)
        n_threads = self._mkl.MKL_Get_Max_Threads()
        left = iter(pieces)  # whoever is free takes the next

        def take_all() -> None:
            before = self._mkl.MKL_Set_Num_Threads_Local(1)
            try:
                for piece in left:
                    work(piece)
            finally:
                self._mkl.MKL_Set_Num_Threads_Local(before)

        n_helpers = min(n_threads, len(pieces)) - 1
        helpers = [self._pool(n_threads - 1).submit(take_all) for _ in range(n_helpers)]
        try:
            take_all()
        finally:
            for helper in helpers:
                if not helper.cancel():  # too late: it has begun
                    helper.result()

    def _pool(self, n_workers: int) -> ThreadPoolExecutor:
        if n_workers not in self._pools:
            self._pools[n_workers] = ThreadPoolExecutor(n_workers, "whisperx-host")
        return self._pools[n_workers]


def _matrix(x: Floats) -> tuple[int, int, int]:
    """Order, address, and how many elements it is from one row, or column, to the next.

    NumPy says anything of the way to the next row where there is but one; MKL wants no less than a row.
    """
    row, column = x.strides
    if column == _SIZE:
        return _PLAIN, x.ctypes.data, max(row // _SIZE, x.shape[1])
    return _TRANSPOSED, x.ctypes.data, max(column // _SIZE, row // _SIZE, x.shape[0])

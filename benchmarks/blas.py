"""How fast does a network's linear layer run on this CPU with each BLAS, and which of them can keep the promise?

    python -m benchmarks.blas

Each BLAS computes in a process of its own, as Whisper uses it (`models.ops.linear`): a sequence of 1500 rows for an
encoder, tiles of 8 or 16 rows for a decoder, x (M, K) times W (N, K), float32. Speed is the best of the repeats, since
whatever else the machine does can only add time.

Then, over layers of the widths of Whisper, with 1 and with 2 threads, whether the bits of a product stay the same:

    again    when x and W lie at other addresses (3,000 random alignments in all)
    tile n   when n rows are multiplied, of which one changes its place or the others change their values
    rows     when more rows follow the first ones, up to 64
    threads  with 2 threads as with 1

The promise of the same transcript for every batch size rests on `again` and on the tile that the decoder uses; `rows`
would make tiles needless. Other processors can be asked about too, as far as this one has their instructions:

    MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell python -m benchmarks.blas
"""

import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import numpy as np

from whisperx.models import blas
from whisperx.models.host import host_math
from whisperx.models.ops import linear

# (M, K, N), and whether the rows are a tile
TIMED = [(1500, 384, 384), (1500, 1280, 5120), (16, 384, 51865), (8, 384, 51865), (16, 384, 384), (16, 1280, 5120)]
WIDTHS = (128, 384, 768, 1280)  # the demo model's, tiny's, small's and large's
TILES = (8, 16)
KEPT = ("again", *(f"tile {n}" for n in TILES), "rows", "threads")
CANDIDATES: dict[str, dict[str, str]] = {
    "NumPy's": {"WHISPERX_MKL": "0"},
    "MKL": {},
    "MKL_CBWR=AUTO": {"MKL_CBWR": "AUTO"},
}

rng = np.random.default_rng(0)


def measure() -> None:
    """Print the figures of the BLAS that the environment chooses, as JSON."""
    speeds = {f"{m}x{k}x{n}": gflops(m, k, n) for m, k, n in TIMED}
    print(json.dumps({"blas": blas.blas_in_use(), "gflops": speeds, "same": invariance()}))


def normal(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)


def product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    out = np.empty((len(x), len(w)), np.float32)
    host_math().multiply(x, w.T, out)
    return out


def gflops(m: int, k: int, n: int) -> float:
    layer: Any = SimpleNamespace(weight=normal(n, k), bias=None)
    x, tile = normal(m, k), m if m <= max(TILES) else None
    best, end = float("inf"), time.perf_counter() + 1.5
    while time.perf_counter() < end:
        start = time.perf_counter()
        linear(layer, x, tile)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * m * k * n / best


def invariance() -> dict[str, bool]:
    weights = [normal(*shape) for d in WIDTHS for shape in ((d, d), (d, 4 * d), (4 * d, d))]  # (N, K)
    x = normal(16, 4 * WIDTHS[-1])
    same = dict.fromkeys(KEPT, True)
    products = []
    for threads in (1, 2):
        blas.set_blas_threads(threads)
        same["again"] &= stays_when_moved(normal(384, 384))
        for n in TILES:
            same[f"tile {n}"] &= all(tile_ignores_places(w, n) for w in weights)
        same["rows"] &= all(first_rows_stay(w) for w in weights)
        products.append([product(x[:, : w.shape[1]].copy(), w).tobytes() for w in weights])
    same["threads"] = products[0] == products[1]
    return same


def stays_when_moved(w: np.ndarray) -> bool:
    places = random.Random(0)  # noqa: S311
    x = normal(16, w.shape[1])

    def moved(array: np.ndarray) -> np.ndarray:
        offset = places.randrange(16)  # float32 numbers, in lines of 64 bytes
        room = np.empty(array.size + 16, np.float32)
        there = room[offset : offset + array.size].reshape(array.shape)
        there[:] = array
        return there

    return all_equal(product(moved(x), moved(w)) for _ in range(1500))


def tile_ignores_places(w: np.ndarray, n: int) -> bool:
    one, others = normal(1, w.shape[1]), normal(n, w.shape[1])
    tiles = [np.concatenate([others[:place], one, others[place + 1 :]]) for place in range(n)]
    tiles.append(np.concatenate([one, np.zeros_like(others[1:])]))
    return all_equal(product(tile, w)[place % n] for place, tile in enumerate(tiles))


def first_rows_stay(w: np.ndarray) -> bool:
    x = normal(64, w.shape[1])
    whole = product(x, w)
    return all(all_equal([whole[:m], product(x[:m], w)]) for m in (1, 2, 3, 5, 8, 15, 16, 24, 48))


def all_equal(arrays: Iterable[np.ndarray]) -> bool:
    """Bit by bit."""
    return len({array.tobytes() for array in arrays}) == 1


def main() -> None:
    results = {}
    print(f"{'':16} " + " ".join(f"{'x'.join(map(str, shape)):>14}" for shape in TIMED) + "   GFLOP/s")
    for name, environment in CANDIDATES.items():
        child = [sys.executable, "-m", "benchmarks.blas", "--measure"]
        output = subprocess.run(child, env=os.environ | environment, stdout=subprocess.PIPE, check=True).stdout
        result = results[name] = json.loads(output)
        speeds = " ".join(f"{speed:14.1f}" for speed in result["gflops"].values())
        print(f"{name:16} {speeds}   {result['blas']}", flush=True)
    print(f"\n{'the same bits':16} " + " ".join(f"{kept:>8}" for kept in KEPT))
    for name, result in results.items():
        print(f"{name:16} " + " ".join(f"{'yes' if result['same'][kept] else 'no':>8}" for kept in KEPT))
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "numpy": version("numpy")}
    print(json.dumps(machine | {"results": results}))


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--measure"] else main()

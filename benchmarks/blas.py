"""How fast does MLX multiply matrices on this CPU with each BLAS, and which of them can keep the promise?

    python benchmarks/blas.py [more libraries with the CBLAS interface]

Each BLAS computes in a process of its own, through MLX as Whisper uses it: x (M, K) @ W (K, N) in float32, and for the
vocabulary (N = 51865) x @ W.T of W (N, K). Speed is the best of the repeats, since whatever else the machine does can
only add time. `load ms` is what preloading adds to the first import.

Then, over layers of the widths of Whisper, with 1 and with 2 threads, whether the bits of a product stay the same:

    again    when x and W lie at other addresses (3,000 random alignments in all)
    tile n   when n rows are multiplied, of which one changes its place or the others change their values
    rows     when more rows follow the first ones, up to 64
    threads  with 2 threads as with 1

The promise of the same transcript for every batch size rests on `again` and on the tile that the decoder uses; `rows`
would make tiles needless. Other processors can be asked about too, as far as this one has their instructions:

    MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell python benchmarks/blas.py
"""

import ctypes
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

TIMED = [(1500, 384, 384), (1500, 1280, 5120), (16, 384, 51865), (8, 384, 51865), (16, 384, 384)]  # (M, K, N)
WIDTHS = (128, 384, 768, 1280)  # the demo model's, tiny's, small's and large's
TILES = (8, 16)
KEPT = ("again", *(f"tile {n}" for n in TILES), "rows", "threads")


def measure() -> None:
    """Print the figures of the BLAS that WHISPERX_BLAS chooses, as JSON."""
    start = time.perf_counter()
    from whisperx.models import blas  # first of all imports that load MLX

    load_ms = 1e3 * (time.perf_counter() - start)
    import mlx.core as mx

    mx.random.seed(0)
    speeds = {f"{m}x{k}x{n}": gflops(mx, m, k, n) for m, k, n in TIMED}
    print(json.dumps({"blas": blas.blas_in_use(), "load_ms": load_ms, "gflops": speeds, "same": invariance(mx, blas)}))


def gflops(mx, m: int, k: int, n: int) -> float:
    x = mx.random.normal((m, k))
    w = mx.random.normal((n, k)).T if n > 50000 else mx.random.normal((k, n))
    mx.eval(x, w)
    best, end = float("inf"), time.perf_counter() + 1.5
    while time.perf_counter() < end:
        start = time.perf_counter()
        mx.eval(x @ w)
        best = min(best, time.perf_counter() - start)
    return 2e-9 * m * k * n / best


def invariance(mx, blas) -> dict[str, bool]:
    layers = [shape for d in WIDTHS for shape in ((d, d), (4 * d, d), (d, 4 * d))]  # (K, N)
    weights = [mx.random.normal(shape) for shape in layers]
    x = mx.random.normal((16, 4 * WIDTHS[-1]))
    same = dict.fromkeys(KEPT, True)
    products = []
    one_thread = "bundled" in blas.blas_in_use()
    for threads in (0,) if one_thread else (1, 2):
        blas.set_blas_threads(threads)
        same["again"] &= stays_when_moved(mx, mx.random.normal((384, 384)))
        for n in TILES:
            same[f"tile {n}"] &= all(tile_ignores_places(mx, w, n) for w in weights)
        same["rows"] &= all(first_rows_stay(mx, w) for w in weights)
        products.append([bytes(memoryview(x[:, : len(w)] @ w)) for w in weights])
    same["threads"] = all(product == products[0] for product in products)
    return same


def stays_when_moved(mx, w) -> bool:
    rng = random.Random(0)  # noqa: S311
    x = mx.random.normal((16, len(w)))

    def moved(array):
        offset = rng.randrange(16)  # float32 numbers, in lines of 64 bytes
        return mx.concatenate([mx.zeros(offset), array.reshape(-1)])[offset:].reshape(array.shape)

    return all_equal(moved(x) @ moved(w) for _ in range(1500))


def tile_ignores_places(mx, w, n: int) -> bool:
    one, others = mx.random.normal((1, len(w))), mx.random.normal((n, len(w)))
    tiles = [mx.concatenate([others[:place], one, others[place + 1 :]]) for place in range(n)]
    tiles.append(mx.concatenate([one, mx.zeros((n - 1, len(w)))]))
    return all_equal((tile @ w)[place % n] for place, tile in enumerate(tiles))


def first_rows_stay(mx, w) -> bool:
    x = mx.random.normal((64, len(w)))
    product = x @ w
    return all(all_equal([product[:m], x[:m] @ w]) for m in (1, 2, 3, 5, 8, 15, 16, 24, 48))


def all_equal(arrays) -> bool:
    """Bit by bit."""
    return len({bytes(memoryview(array)) for array in arrays}) == 1


def candidates() -> Iterator[tuple[str, dict[str, str]]]:
    """Names and environments."""
    yield "bundled", {"WHISPERX_BLAS": "0"}
    yield "default", {}
    yield "MKL_CBWR=AUTO", {"MKL_CBWR": "AUTO"}
    for library in ("libopenblas.so.0", "libblis.so.4", *sys.argv[1:]):
        try:
            ctypes.CDLL(library)
        except OSError as error:
            print(f"no {library}: {error}")
        else:
            yield library, {"WHISPERX_BLAS": library}


def main() -> None:
    results = {}
    print(f"{'':16} load ms " + " ".join(f"{'x'.join(map(str, shape)):>14}" for shape in TIMED) + "   GFLOP/s")
    for name, environment in candidates():
        child = [sys.executable, __file__, "--measure"]
        output = subprocess.run(child, env=os.environ | environment, stdout=subprocess.PIPE, check=True).stdout
        result = results[name] = json.loads(output)
        speeds = " ".join(f"{speed:14.1f}" for speed in result["gflops"].values())
        print(f"{Path(name).name:16} {result['load_ms']:7.0f} {speeds}   {result['blas']}", flush=True)
    print(f"\n{'the same bits':16} " + " ".join(f"{kept:>8}" for kept in KEPT))
    for name, result in results.items():
        print(f"{Path(name).name:16} " + " ".join(f"{'yes' if result['same'][kept] else 'no':>8}" for kept in KEPT))
    machine = {"machine": platform.machine(), "cores": os.cpu_count(), "mlx": version("mlx")}
    print(json.dumps(machine | {"results": results}))


if __name__ == "__main__":
    measure() if sys.argv[1:] == ["--measure"] else main()

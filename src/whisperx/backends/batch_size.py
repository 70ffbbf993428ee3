"""The one rule for `--batch_size auto`, how much memory there is, and what to do when it runs out."""

import logging
import os
import re
import sys
from pathlib import Path

from whisperx.errors import BackendError

# A CPU is busy with a tile of 8 rows. The bound for a GPU is an estimate: `python -m benchmarks.batch` measures it.
_MOST_ON_CPU, _MOST_ON_GPU = 8, 32
_SHARE_OF_MEMORY = 0.25  # for the caches; the rest is for weights, the encoder, and everybody else

# How MLX says on Metal, CUDA and CPUs that an array does not fit, or a command's temporaries do not; and CTranslate2.
_OUT_OF_MEMORY = re.compile(
    "unable to allocate|attempting to allocate|resource limit|insufficient memory|out of memory|bad_alloc"
    "|failed to allocate|alloc_failed",
    re.IGNORECASE,
)

logger = logging.getLogger(__name__)


def batch_size_for(bytes_per_chunk: int, memory: int, *, is_cpu: bool) -> int:
    """How many chunks to decode at a time: as many as help, halved until their caches fit into a quarter of memory.

    bytes_per_chunk : of the caches that a chunk needs
    memory : bytes of the device, where nothing else has taken any yet
    """
    size = _MOST_ON_CPU if is_cpu else _MOST_ON_GPU
    while size > 1 and size * bytes_per_chunk > _SHARE_OF_MEMORY * memory:
        size //= 2
    return size


def fewer_chunks(n_chunks: int, error: Exception, device: str) -> int:
    """How many chunks to decode at a time after `error` with `n_chunks`, which a warning tells.

    Raises `error` again where it does not say that memory ran out, BackendError where there is nothing left to halve.
    """
    if not (isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error))):
        raise error
    if n_chunks == 1:
        raise BackendError(
            f"Not enough memory on {device} to decode one chunk at a time ({error}). Use a smaller model, or "
            "on a GPU compute_type int8."
        ) from error
    return halved(n_chunks)


def halved(n_chunks: int) -> int:
    """Half as many chunks, and a warning."""
    logger.warning(
        "Not enough memory to decode %d chunks at a time: going on with batch_size %d. The results are the same.",
        n_chunks,
        n_chunks // 2,
    )
    return n_chunks // 2


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take before Linux ends one; a huge number where that is not told.

    What the kernel holds available and, in a container, what its limit leaves; files that are kept in memory can go.
    """
    free = [sys.maxsize]
    if (proc / "meminfo").is_file():
        free.append(1024 * _numbers(proc / "meminfo").get("MemAvailable:", sys.maxsize))
    limit = (cgroup / "memory.max").read_text() if (cgroup / "memory.max").is_file() else "max"
    if limit.strip().isdecimal():
        kept_files = _numbers(cgroup / "memory.stat").get("inactive_file", 0)
        free.append(int(limit) - int((cgroup / "memory.current").read_text()) + kept_files)
    return min(free)


def _numbers(path: Path) -> dict[str, int]:
    """First words and second words of the lines of a file that tells one number in each."""
    words = (line.split() for line in path.read_text().splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}

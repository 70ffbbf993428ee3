"""The one rule for `--batch_size auto`."""

import os

# Beyond these, `python -m benchmarks.batch` shows next to nothing gained: a CPU is busy with a tile of rows, a GPU has
# enough to do.
_MOST_ON_CPU, _MOST_ON_GPU = 8, 32
_SHARE_OF_MEMORY = 0.25  # for the caches; the rest is for weights, the encoder, and everybody else


def batch_size_for(bytes_per_chunk: int, memory: int, *, is_cpu: bool) -> int:
    """How many chunks to decode at a time: as many as help, halved until their caches fit into a quarter of memory.

    bytes_per_chunk : of the caches that a chunk needs
    memory : bytes of the device, where nothing else has taken any yet
    """
    size = _MOST_ON_CPU if is_cpu else _MOST_ON_GPU
    while size > 1 and size * bytes_per_chunk > _SHARE_OF_MEMORY * memory:
        size //= 2
    return size


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

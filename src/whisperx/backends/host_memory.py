"""Memory that is freed on a Linux CPU: what CTranslate2 frees stays with the process, in huge pages.

That engine asks for tens of megabytes for each product and frees them after it. The C library fetches blocks of such a
size from the system every time and hands them back, and touching them anew, page by page, takes time.
"""

import ctypes
import sys
from functools import lru_cache

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MADV_HUGEPAGE = 14  # Linux's sys/mman.h
_HUGE_PAGE = 1 << 21

_FETCHED_EACH_TIME = 1 << 28  # blocks from this size on, such as hours of audio, are not kept
_IN_HUGE_PAGES = 1 << 30  # of the heap: what an encoder wants at a time; taken when it is touched, not before


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Once for the process, and where the C library is glibc. To be called before the engine starts its threads.

    Threads that start later share one arena, for the others cannot hold blocks so large.
    """
    libc = _glibc()
    if libc is None:
        return
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)  # never
    block = libc.malloc(_IN_HUGE_PAGES)
    if block:
        start = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(block + _IN_HUGE_PAGES - start), _MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(block))
    libc.mallopt(_M_MMAP_THRESHOLD, _FETCHED_EACH_TIME)


def give_back() -> None:
    """Return to the system what the C library keeps and nobody uses."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(ctypes.c_size_t(0))


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim")):
        return None  # another C library, as musl
    libc.malloc.restype = ctypes.c_void_p
    return libc

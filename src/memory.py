"""What the C library does with the memory that a training step frees."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> None:
    """Let this process keep what it frees, for its next step to use.

    By default glibc gives blocks of megabytes back to the system at every step, which then hands
    them out again zeroed, page by page: a fifth or more of a small network's step. What is kept is
    the most that was used at once, and the gaps in it. Without glibc there is nothing to do.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)  # no block is mapped by itself
        mallopt(_TRIM_THRESHOLD, -1)  # and the heap never shrinks

"""Memory for a training on the CPU: keep what was freed instead of giving it back after every step."""

from __future__ import annotations

import ctypes

# <malloc.h> of glibc.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_TOP_PAD_BYTES = 2**28


def keep_freed_memory() -> bool:
    """Let this process's malloc never use single mappings, nor give memory back; False where it is not glibc's.

    A step frees and takes the same tens of megabytes again and again, and each time the kernel would have to map and
    clear them: a fifth to a third of a step's time on two cores.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    wishes = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _TOP_PAD_BYTES))
    return all(mallopt(option, value) == 1 for option, value in wishes)

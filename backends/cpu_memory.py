"""The C library's heap below NumPy's arrays, and how the heap is kept as large as a step needs.

glibc gives free memory at the top of its heap back to the system. The next step then takes a page fault for each 4 kB.
There are two remedies. The first is to keep the topmost array of a step (`CpuDevice.hold`), for which the end of the
heap must be known. The second is to set glibc's thresholds, for the whole process and for good
(`CpuDevice.keep_memory`).

Source: malloc(3), mallopt(3), sbrk(2).
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_mallopt: Any = getattr(_libc, "mallopt", None)
_program_break: Any = getattr(_libc, "sbrk", None)
if _program_break:
    _program_break.argtypes, _program_break.restype = [ctypes.c_ssize_t], ctypes.c_size_t

KNOWN = bool(_program_break)  # whether the end of the heap is known
THRESHOLDS = {  # M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD; mallopt takes a C int
    -1: 2**31 - 1,
    -2: 2**26,
    -3: 2**30,
}


def end_of_heap() -> int:
    """The address just behind the heap; 0 if not known."""
    return int(_program_break(0)) if KNOWN else 0


def never_give_back() -> bool:
    """Set the thresholds, so that free memory stays with the process. Returns whether the C library has thresholds."""
    return _mallopt is not None and all(_mallopt(option, size) for option, size in THRESHOLDS.items())

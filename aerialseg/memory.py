"""What becomes of memory that was freed, back to the system or kept for the next who asks; how much a stage took."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Options of glibc's ``mallopt``, as ``malloc.h`` numbers them."""
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 2**28}
"""Nothing lies in mappings of its own, which go back at once; the heap grows in large pieces and never shrinks."""
_USUAL = {_MMAP_MAX: 2**16, _TRIM_THRESHOLD: 2**17, _TOP_PAD: 2**17}


def release_freed_memory() -> None:
    """Let glibc return free pages: its arenas, one a thread, keep them otherwise (measured by benchmarks/memory.py).

    Does nothing on other C libraries.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Memory that is freed meanwhile stays with the process, for the next allocation; afterwards it goes back.

    glibc gives large blocks back at once, and the system fills each new one with zeros, page by page. A training asks
    for the same blocks for every batch: on a CPU that took more than a quarter of the whole network's time
    (benchmarks/stride.py). Does nothing on other C libraries. Holds for the whole process.
    """
    _set(_KEPT)
    try:
        yield
    finally:
        _set(_USUAL)
        release_freed_memory()


def _set(options: Mapping[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        for option, value in options.items():
            mallopt(option, value)


def reset_peak() -> None:
    """Begin to count the highest memory anew. Does nothing where the system does not let one."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory that this process has had since it began or ``reset_peak``, 0 where the system does not tell."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    return 0

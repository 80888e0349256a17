"""Memory that a stage has freed goes back to the system before the next one asks for more; how much a stage took."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path


def release() -> None:
    """Let glibc return free pages: its arenas, one a thread, keep them otherwise (measured by benchmarks/memory.py).

    Does nothing on other C libraries.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


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

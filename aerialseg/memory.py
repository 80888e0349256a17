"""Memory that a stage has freed goes back to the system before the next one asks for more."""

from __future__ import annotations

import ctypes
import sys


def release() -> None:
    """Let glibc return free pages: its arenas, one a thread, keep them otherwise (measured by benchmarks/memory.py).

    Does nothing on other C libraries.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

"""Memory that a stage has freed goes back to the system before the next one asks for more."""

from __future__ import annotations

import ctypes
import gc
import sys


def release() -> None:
    """Collect garbage and let glibc return free pages: its arenas, one a thread, keep them otherwise.

    Measured by benchmarks/memory.py; does nothing beyond the collection on other C libraries.
    """
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)

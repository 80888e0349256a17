"""How the loops over pixels, edges and vertices are compiled."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import platformdirs
from numba import config, njit

from aerialseg._version import __version__

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """The function compiled by numba at its first call, without the interpreter's lock.

    The machine code is kept in `kernel_cache`. Where that cannot be written (a container without a home) it is compiled
    anew in each process.
    """
    others, config.CACHE_DIR = config.CACHE_DIR, str(kernel_cache())
    try:
        compiled: Function = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        compiled = njit(nogil=True)(function)
    finally:
        config.CACHE_DIR = others
    return compiled


def kernel_cache() -> Path:
    """Where machine code is kept: what NUMBA_CACHE_DIR says, otherwise in the user's cache folder.

    Each version has its own, for numba does not notice that a function which another one calls has changed.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    return (
        Path(given) if given else platformdirs.user_cache_path("aerialseg", appauthor=False) / "kernels" / __version__
    )

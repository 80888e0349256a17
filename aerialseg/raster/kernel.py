"""How the loops over pixels, edges and vertices are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """The function compiled by numba at its first call, without the interpreter's lock.

    The machine code is kept on disk beside the module or in the user's cache. Where neither place can be written (a
    read-only container without a home) it is compiled anew in each process.
    """
    try:
        compiled: Function = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        compiled = njit(nogil=True)(function)
    return compiled

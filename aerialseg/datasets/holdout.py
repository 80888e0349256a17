"""Which blocks of ground are held out: about the share that is wanted, and every class on both sides if it can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import UsageError

try:
    from aerialseg.datasets.splits import choose
except ModuleNotFoundError as error:
    if error.name != "PIL":
        raise
    raise UsageError("making data sets needs Pillow: pip install 'aerialseg[train]'") from error


def hold_out(pixels: NDArray[np.int64], share: float, seed: int) -> list[int]:
    """Numbers of the blocks to hold out, of at least two; pixels: (blocks, classes), none of the blocks empty.

    What the seeded search of splits.py finds by shares alone is changed block by block, as long as that brings a class
    that occurs in two blocks or more to the side that lacks it.
    """
    held = np.zeros(len(pixels), np.bool_)
    held[choose(pixels.sum(axis=1), pixels, share, seed)] = True
    total, needed = pixels.sum(axis=0), (pixels > 0).sum(axis=0) >= 2
    lacking = int(_lacking(pixels[held].sum(axis=0)[None], total, needed)[0])
    while lacking:
        moved = pixels[held].sum(axis=0) + np.where(held[:, None], -pixels, pixels)
        lacks, off = _lacking(moved, total, needed), np.abs(moved.sum(axis=1) / total.sum() - share)
        best = int(np.lexsort((off, lacks))[0])
        if lacks[best] >= lacking:
            break
        held[best], lacking = not held[best], int(lacks[best])
    return [int(at) for at in np.flatnonzero(held)]


def _lacking(held: NDArray[np.int64], total: NDArray[np.int64], needed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """How many classes are on one side only, for each row of pixels held out."""
    lacking: NDArray[np.int64] = (((held == 0) | (held == total)) & needed).sum(axis=1)
    return lacking

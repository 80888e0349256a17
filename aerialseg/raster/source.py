"""Reading boxes of the working grid: pixels as bytes, validity beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from aerialseg.raster.decode import DECODERS, NativeReader, Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.view import View

MAX_SOURCE_PX = 8_000_000
"""Source pixels that one step of resampling reads: what bounds its memory."""


class Source:
    """A raster open for reading through a `View`: one dataset handle, used by one thread. A context manager.

    Several Sources may read the same file in several threads at once.
    """

    def __init__(self, view: View, *, allow_remote: bool = False, decoders: int = DECODERS) -> None:
        self.view = view
        self._reader = NativeReader(view, allow_remote=allow_remote, decoders=decoders)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._reader.close()

    @property
    def lost_blocks(self) -> frozenset[Box]:
        """Tiles or strips (in source pixels) that could not be read so far, under ``on_read_error="nodata"``."""
        return frozenset(self._reader.lost)

    @property
    def lost_px(self) -> int:
        """Source pixels filled with nodata because of read errors; each tile or strip counts once."""
        return sum(block.area for block in self._reader.lost)

    def lost_in(self, box: Box) -> frozenset[Box]:
        """Those of `lost_blocks` that ``box`` (in working pixels) was, or would be, made of."""
        if not self._reader.lost:
            return frozenset()
        rows, cols = self.view.ratio
        spread = 2 if self.view.resampled else 0
        window = Box(
            math.floor(box.top * rows) - spread,
            math.floor(box.left * cols) - spread,
            math.ceil(box.bottom * rows) + spread,
            math.ceil(box.right * cols) + spread,
        )
        return frozenset(block for block in self._reader.lost if block & window)

    def read(self, box: Box) -> tuple[Pixels, Valid]:
        """Pixels (C, h, w) uint8 of ``box`` (in working pixels) and which of them are valid, (h, w) bool.

        The box may reach beyond the raster: there, as wherever pixels are invalid, pixels are 0. Any box gives the
        same values as the same part of a larger one. Raises InputError naming the window that cannot be read.
        """
        inner = box & Box(0, 0, *self.view.shape)
        if inner == box and box and not self.view.resampled:
            return self._reader.read(box)
        pixels = np.zeros((len(self.view.bands), *box.shape), np.uint8)
        valid = np.zeros(box.shape, np.bool_)
        for part in self._parts(inner) if inner else ():
            where = part.within(box)
            read = self._resample if self.view.resampled else self._reader.read
            pixels[(slice(None), *where)], valid[where] = read(part)
        return pixels, valid

    def _parts(self, box: Box) -> Iterator[Box]:
        """The box in pieces whose source windows are small; the box itself where nothing is resampled."""
        rows, cols = (side * ratio for side, ratio in zip(box.shape, self.view.ratio, strict=True))
        if not self.view.resampled or rows * cols <= MAX_SOURCE_PX or box.area == 1:
            yield box
            return
        by_rows = box.height > 1 and (rows > 1024 or box.width == 1 or not self._reader.tiled)
        for half in _halves(box, by_rows):
            yield from self._parts(half)

    def _resample(self, box: Box) -> tuple[Pixels, Valid]:
        from aerialseg.raster import resample  # numba takes half a second, and not every raster needs it

        weights = resample.plan(box, self.view.source_shape, self.view.shape)
        return resample.apply(weights, *self._reader.read(weights.window))


def _halves(box: Box, by_rows: bool) -> tuple[Box, Box]:
    if by_rows:
        middle = box.top + box.height // 2
        return Box(box.top, box.left, middle, box.right), Box(middle, box.left, box.bottom, box.right)
    middle = box.left + box.width // 2
    return Box(box.top, box.left, box.bottom, middle), Box(box.top, middle, box.bottom, box.right)

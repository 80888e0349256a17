"""Reading a raster of another coordinate system as if it lay on the working grid.

As `resample` does, for pixels that lie at an angle: a working pixel takes a linear blend of the four nearest centres,
or the mean of several of these where it is larger than the source's pixels. Invalid pixels weigh nothing; a working
pixel is valid where its centre lies on a valid one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.decode import NativeReader, Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.piece import Piece
from aerialseg.raster.warp import Floats, Warp

MAX_SOURCE_PX = 4_000_000
"""Source pixels that one step reads: what bounds its memory."""


def open_piece(piece: Piece, **options: Any) -> NativeReader:
    """A reader of the piece's own pixels or, where these are in another CRS, of the working pixels made of them."""
    return NativeReader(piece, **options) if piece.warp is None else WarpedReader(piece, piece.warp, **options)


class WarpedReader(NativeReader):
    """For one thread. ``lost``, ``block`` and ``tiled`` are the file's own."""

    def __init__(self, piece: Piece, warp: Warp, **options: Any) -> None:
        super().__init__(replace(piece, warp=None, shape=warp.source.shape), **options)
        self._warp, self._place = warp, piece.box

    def read(self, window: Box) -> tuple[Pixels, Valid]:
        """Bytes (C, h, w), 0 where invalid, and validity (h, w) of a window of the piece's working pixels."""
        pixels = np.zeros((len(self.piece.bands), *window.shape), np.uint8)
        valid = np.zeros(window.shape, np.bool_)
        self._fill(window, window, pixels, valid)
        return pixels, valid

    def _fill(self, box: Box, window: Box, pixels: Pixels, valid: Valid) -> None:
        place = box.placed_in(self._place)
        rows, cols = self._warp.positions(place)
        seen = self._seen(rows, cols)
        if not seen:
            return
        if seen.area > MAX_SOURCE_PX and box.area > 1:
            for half in _halves(box):
                self._fill(half, window, pixels, valid)
            return
        found = _Samples(*super().read(seen), seen)
        steps = self._warp.steps
        for down in range(steps):
            for right in range(steps):
                one = (down + 0.5) / steps, (right + 0.5) / steps
                found.add(*((rows, cols) if steps == 1 else self._warp.positions(place, *one)))
        where = box.within(window)
        pixels[(slice(None), *where)], valid[where] = found.finish(found.valid_at(rows, cols))

    def _seen(self, rows: Floats, cols: Floats) -> Box:
        """The source pixels that working pixels with these centres may be made of."""
        there = np.isfinite(rows) & np.isfinite(cols)
        if not there.any():
            return Box(0, 0, 0, 0)
        margin = self._warp.steps + 2
        rows, cols = rows[there], cols[there]
        ends = (rows.min(), cols.min(), rows.max(), cols.max())
        top, left, bottom, right = (int(np.clip(end, -1e9, 1e9)) for end in ends)
        return Box(top, left, bottom, right).grow(margin) & self.raster


class _Samples:
    """Weighted sums of a window's pixels at positions in it."""

    def __init__(self, pixels: Pixels, valid: Valid, window: Box) -> None:
        around = ((1, 2), (1, 2))  # positions beyond the window are moved into these, where nothing is valid
        self._window, self._width = window, window.width + 3
        self._bands = np.pad(pixels, ((0, 0), *around)).reshape(len(pixels), -1)
        self._valid = np.pad(valid, around).ravel()
        self._sums: list[Floats] = []
        self._weight: Floats | None = None

    def add(self, rows: Floats, cols: Floats) -> None:
        """Blend the four pixels around each position."""
        (top, down), (left, right) = (
            _split(places - start - 0.5, length)
            for places, start, length in (
                (rows, self._window.top, self._window.height),
                (cols, self._window.left, self._window.width),
            )
        )
        at = (top + 1) * self._width + left + 1
        if self._weight is None:
            self._weight = np.zeros(rows.shape)
            self._sums = [np.zeros(rows.shape) for _ in self._bands]
        for offset, share in (
            (0, (1 - down) * (1 - right)),
            (1, (1 - down) * right),
            (self._width, down * (1 - right)),
            (self._width + 1, down * right),
        ):
            share *= self._valid[at + offset]
            self._weight += share
            for band, total in zip(self._bands, self._sums, strict=True):
                total += band[at + offset] * share

    def valid_at(self, rows: Floats, cols: Floats) -> Valid:
        """Whether each position lies on a valid pixel."""
        top, _ = _split(rows - self._window.top, self._window.height)
        left, _ = _split(cols - self._window.left, self._window.width)
        found: Valid = self._valid[(top + 1) * self._width + left + 1]
        return found

    def finish(self, wanted: Valid) -> tuple[Pixels, Valid]:
        """The blended pixels (C, h, w) where they are wanted, 0 elsewhere; and where they are."""
        assert self._weight is not None
        there = wanted & (self._weight > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            pixels = [np.where(there, np.rint(total / self._weight), 0).astype(np.uint8) for total in self._sums]
        return np.stack(pixels), there


def _split(places: Floats, length: int) -> tuple[NDArray[np.int64], Floats]:
    """Whole numbers and what is left of them, from -1 to ``length``."""
    inside = np.clip(np.nan_to_num(places, nan=-1.0), -1, length)
    whole = np.floor(inside)
    return whole.astype(np.int64), inside - whole


def _halves(box: Box) -> tuple[Box, Box]:
    if box.height >= box.width:
        middle = box.top + box.height // 2
        return Box(box.top, box.left, middle, box.right), Box(middle, box.left, box.bottom, box.right)
    middle = box.left + box.width // 2
    return Box(box.top, box.left, box.bottom, middle), Box(box.top, middle, box.bottom, box.right)

"""Reading boxes of the working grid: pixels as bytes, validity beside them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.collar import CollarMask, is_near
from aerialseg.raster.decode import DECODERS, NativeReader, Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.lattice import SourceSheet
from aerialseg.raster.piece import Piece, edges_of
from aerialseg.raster.view import View
from aerialseg.raster.warped import open_piece

MAX_SOURCE_PX = 8_000_000
"""Source pixels that one step of resampling reads: what bounds its memory."""

MAX_HANDLES = 4
"""Files of a mosaic that one thread holds open."""


Lost = tuple[str, Box]
"""A tile or strip that could not be read: its file, and its box in pixels of that."""


class Source:
    """Rasters open for reading through a `View`: handles for one thread, a few at a time. A context manager.

    Several Sources may read the same files in several threads at once.
    """

    def __init__(self, view: View, *, allow_remote: bool = False, decoders: int = DECODERS) -> None:
        self.view = view
        self._readers = _Readers(view.pieces, allow_remote, decoders)
        self._edges = edges_of(view.pieces)
        self._runs = _runs(view)
        self._collar = CollarMask(view.collar_mask) if view.collar_mask else None
        if len(view.pieces) == 1:
            self._readers.get(0)  # what is wrong with it is said at once

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._readers.close()
        if self._collar is not None:
            self._collar.close()

    @property
    def lost_blocks(self) -> frozenset[Lost]:
        """Tiles or strips that could not be read so far, under ``on_read_error="nodata"``."""
        return frozenset(
            (self.view.pieces[index].path, box) for index, boxes in self._readers.lost.items() for box in boxes
        )

    @property
    def lost_px(self) -> int:
        """Source pixels filled with nodata because of read errors; each tile or strip counts once."""
        return sum(box.area for _, box in self.lost_blocks)

    def lost_in(self, box: Box) -> frozenset[Lost]:
        """Those of `lost_blocks` that ``box`` (in working pixels) was, or would be, made of."""
        found = set()
        for index, boxes in self._readers.lost.items():
            piece = self.view.pieces[index]
            window = self.view.sheets[piece.sheet].window(_counted(self.view, box))
            meets = bool(window & piece.box) if piece.warp else None  # what is lost counts in pixels of another CRS
            window = window.relative_to(piece.box)
            found |= {(piece.path, lost) for lost in boxes if (lost & window if meets is None else meets)}
        return frozenset(found)

    def read(self, box: Box) -> tuple[Pixels, Valid]:
        """Pixels (C, h, w) uint8 of ``box`` (in working pixels) and which of them are valid, (h, w) bool.

        The box may reach beyond the raster: there, as wherever pixels are invalid, pixels are 0. Any box gives the
        same values as the same part of a larger one. Raises InputError naming the window that cannot be read.
        """
        laid = _Laid(len(self.view.bands), box)
        if inner := box & Box(0, 0, *self.view.shape):
            # A collar counts only where no file has anything else.
            for collar in (False, True) if self.view.collar else (True,):
                for run in self._runs:
                    if laid.whole:
                        break
                    for part in self._parts(inner, run.sheet):
                        laid.lay(part, *self._read_run(part, run, collar))
        pixels, valid = laid.finished()
        if self._collar is not None:
            valid &= ~self._collar.read(box)
            pixels *= valid
        return pixels, valid

    def _read_run(self, box: Box, run: _Run, collar: bool) -> tuple[Pixels, Valid]:
        """The box (in working pixels) of the pieces of a run; ``collar``: what may be one is valid."""
        if run.sheet.aligned:
            return self._compose(_counted(self.view, box), run.members, collar).finished()
        from aerialseg.raster import resample  # numba takes half a second, and not every raster needs it

        weights = resample.plan(_counted(self.view, box), run.sheet.rows, run.sheet.cols)
        window, centres = weights.window, np.ix_(*weights.centres)
        if next(self._meeting(window, run.members), None) is None:
            return _Laid(len(self.view.bands), box).finished()
        # Blended with other runs of the sheet, or there would be a seam between them; valid where it is this run's own.
        laid = self._compose(window, run.beside, collar, run.members)
        pixels, valid = resample.apply(weights, *laid.finished(), _covered(window, self._meeting(window, run.beside)))
        if len(run.members) < len(run.beside):
            valid &= (_covered(window, self._meeting(window, run.members)) & ~laid.strange)[centres]
        return pixels, valid

    def _compose(
        self, window: Box, members: NDArray[np.intp], collar: bool, own: NDArray[np.intp] | None = None
    ) -> _Laid:
        """The window of a sheet, where the first valid piece counts; all but ``own`` are strange."""
        laid = _Laid(len(self.view.bands), window)
        for index, part in self._meeting(window, members):
            if laid.whole:
                break
            pixels, valid = self._readers.get(index).read(part.relative_to(self.view.pieces[index].box))
            valid = valid if collar else valid & ~is_near(pixels, self.view.collar)
            laid.lay(part, pixels, valid, strange=own is not None and index not in own)
        return laid

    def _meeting(self, window: Box, members: NDArray[np.intp]) -> Iterator[tuple[int, Box]]:
        """The pieces that have pixels in the window, and the box of these."""
        top, left, bottom, right = self._edges[:, members]
        meets = (top < window.bottom) & (left < window.right) & (bottom > window.top) & (right > window.left)
        return ((int(index), window & self.view.pieces[index].box) for index in members[meets])

    def _parts(self, box: Box, sheet: SourceSheet) -> Iterator[Box]:
        """The box in pieces whose source windows are small; the box itself where nothing is resampled."""
        window = sheet.window(_counted(self.view, box))
        if sheet.aligned or window.area <= MAX_SOURCE_PX or box.area == 1:
            yield box
            return
        tiled = len(self.view.pieces) > 1 or self._readers.get(0).tiled
        by_rows = box.height > 1 and (window.height > 1024 or box.width == 1 or not tiled)
        for half in _halves(box, by_rows):
            yield from self._parts(half, sheet)


def _counted(view: View, box: Box) -> Box:
    """A box of the working grid, counted from the lattice's origin."""
    return box.placed_in(Box(view.top, view.left, view.top, view.left))


def _covered(window: Box, meeting: Iterator[tuple[int, Box]]) -> Valid:
    """Where any of these pieces has a pixel, valid or not."""
    covered = np.zeros(window.shape, np.bool_)
    for _, part in meeting:
        covered[part.within(window)] = True
    return covered


class _Readers:
    """One handle for each piece that was read of late; ``lost``: tiles of pieces that could not be read."""

    def __init__(self, pieces: Sequence[Piece], allow_remote: bool, decoders: int) -> None:
        self._pieces, self._allow_remote, self._decoders = pieces, allow_remote, decoders
        self._open: OrderedDict[int, NativeReader] = OrderedDict()
        self.lost: dict[int, set[Box]] = {}

    def get(self, index: int) -> NativeReader:
        reader = self._open.pop(index, None)
        if reader is None:
            if len(self._open) >= MAX_HANDLES:
                self._forget()
            reader = open_piece(self._pieces[index], allow_remote=self._allow_remote, decoders=self._decoders)
            reader.lost = self.lost.setdefault(index, reader.lost)
        self._open[index] = reader
        return reader

    def _forget(self) -> None:
        """Close the handle that was not asked for longest."""
        index, reader = self._open.popitem(last=False)
        reader.close()
        if not reader.lost:  # every page asks for what is lost: of ten thousand whole files nobody need look at one
            del self.lost[index]

    def close(self) -> None:
        while self._open:
            self._forget()


class _Laid:
    """A box that is filled from rasters, the first of which counts. strange: what was filled from those called so."""

    def __init__(self, bands: int, box: Box) -> None:
        self._box, self._bands = box, bands
        self._found: tuple[Pixels, Valid] | None = None
        self.strange = np.zeros(box.shape, np.bool_)
        self.whole = not box

    def lay(self, part: Box, pixels: Pixels, valid: Valid, *, strange: bool = False) -> None:
        """Fill what is not filled yet."""
        if strange:
            filled = self.finished()[1][part.within(self._box)]
            self.strange[part.within(self._box)] |= valid & ~filled
        if self._found is None and part == self._box:
            self._found = pixels, valid
        else:
            into, filled = self.finished()
            where = part.within(self._box)
            new = valid & ~filled[where]
            into[(slice(None), *where)] = np.where(new, pixels, into[(slice(None), *where)])
            filled[where] |= new
            self._found = into, filled
        self.whole = bool(self._found[1].all())

    def finished(self) -> tuple[Pixels, Valid]:
        if self._found is None:
            self._found = np.zeros((self._bands, *self._box.shape), np.uint8), np.zeros(self._box.shape, np.bool_)
        return self._found


@dataclass(frozen=True, slots=True)
class _Run:
    """Pieces (their numbers, in order) that count before those of the next run; beside: all of their sheet."""

    sheet: SourceSheet
    members: NDArray[np.intp]
    beside: NDArray[np.intp]


def _runs(view: View) -> list[_Run]:
    runs: dict[int, list[int]] = {}
    sheets: dict[int, list[int]] = {}
    for index, piece in enumerate(view.pieces):
        runs.setdefault(piece.run, []).append(index)
        sheets.setdefault(piece.sheet, []).append(index)
    numbers = ((run, view.pieces[run[0]].sheet) for _, run in sorted(runs.items()))
    return [_Run(view.sheets[sheet], np.array(run), np.array(sheets[sheet])) for run, sheet in numbers]


def _halves(box: Box, by_rows: bool) -> tuple[Box, Box]:
    if by_rows:
        middle = box.top + box.height // 2
        return Box(box.top, box.left, middle, box.right), Box(middle, box.left, box.bottom, box.right)
    middle = box.left + box.width // 2
    return Box(box.top, box.left, box.bottom, middle), Box(box.top, middle, box.bottom, box.right)

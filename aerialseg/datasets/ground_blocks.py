"""The ground cut into blocks, and each block into chips: what is held out is whole blocks, so no chip is on two sides.

Blocks are rectangles of one lattice in the coordinates of the CRS, the same for all orthophotos. A chip is a rectangle
of an orthophoto's own pixels that lies wholly inside a block, a pixel away from its border and further where pixels are
resampled, which looks at their neighbours. So chips of two blocks share no ground, whichever images they come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from aerialseg.raster.bounds import overlap
from aerialseg.raster.georef import Bounds, GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.view import View

MARGIN_PX = 1
"""Between a chip and the border of its block."""
ROUNDING_PX = 0.01
"""What floating-point numbers may lose of it."""


@dataclass(frozen=True, slots=True, order=True)
class GroundBlock:
    """A piece of ground: its row (counted down) and column in the lattice, and its bounds in the CRS."""

    row: int
    col: int
    bounds: Bounds

    @property
    def name(self) -> str:
        return f"r{self.row:03d}c{self.col:03d}"


@dataclass(frozen=True, slots=True)
class GroundLattice:
    """Blocks of ``side`` (x, y; in units of the CRS), counted from the upper left corner, ``origin``.

    chips: how many fit along (rows, columns) of a block.
    """

    origin: tuple[float, float]
    side: tuple[float, float]
    chips: tuple[int, int]

    def block(self, row: int, col: int) -> GroundBlock:
        (x, y), (width, height) = self.origin, self.side
        return GroundBlock(row, col, (x + col * width, y - (row + 1) * height, x + (col + 1) * width, y - row * height))

    def over(self, bounds: Bounds) -> Iterator[GroundBlock]:
        """The blocks that meet ``bounds``, row by row."""
        left, bottom, right, top = bounds
        (x, y), (width, height) = self.origin, self.side
        for row in range(math.floor((y - top) / height), math.ceil((y - bottom) / height)):
            for col in range(math.floor((left - x) / width), math.ceil((right - x) / width)):
                yield self.block(row, col)


@dataclass(frozen=True, slots=True)
class KeptGround:
    """What an earlier data set made of the ground: its lattice, and name of a block -> whether it is held out."""

    lattice: GroundLattice
    held_out: Mapping[str, bool]


def make_lattice(views: Sequence[View], size: tuple[int, int], chips: tuple[int, int]) -> GroundLattice:
    """The lattice whose blocks hold ``chips`` (rows, columns) of ``size`` (rows, columns) pixels of each view."""
    bounds = [_with_margin(view).bounds for view in views]
    origin = min(left for left, *_ in bounds), max(top for *_, top in bounds)
    sides = [_side(view, size, chips) for view in views]
    return GroundLattice(origin, (max(width for width, _ in sides), max(height for _, height in sides)), chips)


def _side(view: View, size: tuple[int, int], chips: tuple[int, int]) -> tuple[float, float]:
    spare = 2 * _margin(view) + 2  # its own pixels need not start or end where the block does
    rows, cols = size[0] * chips[0] + spare, size[1] * chips[1] + spare
    if view.geo.span(1, 0)[0] > view.geo.span(0, 1)[0]:  # turned by a right angle: rows of the image run along y
        rows, cols = size[0] * chips[1] + spare, size[1] * chips[0] + spare
    return view.geo.span(rows, cols)


def _with_margin(view: View) -> GeoGrid:
    return view.geo.part(Box(0, 0, *view.shape).grow(_margin(view)))


def _margin(view: View) -> int:
    """Pixels between chip and border: resampling looks half a source pixel further, on each side."""
    return MARGIN_PX + (math.ceil(1 / min(view.ratio)) if view.resampled else 0)


def cut_blocks(
    view: View, lattice: GroundLattice, size: tuple[int, int], within: Bounds
) -> Iterator[tuple[GroundBlock, list[Box]]]:
    """Each block that meets the view and ``within`` (in the CRS), and its chips that do, in working pixels.

    A chip may reach beyond the raster, but not beyond its block.
    """
    for block in lattice.over(view.geo.bounds):
        if overlap(block.bounds, within):
            boxes = [box for box in _chips(view, block, size) if overlap(view.geo.part(box).bounds, within)]
            if boxes:
                yield block, boxes


def _chips(view: View, block: GroundBlock, size: tuple[int, int]) -> Iterator[Box]:
    geo, margin = view.geo, _margin(view)
    x, y = geo.span(1, 1)
    slack = x * ROUNDING_PX, y * ROUNDING_PX
    raster = Box(0, 0, *view.shape)
    inner = _inside(geo, block.bounds, margin)
    for top in range(inner.top, inner.bottom - size[0] + 1, size[0]):
        for left in range(inner.left, inner.right - size[1] + 1, size[1]):
            box = Box(top, left, top + size[0], left + size[1])
            if box & raster and _holds(block.bounds, geo.part(box.grow(margin)).bounds, slack):
                yield box


def _inside(geo: GeoGrid, bounds: Bounds, margin: int) -> Box:
    """The pixels around a block's ground, less the margin: all inside unless the image is turned."""
    left, bottom, right, top = bounds
    places = [geo.to_pixels(x, y) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))]
    cols, rows = zip(*places, strict=True)
    first = math.ceil(min(rows) - ROUNDING_PX) + margin, math.ceil(min(cols) - ROUNDING_PX) + margin
    last = math.floor(max(rows) + ROUNDING_PX) - margin, math.floor(max(cols) + ROUNDING_PX) - margin
    return Box(*first, max(first[0], last[0]), max(first[1], last[1]))


def _holds(bounds: Bounds, others: Bounds, slack: tuple[float, float]) -> bool:
    x, y = slack
    return (
        bounds[0] - x <= others[0]
        and bounds[1] - y <= others[1]
        and others[2] <= bounds[2] + x
        and others[3] <= bounds[3] + y
    )


def chips_along(view: View, size: tuple[int, int], block_m: float) -> tuple[int, int]:
    """How many chips (rows, columns) come nearest to a block of ``block_m`` metres a side; at least one."""
    assert view.gsd_m is not None
    return max(1, round(block_m / (size[0] * view.gsd_m[1]))), max(1, round(block_m / (size[1] * view.gsd_m[0])))

"""Where rasters lie on one working grid, whose pixels are counted from the origin of the coordinate system.

Counted from a file's corner, the network's lattice would move with each tile that joins in the north or west, and maps
of neighbours would lie on grids of their own. Counted from the ground, the same ground has the same lattice whatever
else is in the run.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyproj

from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.resample import PixelAxis

EQUATOR_M = 6_378_137.0
"""Radius of the Earth there: how long an angle is."""

STEP = 1.02
"""Working pixels of one coordinate system differ by whole steps, so that neighbours, whose metres differ by the scale
of a map projection, share one."""

IDENTITY = PixelAxis(1, 1)


@dataclass(frozen=True, slots=True)
class SourceSheet:
    """A lattice of source pixels: where its rows and columns, counted from its origin, lie on the working grid."""

    rows: PixelAxis
    cols: PixelAxis

    @property
    def aligned(self) -> bool:
        """Whether its pixels are working pixels."""
        return self.rows.aligned and self.cols.aligned

    def window(self, box: Box) -> Box:
        """The pixels of the sheet that a box of working pixels may be made of."""
        if self.aligned:
            return box
        (top, bottom), (left, right) = self.rows.span(box.top, box.bottom), self.cols.span(box.left, box.right)
        return Box(top, left, bottom, right)

    def covered(self, box: Box) -> Box:
        """The working pixels whose centres lie on ``box``, in pixels of the sheet."""
        top, bottom = _covered(self.rows, box.top, box.bottom)
        left, right = _covered(self.cols, box.left, box.right)
        return Box(top, left, bottom, right)


def _covered(axis: PixelAxis, start: int, end: int) -> tuple[int, int]:
    half = axis.unit
    first = -((half - 2 * (axis.pixel * start + axis.offset)) // (2 * axis.unit))
    last = (2 * (axis.pixel * end + axis.offset) + half) // (2 * axis.unit)
    return first, max(first, last)


@dataclass(frozen=True, slots=True)
class Layout:
    """A working grid of many rasters. ``box``: its pixels, counted from the lattice's origin. ``places``: the sheet of
    each raster, and its box there. ``runs``: rasters of one run count before those of the next."""

    geo: GeoGrid
    box: Box
    sheets: tuple[SourceSheet, ...]
    places: tuple[tuple[int, Box], ...]
    runs: tuple[int, ...]


def is_anchored(geo: GeoGrid) -> bool:
    """Whether pixels are counted from the origin of the CRS: there is one, and north is up."""
    (a, b), (d, e) = geo.linear
    return geo.crs is not None and b == d == 0 and a > 0 > e


@dataclass(frozen=True, slots=True)
class Lattices:
    """The lattices that rasters have: which one each has, and its box there. ``main``: the one that most have."""

    kinds: tuple[_Lattice, ...]
    places: tuple[tuple[int, Box], ...]
    main: int

    @property
    def first(self) -> int:
        """The first raster of the main lattice."""
        return next(index for index, (number, _) in enumerate(self.places) if number == self.main)


def find_lattices(geos: Sequence[GeoGrid]) -> Lattices:
    """The lattices of rasters of one CRS; several rasters must be anchored."""
    kinds: list[_Lattice] = []
    places: list[tuple[int, Box]] = []
    for geo in geos:
        box = None
        for number, lattice in enumerate(kinds):
            if (box := lattice.box_of(geo)) is not None:
                places.append((number, box))
                break
        if box is None:
            kinds.append(_Lattice(geo))
            places.append((len(kinds) - 1, kinds[-1].box_of(geo) or Box(0, 0, *geo.shape)))
    main, _ = Counter(number for number, _ in places).most_common(1)[0]
    return Lattices(tuple(kinds), tuple(places), main)


def lay_out(geos: Sequence[GeoGrid], lattices: Lattices, pixel: tuple[float, float] | None) -> Layout:
    """The working grid of rasters, with pixels of the size ``pixel`` (x, y) in units of the CRS; None: the main
    lattice's own."""
    main = lattices.kinds[lattices.main]
    sheets = tuple(_sheet(lattice, main, pixel) for lattice in lattices.kinds)
    boxes = [sheets[number].covered(box) for number, box in lattices.places]
    whole = _around(boxes)
    pairs = zip(geos, lattices.places, strict=True)
    members = [(geo, box) for geo, (number, box) in pairs if number == lattices.main]
    runs = _runs([number for number, _ in lattices.places], boxes)
    return Layout(_geo(main, members, whole, pixel), whole, sheets, lattices.places, runs)


def with_aligned(layout: Layout, more: Mapping[int, Box]) -> Layout:
    """The layout with more rasters whose pixels are working pixels: the number of each among all, and its box."""
    sheets = layout.sheets
    aligned = next((number for number, sheet in enumerate(sheets) if sheet.aligned), len(sheets))
    if aligned == len(sheets):
        sheets += (SourceSheet(IDENTITY, IDENTITY),)
    others = iter(layout.places)
    count = len(layout.places) + len(more)
    places = tuple((aligned, more[number]) if number in more else next(others) for number in range(count))
    boxes = [sheets[number].covered(box) for number, box in places]
    whole = _around(boxes)
    geo = layout.geo if whole == layout.box else layout.geo.part(whole.relative_to(layout.box))
    return Layout(geo, whole, sheets, places, _runs([number for number, _ in places], boxes))


def _around(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )


def _runs(numbers: Sequence[int], boxes: Sequence[Box]) -> tuple[int, ...]:
    """In which run each raster counts: one of its sheet's, the last that no raster of another sheet, which comes after
    that run's first and before this one, lies over."""
    if len(set(numbers)) == 1:
        return (0,) * len(numbers)
    edges = np.array([(box.top, box.left, box.bottom, box.right) for box in boxes]).T
    sheets = np.array(numbers)
    runs: list[int] = []
    starts: list[int] = []
    last: dict[int, int] = {}
    for index, (number, box) in enumerate(zip(numbers, boxes, strict=True)):
        run = last.get(number)
        if run is not None:
            since = slice(starts[run], index)
            top, left, bottom, right = edges[:, since]
            over = (top <= box.bottom) & (left <= box.right) & (bottom >= box.top) & (right >= box.left)
            if (over & (sheets[since] != number)).any():
                run = None
        if run is None:
            run = last[number] = len(starts)
            starts.append(index)
        runs.append(run)
    return tuple(runs)


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The lattice of a raster. Its pixels count from the origin of the CRS, or from the raster's own corner."""

    geo: GeoGrid

    @property
    def place(self) -> tuple[float, float]:
        """(row, column) of the raster's corner, with what it is off by."""
        if not is_anchored(self.geo):
            return 0.0, 0.0
        (a, _), (_, e) = self.geo.linear
        x, y = self.geo.at(0.0, 0.0)
        return y / e, x / a

    @property
    def phase(self) -> tuple[float, float]:
        """How much farther than at whole pixels its edges lie, (rows, columns): -0.5 to 0.5."""
        row, col = self.place
        return row - round(row), col - round(col)

    def box_of(self, geo: GeoGrid) -> Box | None:
        """The box of another raster's pixels; None if it is not of this lattice."""
        offset = (0, 0) if geo is self.geo else self.geo.offset_of(geo)
        if offset is None:
            return None
        top, left = (round(start) + steps for start, steps in zip(self.place, offset, strict=True))
        return Box(top, left, top + geo.height, left + geo.width)


def _sheet(lattice: _Lattice, main: _Lattice, pixel: tuple[float, float] | None) -> SourceSheet:
    if pixel is None and lattice is main:
        return SourceSheet(IDENTITY, IDENTITY)
    (x, y), target = lattice.geo.resolution, pixel or main.geo.resolution
    rows, cols = y / target[1], x / target[0]
    # Where nothing is resampled, the working grid is off whole pixels by what its lattice is.
    shift = (main.phase[0] / rows, main.phase[1] / cols) if pixel is None else (0.0, 0.0)
    return SourceSheet(PixelAxis.of(rows, lattice.phase[0] - shift[0]), PixelAxis.of(cols, lattice.phase[1] - shift[1]))


def _geo(
    main: _Lattice, members: Sequence[tuple[GeoGrid, Box]], whole: Box, pixel: tuple[float, float] | None
) -> GeoGrid:
    (a, b), (d, e) = main.geo.linear
    if not is_anchored(main.geo):
        x, y = main.geo.resolution
        return main.geo.zoomed(*((1.0, 1.0) if pixel is None else (pixel[0] / x, pixel[1] / y)), whole.shape)
    if pixel is not None:
        a, e = pixel[0], -pixel[1]
        return GeoGrid(*whole.shape, (a, 0.0, whole.left * a, 0.0, e, whole.top * e), main.geo.crs)
    # The very numbers of a raster that begins there: a mosaic lies where its uncut whole did.
    x, y = main.geo.part(whole.relative_to(main.box_of(main.geo) or whole)).at(0.0, 0.0)
    x = next((geo.at(0.0, 0.0)[0] for geo, box in members if box.left == whole.left), x)
    y = next((geo.at(0.0, 0.0)[1] for geo, box in members if box.top == whole.top), y)
    return GeoGrid(*whole.shape, (a, b, x, d, e, y), main.geo.crs)


def working_pixel(geo: GeoGrid, own_m: tuple[float, float], target_m: float) -> tuple[float, float]:
    """Size (x, y), in units of the CRS, of working pixels of ``target_m`` metres where source pixels have ``own_m``.

    Of an anchored raster it is one of a few sizes, at most 1 % off (see `STEP`); exactly ``target_m`` where a unit of
    the CRS is a metre on the ground but for less than that.
    """
    sizes = [target_m * side / metres for side, metres in zip(geo.resolution, own_m, strict=True)]
    if not is_anchored(geo):
        return sizes[0], sizes[1]
    metres = _unit_m(geo.crs)
    steps = [round(math.log(size * metres / target_m, STEP)) for size in sizes]
    x, y = (float(f"{target_m / metres * STEP**step:.12g}") for step in steps)
    return x, y


@lru_cache(maxsize=64)
def _unit_m(crs: str | None) -> float:
    """Metres of a unit of the CRS, as if its projection kept all lengths; of an angle, at the equator."""
    system = pyproj.CRS.from_user_input(crs)
    factor = float(system.axis_info[0].unit_conversion_factor) if system.axis_info else 1.0
    return factor * EQUATOR_M if system.is_geographic else factor

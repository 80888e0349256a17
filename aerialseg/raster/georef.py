"""Where rasters lie: `GeoGrid` with all arithmetic of its affine transform."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from pyproj.exceptions import ProjError

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.grid import Box

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in the coordinates of some CRS."""

Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) of an affine transform: x = a * col + b * row + c, y = d * col + e * row + f."""

Coordinate = TypeVar("Coordinate", float, NDArray[np.float64])

ALIGNED_PX = 0.01
"""Grids of one lattice lie on whole pixels of each other, but for what floating-point numbers lose."""

ONE_PIXEL = (1.0, 1.0)
"""The size (x, y) of a pixel where nobody knows how many metres it is: lengths and areas are in pixels."""

MAX_COORDINATE = 1e15
"""No place on the Earth lies so far from any origin, in any unit."""

_SIDE_PIECES = 8
"""A straight side may be bent in longitude and latitude, so an outline has so many pieces along each."""

_NINE = np.mgrid[0:3, 0:3].reshape(2, 9) / 2  # shares of width and height, from corner to corner

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GeoGrid:
    """A raster's place on the ground: ``height`` x ``width`` pixels and where they lie.

    ``transform`` leads from (column, row) to (x, y) in units of ``crs`` (WKT; None where nobody knows it). Columns and
    rows count from the upper left corner of the raster: pixel (row, col) has its own upper left corner at (col, row)
    and its centre half a pixel further along both.
    """

    height: int
    width: int
    transform: Transform
    crs: str | None

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def affine(self) -> Affine:
        """The transform as rasterio takes it."""
        return Affine(*self.transform)

    @property
    def profile(self) -> dict[str, Any]:
        """What ``rasterio.open`` is to write of it: height, width, transform and crs."""
        return {"height": self.height, "width": self.width, "transform": self.affine, "crs": self.crs}

    @property
    def linear(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """The transform's matrix, ((a, b), (d, e)): what a step of one (column, row) is in (x, y)."""
        a, b, _, d, e, _ = self.transform
        return (a, b), (d, e)

    @property
    def determinant(self) -> float:
        """Area of a pixel in square units of the CRS; below 0 where rows and y run against each other, as north-up."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d

    @property
    def resolution(self) -> tuple[float, float]:
        """Size of a pixel in units of the CRS, along a step to the next column and to the next row."""
        a, b, _, d, e, _ = self.transform
        return math.hypot(a, d), math.hypot(b, e)

    @property
    def pixel_size_m(self) -> tuple[float, float] | None:
        """Metres on the ground along a step to the next column and to the next row.

        Measured along the ellipsoid at the raster's centre, so degrees, feet and Web Mercator come out right. None
        where the coordinate system is unknown, or has no known place on the Earth and no known unit.
        """
        return None if self.crs is None else _size_on_ground(self, self.crs)

    def at(self, col: Coordinate, row: Coordinate) -> tuple[Coordinate, Coordinate]:
        """(x, y) of a place (or of an array of them) counted in pixels from the upper left corner."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f

    def to_pixels(self, x: Coordinate, y: Coordinate) -> tuple[Coordinate, Coordinate]:
        """(column, row) of a place (or of an array of them), counted in pixels from the upper left corner."""
        a, b, c, d, e, f = self.transform
        area = a * e - b * d
        return (e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area

    def span(self, rows: float, cols: float) -> tuple[float, float]:
        """Width and height, in units of the CRS, of the upright rectangle around ``rows`` x ``cols`` pixels."""
        a, b, _, d, e, _ = self.transform
        return cols * abs(a) + rows * abs(b), cols * abs(d) + rows * abs(e)

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of the four corners, around the raster from the upper left one along the first row."""
        return tuple(self.at(col, row) for col, row in self._corner_pixels)

    @property
    def _corner_pixels(self) -> tuple[tuple[int, int], ...]:
        return (0, 0), (self.width, 0), (self.width, self.height), (0, self.height)

    @property
    def bounds(self) -> Bounds:
        """(left, bottom, right, top) of the upright rectangle around the raster, in units of the CRS."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def part(self, box: Box) -> GeoGrid:
        """The grid of the pixels of ``box``, which may reach beyond this one."""
        a, b, _, d, e, _ = self.transform
        x, y = self.at(box.left, box.top)
        return GeoGrid(box.height, box.width, (a, b, x, d, e, y), self.crs)

    def zoomed(self, right: float, down: float, shape: tuple[int, int]) -> GeoGrid:
        """``shape`` (rows, columns) pixels from the same corner, so many times as large along a row and a column."""
        a, b, c, d, e, f = self.transform
        return GeoGrid(*shape, (a * right, b * down, c, d * right, e * down, f), self.crs)

    def offset_of(self, other: GeoGrid) -> tuple[int, int] | None:
        """(rows, columns) from this grid's first pixel to the other's; None where both are not of one lattice."""
        if self.crs != other.crs:
            return None
        places = [self.to_pixels(x, y) for x, y in other.corners]
        col, row = places[0]
        away = [abs(col - round(col)), abs(row - round(row))]
        for (found_col, found_row), (cols, rows) in zip(places, other._corner_pixels, strict=True):
            away += [abs(found_col - col - cols), abs(found_row - row - rows)]
        return (round(row), round(col)) if max(away) < ALIGNED_PX else None

    def outline(self) -> list[tuple[float, float]]:
        """(x, y) around the raster from its upper left corner down the first column, eight places on each side."""
        first, *others = self._corner_pixels
        return [
            self.at(col + (to_col - col) * n / _SIDE_PIECES, row + (to_row - row) * n / _SIDE_PIECES)
            for (col, row), (to_col, to_row) in pairwise((first, *reversed(others), first))
            for n in range(_SIDE_PIECES)
        ]


@lru_cache(maxsize=64)
def _system(crs: str) -> pyproj.CRS:
    """Thousands of tiles have one CRS, and reading it takes longer than a tile's header. Raises ProjError."""
    return pyproj.CRS.from_user_input(crs)


@lru_cache(maxsize=64)
def _to_lonlat(crs: str) -> pyproj.Transformer | None:
    """To longitude and latitude on the datum of the CRS; None where it has none. Raises ProjError."""
    geographic = geographic_of(_system(crs))
    return None if geographic is None else pyproj.Transformer.from_crs(_system(crs), geographic, always_xy=True)


@lru_cache(maxsize=64)
def _geod(crs: str) -> pyproj.Geod | None:
    return _system(crs).get_geod()


def _size_on_ground(geo: GeoGrid, crs: str) -> tuple[float, float] | None:
    try:
        return _geodesic_size(geo, crs) or _planar_size(geo, _system(crs))
    except (ProjError, ValueError, AttributeError) as error:
        logger.debug("ground size of a pixel not found: %s", error)
        return None


def _geodesic_size(geo: GeoGrid, crs: str) -> tuple[float, float] | None:
    geod, to_lonlat = _geod(crs), _to_lonlat(crs)
    if geod is None or to_lonlat is None:
        return None
    col, row = geo.width / 2, geo.height / 2
    sizes = []
    for right, down in ((0.5, 0.0), (0.0, 0.5)):
        ends = geo.at(col - right, row - down), geo.at(col + right, row + down)
        (lon0, lat0), (lon1, lat1) = (to_lonlat.transform(*end) for end in ends)
        if not all(map(math.isfinite, (lon0, lat0, lon1, lat1))):
            return None
        sizes.append(float(geod.inv(lon0, lat0, lon1, lat1)[2]))
    return _if_positive(sizes[0], sizes[1])


def geographic_of(system: pyproj.CRS) -> pyproj.CRS | None:
    """Longitude and latitude on the datum of a CRS, also of one whose pole is rotated; None where it has none."""
    base = system.geodetic_crs
    while base is not None and base.is_derived and base.source_crs is not None:
        base = base.source_crs
    return base


def check_place(name: str, geo: GeoGrid) -> None:
    """Raise InputError where the transform of the raster of that name is no place: singular, not finite, or nowhere
    in the world of the CRS."""
    fault = _transform_fault(geo) or _place_fault(geo)
    if fault:
        raise InputError(
            f"{printable(name)} has the transform {tuple(float(f'{value:.6g}') for value in geo.transform)}, {fault}; "
            "correct it: gdal_edit.py -a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY"
        )


def _transform_fault(geo: GeoGrid) -> str | None:
    if not all(map(math.isfinite, (*geo.transform, *geo.bounds))):
        return "which is not finite"
    furthest, pixel = max(map(abs, geo.bounds)), min(geo.resolution)
    if furthest > MAX_COORDINATE:
        return f"by which coordinates reach {furthest:g}, farther than any place on the Earth"
    if not abs(geo.determinant) > 1e-9 * math.prod(geo.resolution):
        return "by which pixels have no area"
    if math.ulp(furthest) > pixel / 8:
        return f"by which pixels of {pixel:g} cannot be told apart at coordinates of {furthest:g}"
    return None


def _place_fault(geo: GeoGrid) -> str | None:
    """Whether none of nine places, from corner to corner, is one in the world of the CRS."""
    try:
        to_lonlat = _to_lonlat(geo.crs) if geo.crs else None
        if geo.crs is None or to_lonlat is None:
            return None
        lon, lat = to_lonlat.transform(*geo.at(geo.width / 2, geo.height / 2))
        if abs(lon) <= 540 and abs(lat) <= 90:
            return None
        x, y = geo.at(_NINE[0] * geo.width, _NINE[1] * geo.height)
        lon, lat = to_lonlat.transform(x, y)
    except ProjError as error:
        logger.debug("place of a raster not found: %s", error)
        return None
    if (np.isfinite(lon) & (np.abs(lon) <= 540) & (np.abs(lat) <= 90)).any():
        return None
    left, bottom, right, top = geo.bounds
    return (
        f"which is beyond the world of its coordinate system ({_system(geo.crs).name}): "
        f"x {left:.7g} to {right:.7g}, y {bottom:.7g} to {top:.7g}"
    )


def _planar_size(geo: GeoGrid, system: pyproj.CRS) -> tuple[float, float] | None:
    """From the unit of a projected or local system whose place on the Earth is not known."""
    if system.is_geographic or not system.axis_info:
        return None
    metres = system.axis_info[0].unit_conversion_factor
    x, y = geo.resolution
    return _if_positive(x * metres, y * metres)


def _if_positive(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y) else None


def lonlat_outline(geo: GeoGrid) -> list[tuple[float, float]] | None:
    """The raster's outline as a closed ring of (longitude, latitude) on WGS 84, counter-clockwise; None where the
    coordinate system is unknown or has no known place on the Earth."""
    if geo.crs is None:
        return None
    try:
        to_lonlat = pyproj.Transformer.from_crs(pyproj.CRS.from_user_input(geo.crs), "EPSG:4326", always_xy=True)
        ring = [to_lonlat.transform(x, y) for x, y in geo.outline()]
    except (ProjError, ValueError) as error:
        logger.debug("outline of a raster not found: %s", error)
        return None
    if not all(math.isfinite(lon) and math.isfinite(lat) for lon, lat in ring):
        return None
    turned = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise((*ring, ring[0])))
    ring = ring if turned > 0 else ring[::-1]
    return [(round(lon, 8), round(lat, 8)) for lon, lat in (*ring, ring[0])]


@dataclass(frozen=True)
class Georeferenced:
    """A file and its grid. In JSON the grid's fields stand among its own."""

    path: str
    geo: GeoGrid

    def to_json(self) -> dict[str, Any]:
        grid = {field.name: getattr(self.geo, field.name) for field in fields(GeoGrid)}
        return grid | {field.name: getattr(self, field.name) for field in fields(self) if field.name != "geo"}

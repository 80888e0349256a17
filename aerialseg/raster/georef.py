"""A patch of ground: pixels of some grid, and where they lie. What labels are brought onto."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import pyproj
from pyproj.exceptions import ProjError

from aerialseg.errors import InputError
from aerialseg.raster.grid import Box

Bounds = tuple[float, float, float, float]
"""(left, bottom, right, top) in the coordinates of some CRS."""


@dataclass(frozen=True, slots=True)
class Patch:
    """``height`` x ``width`` pixels; ``transform`` leads from (column, row) to coordinates of ``crs`` (WKT or None)."""

    transform: Transform
    crs: str | None
    height: int
    width: int

    def part(self, box: Box) -> Patch:
        """The pixels of ``box``, which may reach beyond the patch."""
        a, b, _, d, e, _ = self.transform
        x, y = self.at(box.left, box.top)
        return Patch((a, b, x, d, e, y), self.crs, box.height, box.width)

    def at(self, col: float, row: float) -> tuple[float, float]:
        """(x, y) of a place counted in pixels from the upper left corner."""
        a, b, c, d, e, f = self.transform
        return a * col + b * row + c, d * col + e * row + f

    def to_pixels(self, x: float, y: float) -> tuple[float, float]:
        """(column, row) of a place, counted in pixels from the upper left corner."""
        a, b, c, d, e, f = self.transform
        area = a * e - b * d
        return (e * (x - c) - b * (y - f)) / area, (a * (y - f) - d * (x - c)) / area

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """(x, y) of the four corners, around the patch."""
        places = ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))
        return tuple(self.at(col, row) for col, row in places)

    @property
    def bounds(self) -> Bounds:
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def same_crs(one: str | None, other: str | None) -> bool:
    """Whether coordinates of both mean the same place: also where neither is known."""
    if one is None or other is None or one == other:
        return one == other
    first, second = (pyproj.CRS.from_user_input(crs) for crs in (one, other))
    return bool(first.equals(second, ignore_axis_order=True))


def reproject_bounds(bounds: Bounds, source: str | None, target: str | None) -> Bounds | None:
    """The bounds in the other CRS; None where they have no place there. Both or neither must be known."""
    if same_crs(source, target):
        return bounds
    try:
        change = pyproj.Transformer.from_crs(source, target, always_xy=True)
        there: Bounds = change.transform_bounds(*bounds, densify_pts=21)
    except ProjError:
        return None
    return there if all(map(math.isfinite, there)) and there[0] <= there[2] else None


def overlap(one: Bounds, other: Bounds) -> bool:
    """Whether two bounds share more than an edge."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check_comparable(name: object, crs: str | None, other_name: object, other_crs: str | None) -> None:
    """Raise InputError where one of both says where on the Earth it is and the other does not."""
    if (crs is None) != (other_crs is None):
        lost, known = (name, other_name) if crs is None else (other_name, name)
        raise InputError(
            f"{lost} has no coordinate system (CRS) and {known} has one, so nobody knows how they lie on each other; "
            "assign it: gdal_edit.py -a_srs EPSG:CODE for a raster, ogr2ogr -a_srs EPSG:CODE for a layer"
        )


def check_overlap(name: object, patch: Patch, other_name: object, other_crs: str | None, other: Bounds) -> Bounds:
    """The bounds of the other one in the patch's CRS. Raises InputError, with both extents, where they do not meet."""
    check_comparable(name, patch.crs, other_name, other_crs)
    there = reproject_bounds(other, other_crs, patch.crs)
    if there is None or not overlap(there, patch.bounds):
        raise InputError(
            f"{name} ({_extent(patch.bounds)}) and {other_name} ({_extent(there or other)}) do not overlap: "
            "are both of one place, and are their coordinate systems right?"
        )
    return there


def _extent(bounds: Bounds) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.7g} to {right:.7g}, y {bottom:.7g} to {top:.7g}"


Transform = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) of an affine transform: x = a * col + b * row + c, y = d * col + e * row + f."""

logger = logging.getLogger(__name__)


def pixel_size_m(crs: str, transform: Transform, height: int, width: int) -> tuple[float, float] | None:
    """Metres on the ground along a row's step to the next column and along a column's step to the next row.

    Measured along the ellipsoid at the raster's centre, so degrees, feet and Web Mercator come out right. None where
    the coordinate system has no known place on the Earth and no known unit.
    """
    try:
        system = pyproj.CRS.from_wkt(crs)
        center = (width / 2, height / 2)
        return _geodesic(system, transform, center) or _by_unit(system, transform)
    except (ProjError, ValueError, AttributeError) as error:
        logger.debug("ground size of a pixel not found: %s", error)
        return None


def _geodesic(system: pyproj.CRS, transform: Transform, center: tuple[float, float]) -> tuple[float, float] | None:
    geod, geographic = system.get_geod(), system.geodetic_crs
    if geod is None or geographic is None:
        return None
    to_lonlat = pyproj.Transformer.from_crs(system, geographic, always_xy=True)
    sizes = []
    for step in ((0.5, 0.0), (0.0, 0.5)):
        ends = [_apply(transform, center[0] + sign * step[0], center[1] + sign * step[1]) for sign in (-1, 1)]
        (lon0, lat0), (lon1, lat1) = (to_lonlat.transform(*end) for end in ends)
        if not all(map(math.isfinite, (lon0, lat0, lon1, lat1))):
            return None
        sizes.append(float(geod.inv(lon0, lat0, lon1, lat1)[2]))
    return _if_positive(sizes[0], sizes[1])


def _by_unit(system: pyproj.CRS, transform: Transform) -> tuple[float, float] | None:
    """From the unit of a projected or local system whose place on the Earth is not known."""
    if system.is_geographic or not system.axis_info:
        return None
    metres = system.axis_info[0].unit_conversion_factor
    a, b, _, d, e, _ = transform
    return _if_positive(math.hypot(a, d) * metres, math.hypot(b, e) * metres)


def _if_positive(x: float, y: float) -> tuple[float, float] | None:
    return (x, y) if x > 0 and y > 0 and math.isfinite(x) and math.isfinite(y) else None


def _apply(transform: Transform, col: float, row: float) -> tuple[float, float]:
    a, b, c, d, e, f = transform
    return a * col + b * row + c, d * col + e * row + f


def lonlat_outline(
    crs: str, transform: Transform, height: int, width: int, steps: int = 8
) -> list[tuple[float, float]] | None:
    """The raster's outline as a closed ring of (longitude, latitude) on WGS 84, counter-clockwise; None where the
    coordinate system has no known place on the Earth. Each side has ``steps`` pieces, for it may be bent there."""
    down, right = [height * n / steps for n in range(steps)], [width * n / steps for n in range(steps)]
    corners = [
        *((0.0, row) for row in down),
        *((col, float(height)) for col in right),
        *((float(width), height - row) for row in down),
        *((width - col, 0.0) for col in right),
    ]
    try:
        to_lonlat = pyproj.Transformer.from_crs(pyproj.CRS.from_wkt(crs), "EPSG:4326", always_xy=True)
        ring = [to_lonlat.transform(*_apply(transform, col, row)) for col, row in corners]
    except (ProjError, ValueError) as error:
        logger.debug("outline of a raster not found: %s", error)
        return None
    if not all(math.isfinite(lon) and math.isfinite(lat) for lon, lat in ring):
        return None
    turned = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, [*ring[1:], ring[0]], strict=True))
    ring = ring if turned > 0 else ring[::-1]
    return [(round(lon, 8), round(lat, 8)) for lon, lat in [*ring, ring[0]]]

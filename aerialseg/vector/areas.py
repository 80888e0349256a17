"""Metres and square metres: how the outline and the area of a polygon are measured.

Where a CRS is not true to scale, a short step (dx, dy) is sqrt(E dx^2 + 2 F dx dy + G dy^2) metres long on the
ellipsoid, and a small area is sqrt(E G - F^2) times as large (Gauss's first fundamental form). These change smoothly,
so polynomials stand for them, fitted at Chebyshev's nodes over the raster. Lengths are integrals along the edges,
and so are areas (Green's theorem): no vertex is projected; poles and the antimeridian are not special.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.exceptions import ProjError

from aerialseg.raster.georef import ONE_PIXEL, GeoGrid, geographic_of
from aerialseg.vector.fields import Measures
from aerialseg.vector.polygons import Batch

TRUE_TO_SCALE = 0.001
"""A CRS is true to scale where areas (and lengths) are those on the ground, give or take this share."""

FITTED = 2e-4
"""How exact a polynomial is, as a share of the value, or of a hundredth of the largest value."""

_NODES = (3, 5, 9, 17, 33, 65)
"""Nodes along each side of the raster: as few as make a fit."""

_INSIDE = 0.999
"""Where the outermost nodes lie, from the centre (0) to the edge (1): beyond the edge there may be no world."""

_STEP_M = (10.0, 100.0)
"""Scale is measured over a 2000th of the raster's shorter side, and over no less and no more than this."""

_PIECE = 1 / 8
"""Edges are integrated in pieces of this share of half a side of the raster, each at Gauss's two points."""

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Measure = Callable[[Batch], tuple[Floats, Floats]]
"""From a batch of polygons to their areas in square metres and the lengths of all their rings in metres."""


def make_measure(
    geo: GeoGrid, double_areas: NDArray[np.int64] | Floats, pixel_m: tuple[float, float] | None = None
) -> Measure:
    """A function from a batch of polygons to (areas in square metres, perimeters in metres).

    Where the CRS is projected and true to scale all over the raster: pixels times the area of a pixel (exact), and
    lengths in the plane. Otherwise on the ellipsoid, or NaN where a part of the raster is beyond the world of its CRS.
    Without CRS: by ``pixel_m`` (x, y), the size of a pixel in metres; in pixels where that is not known either.
    """
    areas: Floats = np.asarray(double_areas, np.float64)
    if geo.crs is None:
        sizes = pixel_m or ONE_PIXEL
        area = sizes[0] * sizes[1] / 2.0
        return lambda batch: (areas[batch.regions] * area, _lengths_by_pixels(batch, geo, sizes))
    system = CRS.from_user_input(geo.crs)
    unit, pixel = _metres_per_unit(system), abs(geo.determinant) / 2.0
    survey = _survey(system, geo)
    planar_areas, planar_lengths = (True, True) if survey is None else survey.true_to_scale()
    ground = None if survey is None or (planar_areas and planar_lengths) else survey.ground()

    def measure(batch: Batch) -> tuple[Floats, Floats]:
        found = ground.measure(batch) if ground else (np.full(len(batch.regions), np.nan),) * 2
        return (
            areas[batch.regions] * (pixel * unit**2) if planar_areas else found[0],
            _lengths(batch) * unit if planar_lengths else found[1],
        )

    return measure


def describe_measures(geo: GeoGrid, pixel_m: tuple[float, float] | None = None) -> Measures:
    """What `make_measure` measures, and how QGIS measures a polygon that is changed there.

    As in the plane, where that is true to scale; otherwise areas on an equal-area projection of the whole Earth.
    """
    if geo.crs is None:
        x, y = pixel_m or ONE_PIXEL
        across, down = geo.resolution
        return Measures(pixel_m is not None, _in_plane(x * y / abs(geo.determinant), x / across, y / down))
    system = CRS.from_user_input(geo.crs)
    survey = _survey(system, geo)
    unit = _metres_per_unit(system)
    if survey is None or all(survey.true_to_scale()):
        return Measures(True, _in_plane(unit**2, unit, unit))
    area = "area(transform($geometry, layer_property(@layer_id, 'crs'), 'EPSG:6933'))"
    return Measures(True, {"area_m2": area, "perimeter_m": "$perimeter"})


def _in_plane(area: float, across: float, down: float) -> dict[str, str]:
    found = {"area_m2": f"area($geometry) * {area:.12g}"}
    if math.isclose(across, down, rel_tol=TRUE_TO_SCALE):
        found["perimeter_m"] = f"perimeter($geometry) * {across:.12g}"
    return found


@dataclass(frozen=True)
class _Frame:
    """Places of a raster as (u, v): -1 to 1 from its first to its last column, and from row to row."""

    geo: GeoGrid
    first_row: float
    last_row: float

    @property
    def steps(self) -> Floats:
        """(x, y) of a step of 1 along u, and of one along v: the columns of a matrix."""
        return np.array(self.geo.linear) * [self.geo.width / 2, (self.last_row - self.first_row) / 2]

    @property
    def centre(self) -> Floats:
        return np.array(self.geo.at(self.geo.width / 2, (self.first_row + self.last_row) / 2))

    def xy(self, u: Floats, v: Floats) -> Floats:
        """(2, ...) coordinates."""
        return np.tensordot(self.steps, np.stack([u, v]), 1) + self.centre.reshape(2, *[1] * np.ndim(u))

    def uv(self, xy: Floats) -> Floats:
        """(N, 2) of coordinates (N, 2)."""
        return np.clip((xy - self.centre) @ np.linalg.inv(self.steps).T, -1, 1)


@dataclass(frozen=True)
class _Survey:
    """What the ellipsoid says of the scale at places of a raster. step: in units of the CRS, ``unit_m`` metres each."""

    frame: _Frame
    to_degrees: Transformer
    geod: Geod
    projected: bool
    unit_m: float
    step: float

    def sample(self, u: Floats, v: Floats) -> Floats:
        """(4, u, v): area scale, E, F, G at all pairs of ``u`` and ``v``, in metres by units of the CRS."""
        xy = self.frame.xy(*np.meshgrid(u, v, indexing="ij"))
        x2, y2, both = (self._squared(xy, np.array(way)) for way in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)))
        mixed = (both - x2 - y2) / 2
        return np.stack([np.sqrt(np.maximum(x2 * y2 - mixed**2, 0)), x2, mixed, y2])

    def _squared(self, xy: Floats, way: Floats) -> Floats:
        ends = [xy + side * self.step * way.reshape(2, 1, 1) for side in (-0.5, 0.5)]
        (lon0, lat0), (lon1, lat1) = (self.to_degrees.transform(*end) for end in ends)
        with np.errstate(invalid="ignore"):
            length: Floats = self.geod.inv(lon0, lat0, lon1, lat1)[2] / self.step
        return np.where(np.isfinite(length), length, np.nan) ** 2

    def true_to_scale(self) -> tuple[bool, bool]:
        """Whether areas, and whether lengths, are those of the plane: at 9 x 9 places from corner to corner."""
        area, x2, mixed, y2 = (part.ravel() / self.unit_m**2 for part in self.sample(_nodes(9), _nodes(9)))
        known = np.isfinite(area)
        if not self.projected or not known.any():
            return False, False
        spread = np.hypot((x2 - y2) / 2, mixed)
        squares = np.concatenate([(x2 + y2) / 2 - spread, (x2 + y2) / 2 + spread])
        areas, lengths = abs(area[known] - 1).max(), np.nanmax(abs(np.sqrt(squares) - 1))
        return bool(areas <= TRUE_TO_SCALE), bool(lengths <= TRUE_TO_SCALE)

    def ground(self) -> _Ground | None:
        """Polynomials of the scale; None, with a warning, where it is not known or not smooth all over the raster."""
        for count in _NODES:
            nodes, between = _nodes(count), _INSIDE * np.cos(np.pi * (np.arange(count - 1) + 0.5) / (count - 1))
            back = np.linalg.inv(chebyshev.chebvander(nodes, count - 1))
            fits = [_trimmed(back @ part @ back.T) for part in self.sample(nodes, nodes)]
            wanted = self.sample(between, between)
            found = np.stack([chebyshev.chebgrid2d(between, between, fit) for fit in fits])
            sizes = wanted[[0, 1, 0, 3]]
            if (abs(found - wanted) <= FITTED * (sizes + sizes.max(axis=(1, 2), keepdims=True) / 100)).all():
                across = np.asarray(chebyshev.chebint(fits[0]), np.float64)
                return _Ground(self.frame, across, tuple(fits[1:]))
        logger.warning(
            "areas and lengths are null: the raster reaches beyond the world of its coordinate system, or the scale of "
            "that one is not smooth; reproject it with gdalwarp -t_srs EPSG:CODE -dstalpha to have them"
        )
        return None


@dataclass(frozen=True)
class _Ground:
    """Scale as polynomials in (u, v). across: the area scale's integral along u. lengths: E, F and G."""

    frame: _Frame
    across: Floats
    lengths: tuple[Floats, ...]

    def measure(self, batch: Batch) -> tuple[Floats, Floats]:
        count = len(batch.polygons)
        if not count:
            return np.zeros(0), np.zeros(0)
        _, coordinates, (rings, polygons) = shapely.to_ragged_array(batch.polygons, include_z=False)
        places, starts = self.frame.uv(coordinates), rings[polygons]
        ways = np.diff(places, axis=0, append=places[-1:])
        ways[rings[1:] - 1] = 0  # from the end of one ring to the start of the next
        owners = np.repeat(np.arange(count), np.diff(starts))
        pieces = np.maximum(np.ceil(abs(ways).max(axis=1) / _PIECE), 1).astype(np.int64)
        edge = np.repeat(np.arange(len(ways)), pieces)
        number = np.arange(len(edge)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        steps = self.frame.steps
        areas, lengths = np.zeros(len(edge)), np.zeros(len(edge))
        way = ways[edge] / pieces[edge, None]
        dx, dy = steps @ way.T
        for point in (0.5 - 0.5 / np.sqrt(3), 0.5 + 0.5 / np.sqrt(3)):
            u, v = (places[edge] + way * (number + point)[:, None]).T
            areas += chebyshev.chebval2d(u, v, self.across) * way[:, 1] / 2
            x2, mixed, y2 = (chebyshev.chebval2d(u, v, fit) for fit in self.lengths)
            lengths += np.sqrt(np.maximum(x2 * dx**2 + 2 * mixed * dx * dy + y2 * dy**2, 0)) / 2
        sums = [np.bincount(owners[edge], values, count).astype(np.float64) for values in (areas, lengths)]
        return abs(sums[0]) * abs(np.linalg.det(steps)), sums[1]


def _nodes(count: int) -> Floats:
    return _INSIDE * np.cos(np.linspace(0, np.pi, count))


def _trimmed(coefficients: Floats) -> Floats:
    """Without the highest degrees, along either axis, that are nothing but noise."""
    large = abs(coefficients) > 1e-8 * abs(coefficients).max()
    rows, cols = (np.flatnonzero(large.any(axis=axis)).max(initial=0) + 1 for axis in (1, 0))
    return coefficients[:rows, :cols]


def _survey(system: CRS, geo: GeoGrid) -> _Survey | None:
    """None where nobody knows where on the Earth the CRS is."""
    base = geographic_of(system)
    if base is None or not (system.is_geographic or system.is_projected):
        return None
    try:
        to_degrees = Transformer.from_crs(system, base, always_xy=True)
    except ProjError:
        return None
    geod = base.get_geod() or Geod(ellps="WGS84")
    unit_m = _metres_per_unit(system) if system.is_projected else np.radians(1) * geod.a
    (_, sheared), (rotated, _) = geo.linear
    first, last = 0.0, float(geo.height)
    if system.is_geographic and sheared == rotated == 0:  # half a pixel beyond a pole there is no ground
        first, last = sorted(min(max(geo.to_pixels(0.0, lat)[1], first), last) for lat in (-90.0, 90.0))
    shorter_m = min(size * unit_m * count for size, count in zip(geo.resolution, geo.shape[::-1], strict=True))
    step = min(max(shorter_m / 2000, _STEP_M[0]), _STEP_M[1]) / unit_m
    return _Survey(_Frame(geo, first, last), to_degrees, geod, system.is_projected, unit_m, step)


def _metres_per_unit(system: CRS) -> float:
    if system.is_geographic or not system.axis_info:
        return 1.0
    return float(system.axis_info[0].unit_conversion_factor) or 1.0


def _lengths(batch: Batch) -> Floats:
    return np.asarray(shapely.length(batch.polygons), np.float64)


def _lengths_by_pixels(batch: Batch, geo: GeoGrid, pixel_m: tuple[float, float]) -> Floats:
    """Lengths where a step to the next column and one to the next row have the sizes given."""
    back = np.linalg.inv(np.array(geo.linear)) * np.array(pixel_m)[:, None]
    return np.asarray(shapely.length(shapely.transform(batch.polygons, lambda points: points @ back.T)))

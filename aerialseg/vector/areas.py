"""Metres and square metres: how the outline and the area of a polygon are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertCylindricalEqualAreaConversion

from aerialseg.raster.georef import GeoGrid
from aerialseg.vector.polygons import Batch

TRUE_TO_SCALE = 0.01
"""A CRS is true to scale where its pixels have the size that they have on the ground, give or take this share."""

SHORT_DEGREES = 0.05
"""Shorter edges are measured by the radii of the ellipsoid in their middle: off by less than 1e-7, and much faster."""

Floats = NDArray[np.float64]
Measure = Callable[[Batch], tuple[Floats, Floats]]
"""From a batch of polygons to their areas in square metres and the lengths of all their rings in metres."""


def make_measure(
    geo: GeoGrid, double_areas: NDArray[np.int64] | Floats, pixel_m: tuple[float, float] | None = None
) -> Measure:
    """A function from a batch of polygons to (areas in square metres, perimeters in metres).

    Where the CRS is projected and true to scale at the raster's centre: pixels times the area of a pixel (exact), and
    lengths in the plane. Otherwise (longitude and latitude, Web Mercator away from the equator) on the ellipsoid: areas
    by a cylindrical equal-area projection (geodesic formulas lose the digits that polygons of a few centimetres need),
    lengths edge by edge. Without CRS: by ``pixel_m`` (x, y), the size of a pixel in metres; in units of the transform
    where that is not known either.
    """
    areas: Floats = np.asarray(double_areas, np.float64)
    pixel = abs(geo.determinant) / 2.0
    system = CRS.from_user_input(geo.crs) if geo.crs else None
    if system is not None:
        unit = _metres_per_unit(system)
        ground = _ground(system, geo)
        if ground is not None:
            return ground.measure
        return lambda batch: (areas[batch.regions] * (pixel * unit**2), _lengths(batch) * unit)
    if pixel_m is not None:
        sizes = pixel_m
        area = sizes[0] * sizes[1] / 2.0
        return lambda batch: (areas[batch.regions] * area, _lengths_by_pixels(batch, geo, sizes))
    return lambda batch: (areas[batch.regions] * pixel, _lengths(batch))


@dataclass(frozen=True, slots=True)
class _Ground:
    """The ellipsoid below a CRS that is not true to scale."""

    equal_area: Transformer
    to_degrees: Transformer
    geod: Geod

    def measure(self, batch: Batch) -> tuple[Floats, Floats]:
        with np.errstate(invalid="ignore"):  # where a polygon reaches beyond the projection its area is NaN
            return _area_by(self.equal_area, batch), self._perimeters(batch)

    def _perimeters(self, batch: Batch) -> Floats:
        if not len(batch.polygons):
            return np.zeros(0)
        _, coordinates, (rings, polygons) = shapely.to_ragged_array(batch.polygons, include_z=False)
        lon, lat = self.to_degrees.transform(coordinates[:, 0], coordinates[:, 1])
        lengths = _edge_lengths(self.geod, np.asarray(lon), np.asarray(lat))
        lengths[rings[1:-1] - 1] = 0  # from the end of one ring to the start of the next
        starts = rings[polygons[:-1]]
        return np.add.reduceat(np.append(lengths, 0.0), starts)


def _edge_lengths(geod: Geod, lon: Floats, lat: Floats) -> Floats:
    """Metres from each point to the next one: one less than there are points."""
    dlon, dlat = np.diff(lon), np.diff(lat)
    dlon -= 360 * np.round(dlon / 360)
    middle = np.radians((lat[1:] + lat[:-1]) / 2)
    reduced = 1 - geod.es * np.sin(middle) ** 2
    along_meridian = np.radians(dlat) * (geod.a * (1 - geod.es) / reduced**1.5)
    along_parallel = np.radians(dlon) * (geod.a / np.sqrt(reduced) * np.cos(middle))
    lengths: Floats = np.hypot(along_meridian, along_parallel)
    long = np.flatnonzero(np.maximum(abs(dlon), abs(dlat)) > SHORT_DEGREES)
    if len(long):
        lengths[long] = geod.inv(lon[long], lat[long], lon[long + 1], lat[long + 1])[2]
    return lengths


def _metres_per_unit(system: CRS) -> float:
    if system.is_geographic or not system.axis_info:
        return 1.0
    return float(system.axis_info[0].unit_conversion_factor) or 1.0


def _ground(system: CRS, geo: GeoGrid) -> _Ground | None:
    """The ways to the ellipsoid of the same datum; None where the plane is true to scale (or unknown)."""
    base = system.geodetic_crs
    if base is None or not (system.is_geographic or system.is_projected):
        return None
    to_degrees = Transformer.from_crs(system, base, always_xy=True)
    middle = np.array([-0.5, 0.5, 0, 0, 0]) + geo.width / 2, np.array([0, 0, -0.5, 0.5, 0]) + geo.height / 2
    x, y = geo.at(*middle)
    lon, lat = to_degrees.transform(x, y)
    if not np.isfinite([lon, lat]).all():
        return None
    geod = base.get_geod() or Geod(ellps="WGS84")
    if system.is_projected:
        _, _, measured = geod.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
        planar = np.array(geo.resolution) * _metres_per_unit(system)
        if (np.abs(measured / planar - 1) <= TRUE_TO_SCALE).all():
            return None
    conversion = LambertCylindricalEqualAreaConversion(longitude_natural_origin=float(lon[4]))
    equal_area = Transformer.from_crs(system, ProjectedCRS(conversion, geodetic_crs=base), always_xy=True)
    if not np.isfinite(equal_area.transform(x, y)).all():
        return None
    return _Ground(equal_area, to_degrees, geod)


def _area_by(equal_area: Transformer, batch: Batch) -> Floats:
    def project(points: Floats) -> Floats:
        return np.column_stack(equal_area.transform(points[:, 0], points[:, 1]))

    return np.asarray(shapely.area(shapely.transform(batch.polygons, project)))


def _lengths(batch: Batch) -> Floats:
    return np.asarray(shapely.length(batch.polygons), np.float64)


def _lengths_by_pixels(batch: Batch, geo: GeoGrid, pixel_m: tuple[float, float]) -> Floats:
    """Lengths where a step to the next column and one to the next row have the sizes given."""
    back = np.linalg.inv(np.array(geo.linear)) * np.array(pixel_m)[:, None]
    return np.asarray(shapely.length(shapely.transform(batch.polygons, lambda points: points @ back.T)))

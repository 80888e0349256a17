"""Square metres: how the area of a polygon is measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Geod, Transformer
from pyproj.crs import ProjectedCRS
from pyproj.crs.coordinate_operation import LambertCylindricalEqualAreaConversion

from aerialseg.vector.polygons import Batch

TRUE_TO_SCALE = 0.01
"""A CRS is true to scale where its pixels have the size that they have on the ground, give or take this share."""

Measure = Callable[[Batch], NDArray[np.float64]]


def make_measure(
    crs: str | None,
    transform: tuple[float, ...],
    shape: tuple[int, int],
    double_areas: NDArray[np.int64],
    pixel_m: tuple[float, float] | None = None,
) -> Measure:
    """A function from a batch of polygons to their areas in square metres.

    Where the CRS is projected and true to scale at the raster's centre: pixels times the area of a pixel (exact).
    Otherwise (longitude and latitude, Web Mercator away from the equator) on the ellipsoid, by a cylindrical equal-area
    projection (geodesic formulas lose the digits that polygons of a few centimetres need). Without CRS: pixels times
    ``pixel_m`` (x, y), their size in metres; in square units of the transform where that is not known either.
    """
    a, b, _, d, e, _ = transform
    pixel = abs(a * e - b * d) / 2.0
    system = CRS.from_user_input(crs) if crs else None
    if system is not None:
        pixel *= _metres_per_unit(system) ** 2
        equal_area = _equal_area(system, transform, shape)
        if equal_area is not None:
            return lambda batch: _area_by(equal_area, batch)
    elif pixel_m is not None:
        pixel = pixel_m[0] * pixel_m[1] / 2.0
    return lambda batch: np.asarray(double_areas[batch.regions] * pixel, np.float64)


def _metres_per_unit(system: CRS) -> float:
    if system.is_geographic or not system.axis_info:
        return 1.0
    return float(system.axis_info[0].unit_conversion_factor) or 1.0


def _equal_area(system: CRS, transform: tuple[float, ...], shape: tuple[int, int]) -> Transformer | None:
    """The way into an equal-area projection of the same datum; None where the plane is true to scale (or unknown)."""
    base = system.geodetic_crs
    if base is None or not (system.is_geographic or system.is_projected):
        return None
    to_degrees = Transformer.from_crs(system, base, always_xy=True)
    row, col = shape[0] / 2, shape[1] / 2
    a, b, c, d, e, f = transform
    corners = np.array([(row + r, col + k) for r, k in ((0, -0.5), (0, 0.5), (-0.5, 0), (0.5, 0), (0, 0))])
    x, y = a * corners[:, 1] + b * corners[:, 0] + c, d * corners[:, 1] + e * corners[:, 0] + f
    lon, lat = to_degrees.transform(x, y)
    if not np.isfinite([lon, lat]).all():
        return None
    if system.is_projected:
        ground = base.get_geod() or Geod(ellps="WGS84")
        _, _, measured = ground.inv(lon[[0, 2]], lat[[0, 2]], lon[[1, 3]], lat[[1, 3]])
        planar = np.array([np.hypot(a, d), np.hypot(b, e)]) * _metres_per_unit(system)
        if (np.abs(measured / planar - 1) <= TRUE_TO_SCALE).all():
            return None
    conversion = LambertCylindricalEqualAreaConversion(longitude_natural_origin=float(lon[4]))
    equal_area = Transformer.from_crs(system, ProjectedCRS(conversion, geodetic_crs=base), always_xy=True)
    return equal_area if np.isfinite(equal_area.transform(x, y)).all() else None


def _area_by(equal_area: Transformer, batch: Batch) -> NDArray[np.float64]:
    def project(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(equal_area.transform(points[:, 0], points[:, 1]))

    with np.errstate(invalid="ignore"):  # where a polygon reaches beyond the projection its area is NaN
        return np.asarray(shapely.area(shapely.transform(batch.polygons, project)))

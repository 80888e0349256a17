"""How large a pixel is on the ground, whatever the coordinate system."""

from __future__ import annotations

import logging
import math

import pyproj
from pyproj.exceptions import ProjError

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

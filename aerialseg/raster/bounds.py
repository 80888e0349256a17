"""Bounds in any coordinate system: whether they overlap, and the error that says that they do not."""

from __future__ import annotations

import math
from functools import lru_cache

import pyproj
from pyproj.exceptions import ProjError

from aerialseg.errors import InputError
from aerialseg.raster.georef import Bounds, GeoGrid


def name_of_crs(crs: str | None) -> str:
    """The name of a CRS for a message, with its code where it has one."""
    if crs is None:
        return "none"
    system = pyproj.CRS.from_user_input(crs)
    code = system.to_authority()
    return f"{system.name} ({':'.join(code)})" if code else str(system.name)


@lru_cache(maxsize=256)
def same_crs(one: str | None, other: str | None) -> bool:
    """Whether coordinates of both mean the same place on the map: also where neither is known, or one has heights."""
    if one is None or other is None or one == other:
        return one == other
    first, second = (pyproj.CRS.from_user_input(crs).to_2d() for crs in (one, other))
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
            f"{lost} has no coordinate system (CRS) and {known} has one, so they cannot be placed relative "
            "to each other; "
            "assign it: gdal_edit.py -a_srs EPSG:CODE for a raster, ogr2ogr -a_srs EPSG:CODE for a layer"
        )


def check_overlap(name: object, geo: GeoGrid, other_name: object, other_crs: str | None, other: Bounds) -> Bounds:
    """The bounds of the other one in the grid's CRS. Raises InputError, with both extents, where they do not meet."""
    check_comparable(name, geo.crs, other_name, other_crs)
    there = reproject_bounds(other, other_crs, geo.crs)
    if there is None or not overlap(there, geo.bounds):
        raise InputError(
            f"{name} ({_extent(geo.bounds)}) and {other_name} ({_extent(there or other)}) do not overlap: "
            "are both of one place, and are their coordinate systems right?"
        )
    return there


def _extent(bounds: Bounds) -> str:
    left, bottom, right, top = bounds
    return f"x {left:.7g} to {right:.7g}, y {bottom:.7g} to {top:.7g}"

"""An area of interest: the part of a raster that is mapped, from a box or a file of polygons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.mapping.kinds import AOI, split_aoi
from aerialseg.raster.bounds import check_comparable, check_overlap, reproject_bounds
from aerialseg.raster.feature_opening import ENDINGS, is_layer
from aerialseg.raster.features import FeatureFile, Geometries, open_features, polygonal
from aerialseg.raster.georef import Bounds
from aerialseg.raster.grid import Grid
from aerialseg.raster.labels import bring, widen
from aerialseg.raster.polygon_mask import PolygonMask
from aerialseg.raster.view import View

PIECES = 1000
"""Lines are straight in their own CRS, and in pieces of this part of 100 km to a millimetre in any other one."""


def narrow(text: str, view: View, grid: Grid) -> tuple[PolygonMask, View, Grid]:
    """The area of interest from the setting's text, the rasters that are seen from it, and the blocks of its box.

    Raises InputError (a file that cannot be used, or an area off the raster), UsageError (no such kind of file or CRS).
    """
    name = f"the area of interest {printable(text)}"
    mask = PolygonMask.on(name, _polygons(text, name, view), view.geo, grid.raster)
    if mask is None:
        raise InputError(
            f"{name} holds the centre of no pixel of {_raster(view)}: its polygons lie beside the raster or are "
            "smaller than a pixel"
        )
    grid = replace(grid, part=mask.box)
    # Whether a colour is a collar is a question of all imagery.
    part = view if view.collar else view.part(grid.window(mask.box))
    if len(part.pieces) < len(view.pieces):
        seen = f"{len(part.pieces):,} of them are in or around the area of interest"
        part = replace(part, note=f"{view.note}; {seen}")
    return mask, part, grid


def _polygons(text: str, name: str, view: View) -> Geometries:
    """What may lie on the raster, in its CRS."""
    box, path, more = split_aoi(text)
    if box is not None:
        crs = _crs(more) if more else view.geo.crs
        geometries = np.array([shapely.box(*box)])
        check_overlap(_raster(view), view.geo, name, crs, box)
    else:
        if not is_layer(path):
            raise UsageError(f"--aoi {printable(text)}: wanted {AOI.wanted}; files are {', '.join(ENDINGS)}")
        file = open_features(path, None, more or None)
        crs = file.crs
        check_overlap(_raster(view), view.geo, name, crs, file.bounds)
        return on_raster(file, view, name)[1]
    return bring(geometries, _ground(view, crs, name), crs, view.geo.crs, PIECES)


def on_raster(file: FeatureFile, view: View, name: str) -> tuple[NDArray[np.int64], Geometries]:
    """(places in ``fids``, polygons) of what may lie on the raster, in its CRS. Raises InputError."""
    check_comparable(_raster(view), view.geo.crs, name, file.crs)
    ground = _ground(view, file.crs, name)
    places, geometries = file.near(ground)
    use = polygonal(geometries)
    return places[use], bring(shapely.make_valid(geometries[use]), ground, file.crs, view.geo.crs, PIECES)


def _ground(view: View, crs: str | None, name: str) -> Bounds:
    there = reproject_bounds(widen(view.geo.bounds), view.geo.crs, crs)
    if there is None:
        raise InputError(
            f"{_raster(view)} cannot be transformed into the coordinate system of {name}: save the area in "
            "the raster's own"
        )
    return there


def _raster(view: View) -> str:
    """What messages call it."""
    if len(view.pieces) == 1:
        return f"the raster {printable(view.path)}"
    return f"the mosaic of {len(view.pieces):,} rasters ({printable(view.path)} and others)"


def _crs(text: str) -> str:
    authority, _, code = text.partition(":")
    try:
        return str(pyproj.CRS.from_authority(authority, code).to_wkt())
    except pyproj.exceptions.CRSError:
        raise UsageError(f"--aoi ...@{printable(text)}: wanted a coordinate system such as EPSG:4326") from None

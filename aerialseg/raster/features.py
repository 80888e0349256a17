"""Labelled polygons of a file: which layer, which field, and those near a place, found by the file's spatial index."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.feature_opening import JSON, check_file, grid_named, reading
from aerialseg.raster.georef import Bounds
from aerialseg.raster.pam_check import names_grid_file

_POLYGONS = (3, 6)
"""shapely's numbers of Polygon and MultiPolygon."""
_COLLECTION = 7
_LOOKED_AT = 200
"""Features that are looked at to tell what a layer holds."""

Geometries = NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFile:
    """A layer of labelled polygons.

    ``fids``: the features' own numbers, in ascending order; ``values``: of the field, beside them. Where ``tree`` is
    there, the format has no spatial index of its own and all geometries are kept in memory.
    """

    path: Path
    layer: str | None
    field: str | None
    crs: str | None
    bounds: Bounds
    fids: NDArray[np.int64]
    values: NDArray[Any]
    tree: shapely.STRtree | None = None

    def near(self, bounds: Bounds) -> tuple[NDArray[np.int64], Geometries]:
        """(places in ``fids``, geometries) of what may meet ``bounds`` (in this file's CRS), in ascending order."""
        if self.tree is not None:
            found = np.sort(self.tree.query(shapely.box(*bounds)))
            return found, self.tree.geometries[found]
        with reading(self.path) as name:
            _, fids, wkb, _ = _read(name, layer=self.layer, columns=[], bbox=bounds)
            geometries = shapely.from_wkb(wkb)
        order = np.argsort(fids, kind="stable")
        return np.searchsorted(self.fids, fids[order]), geometries[order]


def open_features(path: str | Path, field: str | None, layer: str | None = None) -> FeatureFile:
    """The polygons of a file whose ``field`` says the class; None: they have none, and ``values`` are empty.

    Opens that file only (and what a shapefile consists of).

    Raises InputError: no such file, layer or field, or no polygons.
    """
    place = check_file(Path(path))
    found = _open_parquet(place, field) if place.suffix.lower() == ".parquet" else _open(place, field, layer)
    if not len(found.fids):
        raise InputError(f"{printable(place)} has no features: wanted labelled polygons")
    return found


def field_names(path: str | Path, layer: str | None = None) -> list[str]:
    """Names of the fields of a layer. Raises InputError: no such file or layer."""
    import pyarrow.parquet
    import pyogrio

    place = check_file(Path(path))
    with reading(place) as file:
        if place.suffix.lower() == ".parquet":
            return [str(name) for name in pyarrow.parquet.read_schema(place).names]
        names = [str(name) for name, _ in pyogrio.list_layers(file)]
        info = pyogrio.read_info(file, layer=choose_layer(place, names, layer, "FILE:LAYER"))
        return [str(name) for name in info["fields"]]


def _open(place: Path, field: str | None, layer: str | None) -> FeatureFile:
    import pyogrio

    with reading(place) as file:
        names = [str(name) for name, _ in pyogrio.list_layers(file)]
        chosen = choose_layer(place, names, layer, "--layer" if field else "FILE:LAYER")
        info = pyogrio.read_info(file, layer=chosen, force_total_bounds=True)
        if info["total_bounds"] is None:
            raise InputError(f"{printable(place)} has no features: wanted polygons")
        if field is not None:
            _check_field(place, field, [str(name) for name in info["fields"]])
        if place.suffix.lower() in JSON:
            _check_degrees(place, info["crs"], _four(info["total_bounds"]))
        _, fids, _, columns = _read(file, layer=chosen, columns=[field] if field else [], read_geometry=False)
        indexed = place.suffix.lower() not in JSON
        some = {"max_features": _LOOKED_AT} if indexed else {}
        wkb = _read(file, layer=chosen, columns=[], **some)[2]
        geometries = np.array([None]) if wkb is None else shapely.from_wkb(wkb)  # None: a table without a column
        _check_polygons(place, geometries)
    order = np.argsort(fids, kind="stable")
    tree = None if indexed else shapely.STRtree(geometries[order])
    values = columns[0][order] if field else np.zeros(0, np.object_)
    return FeatureFile(place, chosen, field, info["crs"], _four(info["total_bounds"]), fids[order], values, tree)


def _four(bounds: Any) -> Bounds:
    left, bottom, right, top = (float(value) for value in bounds)
    return left, bottom, right, top


def _check_degrees(place: Path, crs: str | None, bounds: Bounds) -> None:
    """Raise InputError where a GeoJSON without a coordinate system, which has degrees by its standard, has others."""
    left, bottom, right, top = bounds
    if crs in ("EPSG:4326", "OGC:CRS84") and (max(abs(left), abs(right)) > 360 or max(abs(bottom), abs(top)) > 90):
        raise InputError(
            f"{printable(place)} reaches to x {right:.10g}, y {top:.10g} and names no coordinate system, so that these "
            "would be degrees; export it in EPSG:4326, or as a GeoPackage, which says its coordinate system"
        )


def _read(file: str, **options: Any) -> tuple[Any, NDArray[np.int64], Any, Any]:
    import pyogrio.raw

    options |= {"return_fids": True, "force_2d": True}
    found: tuple[Any, NDArray[np.int64], Any, Any] = pyogrio.raw.read(file, **options)
    return found


def choose_layer(place: Path, names: list[str], layer: str | None, how: str) -> str:
    names = [name for name in names if name != "layer_styles"]
    if layer is None and len(names) == 1:
        return names[0]
    if layer in names:
        return str(layer)
    met = f"no layer {layer!r}" if layer is not None else f"{len(names)} layers"
    raise InputError(f"{printable(place)} has {met}; say which with {how}: {', '.join(names)}")


def _check_field(place: Path, field: str, known: list[str]) -> None:
    if not known:
        beside = f"; is {printable(place.with_suffix('.dbf').name)} missing beside it?" * (
            place.suffix.lower() == ".shp"
        )
        raise InputError(f"{printable(place)} has no fields{beside or ': wanted one that says the class'}")
    if field not in known:
        raise InputError(f"{printable(place)} has no field {field!r}; name one that it has: {', '.join(known)}")


def _check_polygons(place: Path, geometries: Geometries) -> None:
    """What is drawn as points or lines has no ground to burn."""
    if len(geometries) and not polygonal(geometries).any():
        kinds = sorted({str(geometry.geom_type) for geometry in geometries if geometry is not None})
        raise InputError(f"{printable(place)} holds {', '.join(kinds) or 'no geometries'}: wanted polygons")


def polygonal(geometries: Geometries) -> NDArray[np.bool_]:
    """Which of the geometries have an area."""
    kinds = shapely.get_type_id(geometries)
    areas: NDArray[np.bool_] = np.isin(kinds, (*_POLYGONS, _COLLECTION)) & ~shapely.is_empty(geometries)
    return areas


def _open_parquet(place: Path, field: str | None) -> FeatureFile:
    import geopandas
    import pyarrow.parquet

    with reading(place):
        schema = pyarrow.parquet.read_schema(place)
        about = json.loads((schema.metadata or {}).get(b"geo", b"{}"))
        geometry = about.get("primary_column", "geometry")
        if field is not None:
            _check_field(place, field, [name for name in schema.names if name != geometry])
        frame = geopandas.read_parquet(place, columns=[*filter(None, [field]), geometry])
        crs = None if frame.crs is None else frame.crs.to_wkt()
        if names_grid_file(crs or ""):
            raise grid_named(place)
    geometries = np.asarray(shapely.force_2d(frame.geometry.to_numpy()), dtype=np.object_)
    _check_polygons(place, geometries)
    values = frame[field].to_numpy(dtype=object) if field else np.zeros(0, np.object_)
    tree = shapely.STRtree(geometries)
    return FeatureFile(place, None, field, crs, _four(frame.total_bounds), np.arange(len(frame)), values, tree)

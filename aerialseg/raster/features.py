"""Labelled polygons of a file: which layer, which field, and those near a place, found by the file's spatial index."""

from __future__ import annotations

import json
import mmap
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import AerialsegError, InputError
from aerialseg.files import one_line, printable
from aerialseg.raster.georef import Bounds
from aerialseg.raster.opening import is_remote, name_for_pyogrio
from aerialseg.raster.pam_check import names_grid_file
from aerialseg.raster.sidecars import fault_of, find_sidecars

_MAGIC = {
    ".gpkg": b"SQLite format 3\0",
    ".fgb": b"fgb\x03fgb",
    ".shp": b"\x00\x00\x27\x0a",
    ".geojson": b"{",
    ".json": b"{",
    ".parquet": b"PAR1",
}
"""What files of each ending start with: GDAL goes by content, and some contents point at other files."""
_JSON = (".geojson", ".json")
_MAY_LINK = re.compile(rb"""["'](link|url)["']|\\u00[2-7]|(grids|init|file|model)\s*=|PARAMETERFILE""", re.IGNORECASE)
"""What a GeoJSON needs in order to name its coordinate system by an address, or a grid of it by a path."""
_PRJ_BYTES = 16 << 20
"""More than GDAL reads of a .prj."""
ENDINGS = tuple(_MAGIC)
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


def is_layer(path: str | Path) -> bool:
    """Whether the name is that of a file of polygons."""
    return Path(path).suffix.lower() in ENDINGS


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
        info = pyogrio.read_info(file, layer=_choose(place, names, layer, "FILE:LAYER"))
        return [str(name) for name in info["fields"]]


def _open(place: Path, field: str | None, layer: str | None) -> FeatureFile:
    import pyogrio

    with reading(place) as file:
        names = [str(name) for name, _ in pyogrio.list_layers(file)]
        chosen = _choose(place, names, layer, "--layer" if field else "FILE:LAYER")
        info = pyogrio.read_info(file, layer=chosen, force_total_bounds=True)
        if info["total_bounds"] is None:
            raise InputError(f"{printable(place)} has no features: wanted polygons")
        if field is not None:
            _check_field(place, field, [str(name) for name in info["fields"]])
        if place.suffix.lower() in _JSON:
            _check_degrees(place, info["crs"], _four(info["total_bounds"]))
        _, fids, _, columns = _read(file, layer=chosen, columns=[field] if field else [], read_geometry=False)
        indexed = place.suffix.lower() not in _JSON
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


def _names_grid(place: Path) -> InputError:
    return InputError(
        f"{printable(place)} has a coordinate system that names a file by its path (a datum grid, say), and such files "
        "are not opened; export it again from your GIS, in EPSG:4326"
    )


def _crs_texts(place: Path) -> Iterator[str]:
    """Texts in which a file says its coordinate systems, found before GDAL reads them and PROJ what they name."""
    ending = place.suffix.lower()
    if ending == ".shp":
        for beside in filter(Path.is_file, map(place.with_suffix, (".prj", ".PRJ"))):
            with open(beside, "rb") as file:
                yield file.read(_PRJ_BYTES).decode("latin-1")
    elif ending == ".fgb":  # its header holds it as plain text
        with open(place, "rb") as file:
            size = int.from_bytes(file.read(12)[8:], "little")
            yield file.read(size).decode("latin-1")
    elif ending == ".gpkg":
        with closing(sqlite3.connect(f"{place.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
            database.text_factory = lambda text: text.decode("latin-1")
            tables = "SELECT name FROM sqlite_master WHERE name LIKE '%spatial_ref_sys%' AND type IN ('table', 'view')"
            for (table,) in database.execute(tables).fetchall():
                for row in database.execute(f"SELECT * FROM {_quoted(table)}"):
                    yield " ".join(map(str, row))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_links(place: Path) -> None:
    """Raise InputError when a coordinate system of a GeoJSON is an address or names a grid by a path.

    ValueError when it is not JSON.
    """
    with open(place, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not _MAY_LINK.search(content):
            return
        text = content[:]

    def is_link(pairs: list[tuple[str, Any]]) -> bool:
        if any(key.lower() == "crs" and value is True for key, value in pairs):
            raise InputError(
                f"{printable(place)} gives its coordinate system as an address or by a file, and those are not opened; "
                "export it again from your GIS"
            )
        return any(
            value is True
            or (key.lower() == "type" and str(value).lower() in ("link", "url"))
            or (isinstance(value, str) and names_grid_file(value))
            for key, value in pairs
        )

    try:
        json.loads(text, object_pairs_hook=is_link)
    except RecursionError as error:
        raise InputError(f"{printable(place)} is nested too deeply; export it again from your GIS") from error


def check_file(path: Path) -> Path:
    """The absolute path of a file that begins as its ending, one of `ENDINGS`, says. Raises InputError."""
    place = Path(os.path.abspath(path))
    ending = place.suffix.lower()
    if is_remote(path) or is_remote(place):
        raise InputError(f"{printable(path)} is not a local file: download it first")
    try:
        with open(place, "rb") as file:
            head = file.read(256)
    except OSError as error:
        raise InputError(
            f"cannot read {printable(place)}: {error.strerror or error}; give the path of a file"
        ) from error
    if ending not in _MAGIC:
        raise InputError(f"{printable(place)} is no file of polygons: wanted one of {', '.join(sorted(_MAGIC))}")
    if not head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").startswith(_MAGIC[ending]):
        raise InputError(
            f"{printable(place)} is no {ending} file: it starts with {head[:8]!r}; fetch or export it again"
        )
    if ending == ".fgb" and b"\0" not in head[8:12]:  # a header of 16 MiB or more: text that other drivers look into
        raise InputError(f"{printable(place)} is no {ending} file: its header has no length; fetch or export it again")
    return place


def _choose(place: Path, names: list[str], layer: str | None, how: str) -> str:
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
        raise InputError(f"{printable(place)} has no field {field!r}; it has {', '.join(known)}")


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
            raise _names_grid(place)
    geometries = np.asarray(shapely.force_2d(frame.geometry.to_numpy()), dtype=np.object_)
    _check_polygons(place, geometries)
    values = frame[field].to_numpy(dtype=object) if field else np.zeros(0, np.object_)
    tree = shapely.STRtree(geometries)
    return FeatureFile(place, None, field, crs, _four(frame.total_bounds), np.arange(len(frame)), values, tree)


def _check_beside(place: Path) -> None:
    """Raise InputError unless GDAL may open what lies beside the file: it does so for layers, too."""
    for sidecar in sorted(find_sidecars(place)):
        if fault := fault_of(sidecar, of_tiff=False):
            raise InputError(
                f"{printable(sidecar)}, which GDAL opens together with {printable(place.name)}, {fault}; "
                "move that file elsewhere"
            )


@contextmanager
def reading(place: Path) -> Iterator[str]:
    """The name by which GDAL opens the file, for a block in which what it raises becomes InputError, without warnings.

    Any of many drivers may like a text in braces, so that for JSON one driver is named.
    """
    import pyarrow as pa
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

    kinds = (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError, pa.ArrowException, sqlite3.Error)
    try:
        with warnings.catch_warnings(), name_for_pyogrio(place) as name:
            warnings.simplefilter("ignore")
            _check_beside(place)
            if place.suffix.lower() in _JSON:
                _check_links(place)
            elif any(map(names_grid_file, _crs_texts(place))):
                raise _names_grid(place)
            yield f"GeoJSON:{name}" if place.suffix.lower() in _JSON else name
    except AerialsegError:
        raise
    except (*kinds, OSError, ValueError, shapely.errors.GEOSException) as error:
        met = one_line(error)
        advice = "close it in the other program" if "locked" in met else "export it again from your GIS"
        raise InputError(f"{printable(place)} cannot be read: {met}; {advice}") from error

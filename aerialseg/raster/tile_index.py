"""Tile indexes, as gdaltindex writes them: a layer whose field ``location`` names a raster in each row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.raster.feature_opening import check_file, reading
from aerialseg.raster.opening import is_remote

INDEX_ENDINGS = (".gpkg", ".fgb", ".shp", ".geojson", ".json")
LOCATION = "location"
MAX_TILES = 100_000
MAX_LAYERS = 100
MAX_BYTES = 256 << 20
MAX_JSON_BYTES = 32 << 20
"""GDAL holds a GeoJSON in memory, in about ten times its size."""

IndexRow = tuple[str, Any]
"""Path of a raster, and the value of the field that orders them (None where it is null)."""


def read_index(path: Path, field: str | None = None) -> list[IndexRow] | None:
    """The tiles of an index in the order of its rows; relative paths count from its folder. Opens no raster.

    None where a GeoPackage has no layer with a field ``location``: it holds rasters, perhaps. Raises InputError (not
    an index, too large), UsageError (it has no ``field``).
    """
    place = check_file(path)
    most = MAX_JSON_BYTES if place.suffix.lower() in (".geojson", ".json") else MAX_BYTES
    table = place.with_suffix(".dbf") if place.suffix.lower() == ".shp" else place
    for file in (place, table):
        if file.exists() and (size := file.stat().st_size) > most:
            raise InputError(
                f"{printable(file)} has {size / 1e6:,.0f} MB: a tile index of at most {most / 1e6:,.0f} MB and "
                f"{MAX_TILES:,} tiles is read; split it, or give a folder"
            )
    with reading(place) as name:
        layers = _layers(name)
        found = [(layer, fields) for layer, fields in layers.items() if _locations(fields)]
        if len(found) == 1:
            return _rows(place, name, *found[0], field)
    if not found and place.suffix.lower() == ".gpkg":
        return None
    met = ", ".join(sorted({one for fields in layers.values() for one in fields})) or "none"
    raise InputError(
        f"{printable(place)} is no tile index: wanted one layer with a field {LOCATION!r}, as gdaltindex writes it; "
        + (f"{len(found)} have one" if found else f"its fields are {met}")
    )


def _layers(name: str) -> dict[str, list[str]]:
    """The fields of each layer; no layers where a GeoPackage has rasters alone."""
    import pyogrio
    from pyogrio.errors import DataSourceError

    try:
        names = [str(layer) for layer, _ in pyogrio.list_layers(name)]
    except DataSourceError:
        if not name.lower().endswith(".gpkg"):
            raise
        return {}
    return {layer: list(map(str, pyogrio.read_info(name, layer=layer)["fields"])) for layer in names[:MAX_LAYERS]}


def _locations(fields: list[str]) -> list[str]:
    """The field of the paths, if there is one."""
    return [field for field in fields if field.lower() == LOCATION][:1]


def _rows(place: Path, name: str, layer: str, fields: list[str], field: str | None) -> list[IndexRow]:
    import pyogrio.raw

    if field is not None and field not in fields:
        raise UsageError(f"--order {field}: {printable(place)} has no such field; it has {', '.join(fields)}")
    (location,) = _locations(fields)
    wanted = [one for one in fields if one in (location, field)]
    # Never trust the number of features that a file says it has.
    found = pyogrio.raw.read(name, layer=layer, columns=wanted, read_geometry=False, max_features=MAX_TILES + 1)
    columns = dict(zip(map(str, found[0]["fields"]), found[3], strict=True))
    if len(columns[location]) > MAX_TILES:
        raise InputError(f"{printable(place)} lists more than {MAX_TILES:,} tiles; split it, or give a folder")
    values = columns[field].tolist() if field is not None else [None] * len(columns[location])
    return [
        (_path(place, text, row), None if value != value else value)  # NaN and NaT are null
        for row, (text, value) in enumerate(zip(columns[location], values, strict=True), 1)
    ]


def _path(place: Path, location: Any, row: int) -> str:
    if not isinstance(location, str) or not location:
        raise InputError(f"{printable(place)}, row {row}: no {LOCATION}; delete that row, or name its raster")
    return location if is_remote(location) else os.path.abspath(place.parent / location)

"""Files of polygons, opened so that GDAL opens that file alone: it and what lies beside it are checked first."""

from __future__ import annotations

import json
import mmap
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import shapely

from aerialseg.errors import AerialsegError, InputError
from aerialseg.files import one_line, printable
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
JSON = (".geojson", ".json")
_MAY_LINK = re.compile(rb"""["'](link|url)["']|\\u00[2-7]|(grids|init|file|model)\s*=|PARAMETERFILE""", re.IGNORECASE)
"""What a GeoJSON needs in order to name its coordinate system by an address, or a grid of it by a path."""
_PRJ_BYTES = 16 << 20
"""More than GDAL reads of a .prj."""
ENDINGS = tuple(_MAGIC)


def is_layer(path: str | Path) -> bool:
    """Whether the name is that of a file of polygons."""
    return Path(path).suffix.lower() in ENDINGS


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
            if place.suffix.lower() in JSON:
                _check_links(place)
            elif any(map(names_grid_file, _crs_texts(place))):
                raise grid_named(place)
            yield f"GeoJSON:{name}" if place.suffix.lower() in JSON else name
    except AerialsegError:
        raise
    except (*kinds, OSError, ValueError, shapely.errors.GEOSException) as error:
        met = one_line(error)
        advice = "close it in the other program" if "locked" in met else "export it again from your GIS"
        raise InputError(f"{printable(place)} cannot be read: {met}; {advice}") from error


def _check_beside(place: Path) -> None:
    """Raise InputError unless GDAL may open what lies beside the file: it does so for layers, too."""
    for sidecar in sorted(find_sidecars(place)):
        if fault := fault_of(sidecar, of_tiff=False):
            raise InputError(
                f"{printable(sidecar)}, which GDAL opens together with {printable(place.name)}, {fault}; "
                "move that file elsewhere"
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


def grid_named(place: Path) -> InputError:
    return InputError(
        f"{printable(place)} has a coordinate system that names a file by its path (a datum grid, say), and such files "
        "are not opened; export it again from your GIS, in EPSG:4326"
    )

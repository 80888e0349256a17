"""Whether GDAL may open a GeoPackage or MBTiles: SQLite databases, which may hold more than tables."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from aerialseg.raster.pam_check import names_grid_file

MAX_ENTRIES = 10_000
"""Tables, indexes and triggers; GDAL reads the whole list."""
MAX_TEXT = 16 << 20
"""Characters of metadata, which GDAL reads whole."""
MAX_SECONDS = 5.0

_SHOWN = 5
_OWN = {"tiles", "metadata", "map", "images", "grids", "grid_data"}
"""Tables of MBTiles; those of GeoPackages begin with gpkg_."""
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_TRANSACTION}


class _FaultError(Exception):
    """Why GDAL must not open the file."""


def sqlite_fault(path: Path, *, geopackage: bool) -> str | None:
    """Why GDAL must not open the database at ``path``, or cannot see one raster in it; None where it may.

    Raises OSError.
    """
    for ending in ("-wal", "-journal"):
        beside = path.with_name(path.name + ending)
        if beside.exists() and beside.stat().st_size:
            return f"has changes that wait in {beside.name}; close the program that has it open (QGIS?), then try again"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            deadline = time.monotonic() + MAX_SECONDS
            database.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
            _check(database, geopackage)
    except _FaultError as fault:
        return str(fault)
    except (sqlite3.Error, UnicodeError) as error:
        return f"is not a database that can be read ({error})"
    return None


def _check(database: sqlite3.Connection, geopackage: bool) -> None:
    entries = database.execute("SELECT type, name, sql FROM sqlite_schema LIMIT ?", (MAX_ENTRIES + 1,)).fetchall()
    if len(entries) > MAX_ENTRIES:
        raise _FaultError(f"has more than {MAX_ENTRIES:,} tables, indexes and triggers")
    kinds = {name.lower(): sql or "" for kind, name, sql in entries if kind in ("table", "view")}
    tiles = _raster_tables(database) if geopackage else []
    read = [name for name in kinds if name in _OWN or name.startswith("gpkg_") or name in map(str.lower, tiles)]
    database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY)
    for name in read:
        _check_passive(database, name, kinds[name])
    database.set_authorizer(None)
    if geopackage:
        _check_texts(database, kinds)
    if geopackage and len(tiles) != 1:
        names = ", ".join(tiles[:_SHOWN]) + (" ..." if len(tiles) > _SHOWN else "")
        raise _FaultError(
            f"holds the rasters {names}; take one out: gdal_translate GPKG:FILE.gpkg:TABLE OUT.tif"
            if tiles
            else "holds no raster (vector layers only?); give the orthophoto itself"
        )


def _raster_tables(database: sqlite3.Connection) -> list[str]:
    kinds = "('tiles', '2d-gridded-coverage')"
    query = f"SELECT table_name FROM gpkg_contents WHERE data_type IN {kinds} ORDER BY 1 LIMIT {_SHOWN + 1}"
    return [str(name) for (name,) in database.execute(query)]


def _check_passive(database: sqlite3.Connection, name: str, sql: str) -> None:
    """Refuse a table or view that calls functions (GDAL has some that open files and addresses) when it is read."""
    if sql.lstrip().upper().startswith("CREATE VIRTUAL"):
        raise _FaultError(f"has a virtual table {name!r}, and those are not opened")
    quoted = name.replace('"', '""')
    try:
        database.execute(f'EXPLAIN SELECT * FROM "{quoted}"')
    except sqlite3.DatabaseError as error:
        raise _FaultError(f"has a table or view {name!r} that does more than hold values ({error})") from error


def _check_texts(database: sqlite3.Connection, kinds: dict[str, str]) -> None:
    if "gpkg_metadata" in kinds:
        ((size,),) = database.execute("SELECT total(length(metadata)) FROM gpkg_metadata")
        if size > MAX_TEXT:
            raise _FaultError(f"has more than {MAX_TEXT:,} characters of metadata")
    for number, row in enumerate(database.execute("SELECT * FROM gpkg_spatial_ref_sys")):
        if number > MAX_ENTRIES:
            raise _FaultError(f"has more than {MAX_ENTRIES:,} coordinate systems")
        if any(names_grid_file(text) for text in row if isinstance(text, str)):
            raise _FaultError(
                "has a coordinate system that names a grid file by its path, and such files are not opened"
            )

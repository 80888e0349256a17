"""A GeoPackage that exists: what it holds, and how our layers in it are replaced while everything else stays."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aerialseg.errors import OutputError, ResourceError, UsageError
from aerialseg.files import cannot_write
from aerialseg.vector.fields import CLASSES, POLYGONS
from aerialseg.vector.formats import BY_CLASS
from aerialseg.vector.qgis import STYLES
from aerialseg.vector.qgis_metadata import MARK
from aerialseg.vector.qgis_project import OUR_PROJECT

SQLITE_LOGS = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a GeoPackage that is open somewhere; it would be replayed into the new one."""

OUR_STYLE = "(styleName, description) IN (VALUES {})".format(
    ", ".join(f"('{name}', '{description}')" for name, description in STYLES.items())
)
"""Of ``layer_styles``: a row of ours; the others are the user's."""

# Every version wrote provenance into the layer's metadata, through GDAL; descriptions came a little later.
_OUR_METADATA = """metadata LIKE '%<MDI key="software">aerialseg %'"""
BY_US = f"(md_standard_uri = 'http://gdal.org' OR metadata LIKE '%{MARK}%')"
"""Of metadata: not written by a person in QGIS, who may describe our layer too."""

_HEADER_BYTES = 100
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GeoPackage holds, seen by a run that writes layers of certain names.

    replaced: layers of those names, made by aerialseg. foreign: tables and views of those names that are not. kept: all
    other layers. plain: nothing would be lost if the file were replaced as a whole.
    """

    replaced: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    plain: bool = True

    @property
    def held(self) -> tuple[str, ...]:
        """All layers."""
        return (*self.foreign, *self.replaced, *self.kept)


def names_of(layers: Sequence[str]) -> str:
    """The first few of them, for a message."""
    return ", ".join(map(repr, layers[:5])) + (f" and {len(layers) - 5} more" if len(layers) > 5 else "")


def layer_names(layer: str) -> tuple[str, str]:
    """The layer and its dissolved twin: an older twin goes with its layer, whether there is a new one or not."""
    return layer, layer + BY_CLASS


def check_replaceable(path: Path, layer: str, *, dissolve: bool) -> Contents:
    """What the GeoPackage ``path`` holds, if its layer ``layer`` may be written anew; nothing where there is no file.

    Raises UsageError (a layer of that name is somebody else's), OutputError (open elsewhere, not a GeoPackage,
    damaged).
    """
    check_closed(path)
    found = read_contents(path, layer_names(layer))
    for name in found.foreign:
        if dissolve or name.lower() == layer.lower():
            raise UsageError(
                f"{path} holds a layer {name!r} that aerialseg did not make, and it is not replaced: write to another "
                "file, rename that layer, or give another --layer (of polygonize)"
            )
    return found


def check_closed(path: Path) -> None:
    """Raise OutputError where a file beside the GeoPackage says that a program has it open, or was killed with it."""
    for end in SQLITE_LOGS:
        if os.path.lexists(f"{path}{end}"):
            raise OutputError(
                f"{path} is open in another program, for {path}{end} exists: close it there first; if that program was "
                f"killed, that file holds its last changes and ogrinfo {path} brings them in"
            )


def read_contents(path: Path, names: Collection[str]) -> Contents:
    """What is in the file; nothing where it is missing or empty. Raises OutputError for anything but a GeoPackage."""
    try:
        if not os.path.exists(path) or not os.path.getsize(path):
            return Contents()
        _check_whole(path)
        with _reading(path) as database:
            return _contents(database, {name.lower() for name in names})
    except sqlite3.Error as error:
        raise OutputError(
            f"{path} is a damaged GeoPackage or none ({error}), and it is not replaced: rename it first"
        ) from error
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(path, error) from error


def _check_whole(path: Path) -> None:
    with open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header.startswith(_SQLITE):
        raise OutputError(f"{path} is not a GeoPackage, and it is not replaced: rename it, or choose another")
    page, pages = int.from_bytes(header[16:18], "big"), int.from_bytes(header[28:32], "big")
    wanted = (65536 if page == 1 else page) * pages
    counted = header[24:28] == header[92:96]  # else the number of pages was written by a program that does not know it
    if len(header) < _HEADER_BYTES or (counted and os.path.getsize(path) < wanted):
        raise OutputError(
            f"{path} is a GeoPackage cut short ({os.path.getsize(path):,} of {wanted:,} bytes), and it is not "
            "replaced: rename it first"
        )


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, read only. No file appears beside it, so that a killed run leaves none."""
    with open(path, "rb") as file:
        write_ahead = file.read(_HEADER_BYTES)[18:19] == b"\2"  # reading with locks would make a -wal
    options = "mode=ro&immutable=1" if write_ahead else "mode=ro"
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{options}", uri=True)) as database:
        yield database


def tables_of(database: sqlite3.Connection) -> list[str]:
    """Names of its tables and views."""
    rows = database.execute("SELECT name FROM main.sqlite_master WHERE type IN ('table', 'view')")
    return [name for (name,) in rows]


def _contents(database: sqlite3.Connection, names: set[str]) -> Contents:
    tables = tables_of(database)
    known = {name.lower() for name in tables}
    if not known:
        return Contents()
    if not {"gpkg_contents", "gpkg_spatial_ref_sys"} <= known:
        raise sqlite3.DatabaseError("an SQLite database without the tables of a GeoPackage")
    ours = {name.lower() for name in _ours(database, known)}
    wanted = [name for name in tables if name.lower() in names]
    replaced = tuple(name for name in wanted if name.lower() in ours)
    foreign = tuple(name for name in wanted if name not in replaced)
    own = tuple(f"rtree_{name.lower()}_" for name in replaced)
    rest = [name for name in tables if not name.lower().startswith(("gpkg_", "sqlite_", *own))]
    others = [name for name in rest if name not in wanted and name.lower() not in ("layer_styles", "qgis_projects")]
    return Contents(
        replaced,
        foreign,
        tuple(name for name in others if not name.lower().startswith("rtree_")),
        not others and not foreign and not _has_additions(database, known, ours),
    )


def _ours(database: sqlite3.Connection, known: Collection[str]) -> list[str]:
    """Layers that aerialseg made: their description or their provenance says so."""
    found = database.execute(
        "SELECT table_name FROM gpkg_contents WHERE data_type = 'features' AND description IN (?, ?)",
        [POLYGONS.description, CLASSES.description],
    ).fetchall()
    if {"gpkg_metadata", "gpkg_metadata_reference"} <= set(known):
        found += database.execute(
            "SELECT table_name FROM gpkg_metadata_reference JOIN gpkg_metadata ON id = md_file_id "
            f"WHERE reference_scope = 'table' AND {_OUR_METADATA}"
        ).fetchall()
    return [name for (name,) in found if name]


def _has_additions(database: sqlite3.Connection, known: Collection[str], ours: Collection[str]) -> bool:
    """Whether somebody has put styles, projects or metadata of their own beside ours."""
    for table, is_ours in (("layer_styles", OUR_STYLE), ("qgis_projects", OUR_PROJECT)):
        if table in known and database.execute(f"SELECT 1 FROM {table} WHERE NOT coalesce({is_ours}, 0)").fetchone():
            return True
    if not {"gpkg_metadata", "gpkg_metadata_reference"} <= set(known):
        return False
    rows = database.execute(
        f"SELECT lower(table_name), {_OUR_METADATA}, {BY_US} "
        "FROM gpkg_metadata LEFT JOIN gpkg_metadata_reference ON id = md_file_id"
    )
    return any(not software and not (own and table in ours) for table, software, own in rows)


def copy_database(existing: Path, part: Path, more_bytes: int) -> None:
    """Copy a GeoPackage, page by page and under a read lock, so that nobody writes into it meanwhile.

    Raises ResourceError where the folder has no room for it and ``more_bytes``; OSError, sqlite3.Error.
    """
    wanted, free = os.path.getsize(existing) + more_bytes, shutil.disk_usage(part.parent).free
    if free < wanted:
        raise ResourceError(
            f"{part.parent} has {free / 1e6:,.0f} MB free, and {wanted / 1e6:,.0f} MB are wanted, for {existing.name} "
            "holds other layers and is copied: free some, or write to another file"
        )
    with _reading(existing) as source, closing(sqlite3.connect(part)) as target:
        target.execute("PRAGMA synchronous = OFF")  # flushed once, when it is published
        source.backup(target)
    shutil.copymode(existing, part)
    with closing(sqlite3.connect(part)) as target:
        target.execute("PRAGMA journal_mode = DELETE")  # else writing makes a -wal where the source had had one

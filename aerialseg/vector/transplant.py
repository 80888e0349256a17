"""Our new layers put into a copy of a GeoPackage that holds other things as well."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pyogrio.raw

from aerialseg.errors import OutputError
from aerialseg.files import identity
from aerialseg.raster.opening import name_for_pyogrio
from aerialseg.vector.existing import (
    BY_US,
    OUR_STYLE,
    SQLITE_LOGS,
    check_replaceable,
    copy_database,
    layer_names,
    tables_of,
)
from aerialseg.vector.geopackage import open_part, quoted
from aerialseg.vector.qgis_project import OUR_PROJECT
from aerialseg.vector.stream import write_reader

BATCH = 1000
"""Features in memory at a time."""

_ABOUT = ("gpkg_geometry_columns", "gpkg_extensions", "gpkg_ogr_contents", "gpkg_data_columns", "gpkg_contents")
"""Tables with rows about a table, which they call ``table_name``."""

_DESCRIPTIONS = (
    "layer_styles",
    "gpkg_data_columns",
    "gpkg_data_column_constraints",
    "gpkg_metadata",
    "gpkg_metadata_reference",
    "qgis_projects",
)

_STYLE_COLUMNS = (
    "f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, styleSLD, description, "
    "owner, ui, update_time"
)


def with_other_layers(new: Path, final: Path, layer: str, part: Path) -> Path:
    """The file to publish as ``final``: ``new`` itself, or ``part``, a copy of ``final`` with the layers of ``new``.

    new: a finished GeoPackage with ``layer`` and perhaps its dissolved twin. A copy is made where ``final`` holds
    anything else than those layers made earlier. Raises UsageError, OutputError, ResourceError, and what GDAL and
    SQLite raise.
    """
    with closing(open_part(new)) as database:
        present = [name for name in layer_names(layer) if name in tables_of(database)]
    found = check_replaceable(final, layer, dissolve=len(present) > 1)
    if found.plain:
        return new
    before = identity(final)
    remove_part(part)
    try:
        copy_database(final, part, os.path.getsize(new))
        _drop_layers(part, found.replaced)
        for name in present:
            _copy_layer(new, part, name)
        _copy_descriptions(new, part, present)
        if identity(final) != before:
            raise OutputError(f"{final} was changed by another program meanwhile and is left as it is: run again")
    except BaseException:
        with suppress(OSError):
            remove_part(part)
        raise
    return part


def remove_part(part: Path) -> None:
    """Remove an unfinished GeoPackage and what SQLite keeps beside it. Raises OSError."""
    for end in ("", *SQLITE_LOGS):
        part.with_name(part.name + end).unlink(missing_ok=True)


def _drop_layers(part: Path, names: Sequence[str]) -> None:
    """Remove layers of ours and all that we wrote about them; styles, projects and metadata of others stay."""
    with closing(open_part(part)) as database, database:
        database.execute("BEGIN")
        known = tables_of(database)
        for name in names:
            for column in _geometry_columns(database, name):
                database.execute(f'DROP TABLE IF EXISTS "{quoted(f"rtree_{name}_{column}")}"')
            database.execute(f'DROP TABLE "{quoted(name)}"')
            for table in (table for table in _ABOUT if table in known):
                database.execute(f"DELETE FROM {table} WHERE lower(table_name) = lower(?)", [name])
            if "layer_styles" in known:
                database.execute(
                    f"DELETE FROM layer_styles WHERE lower(f_table_name) = lower(?) AND {OUR_STYLE}", [name]
                )
            if "qgis_projects" in known:
                database.execute(f"DELETE FROM qgis_projects WHERE lower(name) = lower(?) AND {OUR_PROJECT}", [name])
            if "gpkg_metadata_reference" in known:
                _drop_metadata(database, name)


def _geometry_columns(database: sqlite3.Connection, name: str) -> list[str]:
    rows = database.execute("SELECT column_name FROM gpkg_geometry_columns WHERE lower(table_name) = lower(?)", [name])
    return [column for (column,) in rows]


def _drop_metadata(database: sqlite3.Connection, name: str) -> None:
    about = "lower(table_name) = lower(?) AND md_file_id IN (SELECT id FROM gpkg_metadata WHERE " + BY_US + ")"
    ids = database.execute(f"SELECT DISTINCT md_file_id FROM gpkg_metadata_reference WHERE {about}", [name]).fetchall()
    database.execute(f"DELETE FROM gpkg_metadata_reference WHERE {about}", [name])
    database.executemany(
        "DELETE FROM gpkg_metadata WHERE id = ?1 "
        "AND NOT EXISTS (SELECT 1 FROM gpkg_metadata_reference WHERE md_file_id = ?1 OR md_parent_id = ?1)",
        ids,
    )


def _copy_layer(new: Path, part: Path, name: str) -> None:
    """Features through GDAL, which finds the coordinate system's row in a table that others have filled.

    What is said about the layer follows by SQL: told of metadata, GDAL writes that of all other layers anew.
    """
    with (
        name_for_pyogrio(new) as file,
        pyogrio.raw.open_arrow(file, layer=name, batch_size=BATCH, use_pyarrow=True) as (found, reader),
    ):
        write_reader(part, name, reader, geometry_type=found["geometry_type"], crs=found["crs"])


def _copy_descriptions(new: Path, part: Path, names: Sequence[str]) -> None:
    """Styles, names and comments of the fields, provenance, time of change; then every feature must be there."""
    with closing(open_part(part)) as database:
        database.execute("ATTACH ? AS new", [str(new)])
        with database:
            database.execute("BEGIN")
            for name in names:  # first, in place: a row that grows would leave the time of writing in unused bytes
                _copy_column(database, "last_change", name)
            _make_tables(database)
            for name in names:
                _copy_rows(database, name)
                _copy_metadata(database, name)
        for name in names:
            count = f'SELECT count(*) FROM {{}}."{quoted(name)}"'
            found, wanted = (database.execute(count.format(where)).fetchone()[0] for where in ("main", "new"))
            if found != wanted:
                raise OSError(f"only {found} of {wanted} arrived")


def _make_tables(database: sqlite3.Connection) -> None:
    """Tables about layers that the new file has and the copy lacks, and what the standard wants to be said of them."""
    there = {name.lower() for name in tables_of(database)}
    for table in (table for table in _DESCRIPTIONS if table not in there):
        for (statement,) in database.execute("SELECT sql FROM new.sqlite_master WHERE name = ?", [table]).fetchall():
            database.execute(statement)
        for about in ("gpkg_contents", "gpkg_extensions"):
            database.execute(f"INSERT INTO main.{about} SELECT * FROM new.{about} WHERE table_name = ?", [table])


def _copy_rows(database: sqlite3.Connection, name: str) -> None:
    # A default style that somebody has saved for this layer stays the default.
    database.execute(
        f"INSERT INTO main.layer_styles ({_STYLE_COLUMNS}, useAsDefault) SELECT {_STYLE_COLUMNS}, useAsDefault "
        "AND NOT EXISTS (SELECT 1 FROM main.layer_styles WHERE lower(f_table_name) = lower(?1) AND useAsDefault) "
        "FROM new.layer_styles WHERE f_table_name = ?1",
        [name],
    )
    database.execute("DELETE FROM main.gpkg_data_columns WHERE table_name = ?", [name])  # GDAL took some over
    columns = "table_name, column_name, name, title, description"
    database.execute(
        f"INSERT INTO main.gpkg_data_columns ({columns}) SELECT {columns} FROM new.gpkg_data_columns "
        "WHERE table_name = ?",
        [name],
    )
    _copy_column(database, "description", name)
    if database.execute("SELECT 1 FROM new.sqlite_master WHERE name = 'qgis_projects'").fetchone():
        # One that somebody has saved by this name stays.
        database.execute(
            "INSERT OR IGNORE INTO main.qgis_projects (name, metadata, content) "
            "SELECT name, metadata, content FROM new.qgis_projects WHERE name = ?",
            [name],
        )


def _copy_column(database: sqlite3.Connection, column: str, name: str) -> None:
    """What ``gpkg_contents`` of the new file says of a layer, in one column."""
    database.execute(
        f"UPDATE main.gpkg_contents SET {column} = "
        f"(SELECT {column} FROM new.gpkg_contents WHERE table_name = ?1) WHERE table_name = ?1",
        [name],
    )


def _copy_metadata(database: sqlite3.Connection, name: str) -> None:
    if not database.execute("SELECT 1 FROM new.sqlite_master WHERE name = 'gpkg_metadata_reference'").fetchone():
        return
    rows = database.execute(
        "SELECT md_scope, md_standard_uri, mime_type, metadata, timestamp "
        "FROM new.gpkg_metadata JOIN new.gpkg_metadata_reference ON id = md_file_id WHERE table_name = ?",
        [name],
    ).fetchall()
    for *values, timestamp in rows:
        made = database.execute(
            "INSERT INTO main.gpkg_metadata (md_scope, md_standard_uri, mime_type, metadata) VALUES (?, ?, ?, ?)",
            values,
        )
        database.execute(
            "INSERT INTO main.gpkg_metadata_reference (reference_scope, table_name, timestamp, md_file_id) "
            "VALUES ('table', ?, ?, ?)",
            [name, timestamp, made.lastrowid],
        )

"""What a GeoPackage holds beside its features: styles, names and comments of the fields, provenance."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from aerialseg.legend import Legend
from aerialseg.vector.fields import GEOMETRY, LayerKind
from aerialseg.vector.qgis import layer_styles
from aerialseg.vector.qgis_metadata import STANDARD, qgis_metadata
from aerialseg.vector.qgis_project import Project, VectorEntry, project_row
from aerialseg.vector.sld import sld

_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME
)
"""

# The extension "Schema" of the GeoPackage standard (OGC 12-128r18, annex F.9).
_SCHEMA = """
CREATE TABLE IF NOT EXISTS gpkg_data_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT, mime_type TEXT,
    constraint_name TEXT,
    CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name), CONSTRAINT gdc_tn UNIQUE (table_name, name)
);
CREATE TABLE IF NOT EXISTS gpkg_data_column_constraints (
    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC, min_is_inclusive BOOLEAN,
    max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value)
);
"""
PROJECTS = "qgis_projects"
_PROJECTS = f"CREATE TABLE {PROJECTS}(name TEXT PRIMARY KEY, metadata BLOB, content BLOB)"
"""As QGIS makes it."""
_SCHEMA_URL = "http://www.geopackage.org/spec121/#extension_schema"


@dataclass(frozen=True, slots=True)
class Written:
    """A layer that has been written: its kind, how many features, and the classes that occur in it."""

    kind: LayerKind
    features: int
    classes: frozenset[int]


@dataclass(frozen=True, slots=True)
class About:
    """What the layers of a file have in common: legend, coordinate system (WKT), provenance, the project for QGIS."""

    legend: Legend
    crs: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    project: Project | None = None


def complete_geopackage(path: Path, layers: Mapping[str, Written], about: About, when: str) -> dict[str, int]:
    """Add styles, descriptions of the fields and QGIS's metadata, set the time of change; features in each layer.

    ``when`` is an ISO 8601 time in UTC. Raises sqlite3.Error.
    """
    with closing(open_part(path)) as database:
        with database:
            _add_styles(database, layers, about.legend, when)
            if about.project and about.project.spoken:
                _add_project(database, layers, about, about.project, when)
        database.executescript(_SCHEMA)
        with database:
            _describe_fields(database, layers)
            database.execute("UPDATE gpkg_contents SET last_change = ?", [when])
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'gpkg_metadata_reference'").fetchone():
                for layer, written in layers.items():
                    _add_metadata(database, layer, written, about)
                database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", [when])
        return {layer: database.execute(f'SELECT count(*) FROM "{quoted(layer)}"').fetchone()[0] for layer in layers}


def open_part(path: Path) -> sqlite3.Connection:
    """An unfinished file: it is flushed once, when it is published, and thrown away where something fails."""
    database = sqlite3.connect(path)
    for setting in (
        "synchronous",
        "journal_mode",
        "secure_delete",
    ):  # the last two would hold a dropped layer in memory
        database.execute(f"PRAGMA {setting} = OFF")
    return database


def _add_styles(database: sqlite3.Connection, layers: Mapping[str, Written], legend: Legend, when: str) -> None:
    database.execute(_STYLES)
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
        [when],
    )
    for layer, written in layers.items():
        for number, style in enumerate(layer_styles(legend, written.classes, written.kind)):
            described = sld(legend, written.classes, layer=layer) if number == 0 else ""
            row = ["", "", layer, GEOMETRY, style.name, style.qml, described, number == 0, style.description]
            database.execute(
                "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, "
                "styleName, styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '', NULL, ?)",
                [*row, when],
            )


def _add_project(
    database: sqlite3.Connection, layers: Mapping[str, Written], about: About, project: Project, when: str
) -> None:
    """All layers in one project, called as the first of them."""
    entries = [
        VectorEntry(
            name,
            title,
            one.kind.geometry,
            layer_styles(about.legend, one.classes, one.kind),
            _metadata_text(database, name, one, about),
        )
        for (name, one), title in zip(layers.items(), ("Land cover", "Land cover by class"), strict=False)
    ]
    database.execute(_PROJECTS)
    row = project_row(project, entries, about.legend, about.crs, _extent(database, entries[0].layer), when)
    database.execute(f"INSERT INTO {PROJECTS} (name, metadata, content) VALUES (?, ?, ?)", row)


def _add_metadata(database: sqlite3.Connection, layer: str, written: Written, about: About) -> None:
    """What QGIS shows of the layer; GDAL has written the provenance itself already."""
    text = _metadata_text(database, layer, written, about)
    made = database.execute(
        "INSERT INTO gpkg_metadata (md_scope, md_standard_uri, mime_type, metadata) "
        "VALUES ('dataset', ?, 'text/xml', ?)",
        [STANDARD, text],
    )
    database.execute(
        "INSERT INTO gpkg_metadata_reference (reference_scope, table_name, md_file_id) VALUES ('table', ?, ?)",
        [layer, made.lastrowid],
    )


def _metadata_text(database: sqlite3.Connection, layer: str, written: Written, about: About) -> str:
    names = [entry.name for entry in about.legend if entry.id in written.classes]
    return qgis_metadata(about.metadata, written.kind.description, names, _extent(database, layer), about.crs)


def _extent(database: sqlite3.Connection, layer: str) -> tuple[float | None, ...]:
    """Left, bottom, right and top; None where the layer is empty."""
    query = "SELECT min_x, min_y, max_x, max_y FROM gpkg_contents WHERE table_name = ?"
    found: tuple[float | None, ...] = database.execute(query, [layer]).fetchone()
    return found


def _describe_fields(database: sqlite3.Connection, layers: Mapping[str, Written]) -> None:
    for table in ("gpkg_data_columns", "gpkg_data_column_constraints"):
        database.execute(
            "INSERT OR IGNORE INTO gpkg_extensions (table_name, column_name, extension_name, definition, scope) "
            "VALUES (?, NULL, 'gpkg_schema', ?, 'read-write')",
            [table, _SCHEMA_URL],
        )
    database.executemany(
        "INSERT INTO gpkg_data_columns (table_name, column_name, name, title, description) VALUES (?, ?, ?, ?, ?)",
        [
            (layer, field.name, field.alias, field.alias, field.comment)
            for layer, written in layers.items()
            for field in written.kind.fields
        ],
    )


def quoted(name: str) -> str:
    """A name as it stands between double quotes in SQL."""
    return name.replace('"', '""')

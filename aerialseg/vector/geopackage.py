"""A GeoPackage of polygons, written in parts, with its style, ready for QGIS."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from aerialseg.legend import Legend
from aerialseg.raster.sink import cannot_write, publish
from aerialseg.vector.qgis import qml, sld

FIELDS = ("class_id", "class_name", "area_m2", "confidence")

_STYLES = """
CREATE TABLE layer_styles (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    f_table_catalog TEXT(256), f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256),
    styleName TEXT(30), styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30),
    ui TEXT(30), update_time DATETIME
)
"""


@dataclass(frozen=True, slots=True)
class Features:
    """Polygons and their attributes; ``confidence`` is NaN where there is none."""

    polygons: NDArray[np.object_]
    class_id: NDArray[np.int32]
    area_m2: NDArray[np.float64]
    confidence: NDArray[np.float64]


class GeoPackage:
    """A new file of one polygon layer: ``write`` adds features, ``finish`` adds the style, checks and publishes.

    A context manager. Until ``finish`` the file has another name beside its own; if that is never reached, it is
    removed and an older file of the name stays as it was. Everything that goes wrong is an OutputError with the path.
    """

    def __init__(
        self, path: Path, *, layer: str, crs: str | None, legend: Legend, metadata: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.layer, self.crs, self.legend = Path(path).absolute(), layer, crs, legend
        self.metadata = dict(metadata or {})
        self.count = 0
        self._part = part_of(self.path)
        self._created = False

    def __enter__(self) -> GeoPackage:
        if self.path.is_dir():
            raise cannot_write(self.path, IsADirectoryError("it is a folder"))
        try:
            self._remove_part()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._remove_part()

    def _remove_part(self) -> None:
        for name in (self._part, *_beside(self._part)):
            name.unlink(missing_ok=True)

    def write(self, features: Features) -> None:
        """Add features, in their order."""
        names = {entry.id: entry.name for entry in self.legend}
        columns = [
            features.class_id.astype(np.int32),
            np.array([names[one] for one in features.class_id.tolist()], dtype=object),
            features.area_m2,
            features.confidence,
        ]
        created = {} if self._created else self._creation()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
                pyogrio.raw.write(
                    str(self._part),
                    shapely.to_wkb(features.polygons, flavor="iso"),
                    columns,
                    np.array(FIELDS, dtype=object),
                    layer=self.layer,
                    driver="GPKG",
                    geometry_type="Polygon",
                    promote_to_multi=False,
                    crs=self.crs,
                    append=self._created,
                    **created,
                )
        except (DataSourceError, DataLayerError, FeatureError, FieldError, GeometryError, CRSError, OSError) as error:
            raise cannot_write(self.path, error) from error
        self._created = True
        self.count += len(features.class_id)

    def finish(self, timestamp: datetime | None = None) -> None:
        """Add the style (and an empty layer if nothing was written), set the time of change, check, publish."""
        if not self._created:
            nothing = np.zeros(0)
            self.write(Features(np.array([], dtype=object), nothing.astype(np.int32), nothing, nothing))
        when = (timestamp or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        try:
            with closing(sqlite3.connect(self._part)) as database, database:
                self._add_style(database, when)
                database.execute("UPDATE gpkg_contents SET last_change = ?", [when])
                if self.metadata:
                    database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", [when])
                found = database.execute(f'SELECT count(*) FROM "{_quoted(self.layer)}"').fetchone()[0]
        except sqlite3.Error as error:
            raise cannot_write(self.path, error) from error
        if found != self.count:
            raise cannot_write(self.path, OSError(f"only {found} of {self.count} polygons arrived"))
        try:
            for name in _beside(self.path):  # of an older file: with the new one they would be its corruption
                if os.path.lexists(name):
                    name.unlink()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        publish(self._part, self.path)

    def _creation(self) -> dict[str, object]:
        return {
            "dataset_options": {"VERSION": "1.3"},
            "layer_options": {"SPATIAL_INDEX": "YES", "GEOMETRY_NAME": "geom", "FID": "fid"},
            # Not on the file: readers (GDAL 3.12) would put an .aux.xml beside a GeoPackage with metadata of its own.
            "layer_metadata": self.metadata or None,
        }

    def _add_style(self, database: sqlite3.Connection, when: str) -> None:
        database.execute(_STYLES)
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change, srs_id) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?, 0)",
            [when],
        )
        row = ["", "", self.layer, "geom", "land cover", qml(self.legend), sld(self.legend, layer=self.layer)]
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 1, 'classes and colours of the legend', '', NULL, ?)",
            [*row, when],
        )


def part_of(path: Path) -> Path:
    """The hidden name beside ``path`` for the unfinished file: GDAL wants its ending, the system a short one."""
    return path.with_name(f".{sha256(os.fsencode(path.name)).hexdigest()[:16]}.part.gpkg")


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def _quoted(name: str) -> str:
    return name.replace('"', '""')

"""A GeoPackage of polygons, written in parts, with its style, ready for QGIS."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import numpy as np
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from aerialseg.errors import OutputError
from aerialseg.legend import Legend
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
    """A new file of one polygon layer: ``write`` adds features, ``finish`` adds the style and checks. Context manager.

    Everything that goes wrong is an OutputError with the path. Nothing is left beside the file.
    """

    def __init__(
        self, path: Path, *, layer: str, crs: str | None, legend: Legend, metadata: Mapping[str, str] | None = None
    ) -> None:
        self.path, self.layer, self.crs, self.legend = Path(path), layer, crs, legend
        self.metadata = dict(metadata or {})
        self.count = 0
        self._created = False

    def __enter__(self) -> GeoPackage:
        try:
            for name in (self.path, *_beside(self.path)):
                name.unlink(missing_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in _beside(self.path):
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
                    str(self.path.absolute()),
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
            raise self._failed(error) from error
        self._created = True
        self.count += len(features.class_id)

    def finish(self, timestamp: datetime | None = None) -> None:
        """Add the style (an empty layer, too, if nothing was written), set the time of change, check the file."""
        if not self._created:
            nothing = np.zeros(0)
            self.write(Features(np.array([], dtype=object), nothing.astype(np.int32), nothing, nothing))
        when = (timestamp or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        try:
            with closing(sqlite3.connect(self.path)) as database, database:
                self._add_style(database, when)
                database.execute("UPDATE gpkg_contents SET last_change = ?", [when])
                if self.metadata:
                    database.execute("UPDATE gpkg_metadata_reference SET timestamp = ?", [when])
                found = database.execute(f'SELECT count(*) FROM "{_quoted(self.layer)}"').fetchone()[0]
        except sqlite3.Error as error:
            raise self._failed(error) from error
        if found != self.count:
            raise OutputError(f"{self.path} holds {found} of {self.count} polygons: is the disk full?")

    def _creation(self) -> dict[str, object]:
        return {
            "dataset_options": {"VERSION": "1.3"},
            "layer_options": {"SPATIAL_INDEX": "YES", "GEOMETRY_NAME": "geom", "FID": "fid"},
            "dataset_metadata": self.metadata or None,
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

    def _failed(self, error: Exception) -> OutputError:
        return OutputError(f"cannot write {self.path}: {error}. Is the folder writable and the disk not full?")


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]


def _quoted(name: str) -> str:
    return name.replace('"', '""')

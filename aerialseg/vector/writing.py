"""New files of layers: written under hidden names beside their own, checked, and published together."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyogrio.raw
from pyogrio.errors import CRSError, DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError

from aerialseg.errors import AerialsegError, ResourceError
from aerialseg.files import cannot_write, move_into_place
from aerialseg.legend import Legend
from aerialseg.raster.opening import name_for_pyogrio
from aerialseg.vector.fields import CLASSES, METRES, POLYGONS, Features, LayerKind, Measures
from aerialseg.vector.formats import (
    BY_CLASS,
    GEOJSON,
    GEOPACKAGE,
    GEOPARQUET,
    STYLE,
    VERTEX_BYTES,
    by_class_file,
    ending_of,
    layer_files,
)
from aerialseg.vector.geopackage import About, Written, complete_geopackage
from aerialseg.vector.parquet import count_rows, write_parquet
from aerialseg.vector.qgis import qml
from aerialseg.vector.qgis_project import Project
from aerialseg.vector.stream import write_stream
from aerialseg.vector.transplant import remove_part, with_other_layers

logger = logging.getLogger(__name__)

WRITE_ERRORS = (
    DataSourceError,
    DataLayerError,
    FeatureError,
    FieldError,
    GeometryError,
    CRSError,
    OSError,
    RuntimeError,
    pa.ArrowException,
    sqlite3.Error,
)

FEATURE_BYTES = 400
MANY_VERTICES = 1_000_000
"""From here on a GeoJSON is too large to be of use: 45 MB, and readers take it into memory whole."""
MAX_FEATURE_BYTES = 1_000_000_000
"""Of one geometry: what SQLite takes, and half of what FlatGeobuf and Arrow take."""


class NewLayers:
    """The layer ``output`` and, where wanted, the dissolved one: ``write``, ``write_by_class``, then ``finish``.

    A context manager. Until ``finish`` the files have other names beside their own; if that is never reached, they are
    removed and older files stay as they were. Of a GeoPackage only layers of these names are replaced. Everything that
    goes wrong in writing is an OutputError with the path. ``measures``: in which unit areas and lengths are.
    ``project``: what a GeoPackage's project for QGIS shows besides the layers; None: it has none.
    """

    def __init__(
        self,
        output: Path,
        *,
        layer: str,
        crs: str | None,
        legend: Legend,
        metadata: Mapping[str, str] | None = None,
        dissolve: bool = False,
        measures: Measures = METRES,
        project: Project | None = None,
    ) -> None:
        self.output, self.layer, self.crs, self.legend = Path(output).absolute(), layer, crs, legend
        self.metadata, self.measures, self.project = dict(metadata or {}), measures, project
        self.files = layer_files(self.output, dissolve=dissolve)
        self._written: dict[str, tuple[Path, Written]] = {}

    def __enter__(self) -> NewLayers:
        for file in self.files:
            if file.is_dir():
                raise cannot_write(file, IsADirectoryError("it is a folder"))
        try:
            remove_parts(self.files)
        except OSError as error:
            raise cannot_write(self.output, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            remove_parts(self.files)

    def write(self, features: Iterator[Features]) -> None:
        """Write the polygons, in their order."""
        self._write(self.output, self.layer, POLYGONS, features)

    def write_by_class(self, features: Iterator[Features]) -> None:
        """Write the dissolved layer: one multipolygon for each class."""
        self._write(by_class_file(self.output), self.layer + BY_CLASS, CLASSES, features)

    def _write(self, file: Path, layer: str, kind: LayerKind, features: Iterator[Features]) -> None:
        counter, kind = _Counter(features), self.measures.of(kind)
        part = part_of(file)
        try:
            if ending_of(file) == GEOPARQUET:
                write_parquet(part, kind, iter(counter), legend=self.legend, crs=self.crs, metadata=self.metadata)
            else:
                about = {} if self._written else self.metadata  # a GeoPackage says it once
                write_stream(part, layer, kind, iter(counter), legend=self.legend, crs=self.crs, metadata=about)
            if ending_of(file) != GEOPACKAGE:
                part_of(file.with_suffix(STYLE)).write_text(qml(self.legend, counter.classes, kind), encoding="utf-8")
        except WRITE_ERRORS as error:
            if counter.failed:
                raise
            raise cannot_write(file, error) from error
        self._written[layer] = file, Written(kind, counter.count, frozenset(counter.classes))

    def finish(self, timestamp: datetime) -> None:
        """Add styles and descriptions, check that everything has arrived, give the files their names.

        timestamp: time of change that a GeoPackage notes, in UTC.
        """
        when = timestamp.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        for file in {file for file, _ in self._written.values()}:
            try:
                self._complete(file, when)
            except WRITE_ERRORS as error:
                raise cannot_write(file, error) from error
        for file in reversed(self.files):  # the layer itself comes last: where it is, the rest is
            move_into_place(self._with_others(file), file)

    def _with_others(self, file: Path) -> Path:
        """The finished file; of a GeoPackage that held other layers before, one that holds them still."""
        part = part_of(file)
        if file.suffix.lower() != GEOPACKAGE:
            return part
        try:
            return with_other_layers(part, file, self.layer, part_of(part))
        except WRITE_ERRORS as error:
            if isinstance(error, AerialsegError):
                raise
            raise cannot_write(file, error) from error

    def _complete(self, file: Path, when: str) -> None:
        part = part_of(file)
        written = {layer: what for layer, (where, what) in self._written.items() if where == file}
        if ending_of(file) != GEOPACKAGE:
            [what] = written.values()
            _expect(_found(part, what.features), what.features)
            return
        about = About(self.legend, self.crs, self.metadata, self.project)
        found = complete_geopackage(part, written, about, when)
        for layer, what in written.items():
            _expect(found[layer], what.features)


class _Counter:
    """Counts features and notes their classes on their way, and knows whether an error was theirs."""

    def __init__(self, features: Iterator[Features]) -> None:
        self._features = features
        self.count, self.failed = 0, False
        self.classes: set[int] = set()

    def __iter__(self) -> Iterator[Features]:
        try:
            for part in self._features:
                self.count += len(part)
                self.classes.update(np.unique(part.columns["class_id"]).tolist())
                yield part
        except GeneratorExit:
            raise
        except BaseException:
            self.failed = True
            raise


def _found(part: Path, count: int) -> int:
    """Features in a finished file; the end of the file must be there."""
    if part.suffix == GEOPARQUET:
        return count_rows(part)
    if part.suffix == GEOJSON:
        with open(part, "rb") as file:
            file.seek(max(0, os.path.getsize(part) - 16))
            return count if file.read().rstrip().endswith(b"}") else -1
    with name_for_pyogrio(part) as name:
        if count:  # FlatGeobuf: the last feature reaches to the end of the file
            pyogrio.raw.read(name, columns=[], skip_features=count - 1, max_features=1)
        return int(pyogrio.read_info(name, force_feature_count=True)["features"])


def _expect(found: int, count: int) -> None:
    if found != count:
        raise OSError(f"not all of its {count} features arrived" if found < 0 else f"only {found} of {count} arrived")


def check_room(output: Path, features: int, vertices: int, largest: int, *, dissolve: bool) -> None:
    """Raise ResourceError where the folder has less room than the files may take, or a geometry is too large.

    ``largest``: vertices of the largest geometry.
    """
    if largest * 16 > MAX_FEATURE_BYTES:
        raise ResourceError(
            f"one geometry of {output.name} would have {largest:,} vertices, and {MAX_FEATURE_BYTES // 16:,} fit: "
            "simplify more (--simplify), merge small regions (--min-area)" + (" or leave out --dissolve" * dissolve)
        )
    if ending_of(output) == GEOJSON and vertices > MANY_VERTICES:
        logger.warning(
            "%s will have %s vertices: few programs open such a GeoJSON; .gpkg, .fgb and .parquet are made for it",
            output.name,
            f"{vertices:,}",
        )
    wanted = (1 + dissolve) * (features * FEATURE_BYTES + vertices * VERTEX_BYTES[ending_of(output)])
    try:
        free = shutil.disk_usage(output.parent).free
    except OSError as error:
        raise cannot_write(output, error) from error
    if free < wanted:
        raise ResourceError(
            f"{output.parent} has {free / 1e6:,.0f} MB free and the layer may take {wanted / 1e6:,.0f} MB: free some, "
            "or write it elsewhere"
        )


def part_of(path: Path) -> Path:
    """The hidden name beside ``path`` for the unfinished file: GDAL wants its ending, the system a short one."""
    return path.with_name(f".{sha256(os.fsencode(path.name)).hexdigest()[:16]}.part{path.suffix.lower()}")


def remove_parts(files: tuple[Path, ...]) -> None:
    """Remove what an unfinished writing of these files has left. Raises OSError."""
    for file in files:
        remove_part(part_of(file))
        remove_part(part_of(part_of(file)))

"""Features into a file through GDAL, as one Arrow stream: one transaction, and one batch in memory at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyogrio.raw

from aerialseg.legend import Legend
from aerialseg.raster.opening import name_for_pyogrio
from aerialseg.vector.fields import GEOMETRY, Features, LayerKind, to_batch
from aerialseg.vector.formats import FLATGEOBUF, GEOJSON, GEOPACKAGE

DRIVERS = {GEOPACKAGE: "GPKG", FLATGEOBUF: "FlatGeobuf", GEOJSON: "GeoJSON"}

_DATASET = {GEOPACKAGE: {"VERSION": "1.3"}}
_LAYER = {
    GEOPACKAGE: {"SPATIAL_INDEX": "YES", "GEOMETRY_NAME": GEOMETRY, "FID": "fid"},
    FLATGEOBUF: {"SPATIAL_INDEX": "YES"},
    # 1e-9 degrees are a tenth of a millimetre: with the usual 7 digits polygons of small pixels would not be valid.
    GEOJSON: {"RFC7946": "YES", "COORDINATE_PRECISION": "9"},
}


def write_stream(
    path: Path,
    layer: str,
    kind: LayerKind,
    features: Iterator[Features],
    *,
    legend: Legend,
    crs: str | None,
    metadata: Mapping[str, str],
) -> None:
    """Write the features as a layer of a new file, or as another layer of the GeoPackage that is there.

    FlatGeobuf gets its spatial index: GDAL writes a copy beside the file and sorts it, with some 80 bytes of memory a
    feature. What the iterator raises is raised; what GDAL says is an error of pyogrio.
    """
    feed = _Feed(features, kind, legend)
    try:
        write_reader(
            path,
            layer,
            pa.RecordBatchReader.from_batches(kind.schema, iter(feed)),
            geometry_type=kind.geometry,
            description=kind.description,
            crs=crs,
            metadata=metadata,
        )
    finally:
        feed.reraise()


def write_reader(
    path: Path,
    layer: str,
    reader: pa.RecordBatchReader,
    *,
    geometry_type: str,
    crs: str | None,
    description: str = "",
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write Arrow batches with WKB in ``geom`` as a layer: see `write_stream`. What GDAL says is pyogrio's error."""
    ending = path.suffix
    options = _LAYER[ending] | ({"DESCRIPTION": description} if ending == GEOPACKAGE and description else {})
    with warnings.catch_warnings(), name_for_pyogrio(path) as name:
        warnings.filterwarnings("ignore", message="'crs' was not provided", category=UserWarning)
        pyogrio.raw.write_arrow(
            reader,
            name,
            layer=layer,
            driver=DRIVERS[ending],
            geometry_name=GEOMETRY,
            geometry_type=geometry_type,
            crs=crs,
            dataset_options=_DATASET.get(ending, {}),
            layer_options=options,
            # Not on the file: GDAL 3.12 would put an .aux.xml beside a GeoPackage with metadata of its own.
            layer_metadata=dict(metadata or {}) or None,
        )


class _Feed:
    """Arrow batches of the features; an error on the way is kept, for through Arrow only its text arrives."""

    def __init__(self, features: Iterator[Features], kind: LayerKind, legend: Legend) -> None:
        self._features, self._kind, self._legend = features, kind, legend
        self._error: BaseException | None = None

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            for part in self._features:
                yield to_batch(part, self._kind, self._legend)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._error = error
            raise

    def reraise(self) -> None:
        if self._error is not None:
            raise self._error

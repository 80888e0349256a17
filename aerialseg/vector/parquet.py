"""GeoParquet 1.1, which the GDAL inside pyogrio cannot write: row group by row group, with bounding boxes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from aerialseg.legend import Legend
from aerialseg.vector.fields import Features, LayerKind, to_batch

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_BBOX = pa.struct([(side, pa.float64()) for side in _SIDES])


def write_parquet(
    path: Path,
    kind: LayerKind,
    features: Iterator[Features],
    *,
    legend: Legend,
    crs: str | None,
    metadata: Mapping[str, str],
) -> None:
    """Write the features as a GeoParquet file, each batch a row group (so memory holds one).

    Columns are those of ``kind``, then ``geometry`` (WKB, shells counter-clockwise) and its covering ``bbox``, by whose
    statistics readers skip row groups. Compressed with ZSTD. ``metadata`` goes into the file's key-value metadata.
    """
    about = {**metadata, "geo": json.dumps(_geo(kind, crs))}
    fields = [
        pa.field(field.name, field.type, metadata={"alias": field.alias, "comment": field.comment})
        for field in kind.fields
    ]
    geometry, boxes = pa.field("geometry", pa.binary(), nullable=False), pa.field("bbox", _BBOX)
    schema = pa.schema([*fields, geometry, boxes], metadata=about)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in features:
            sides = shapely.bounds(part.geometries).T
            bbox = pa.StructArray.from_arrays([pa.array(side) for side in sides], fields=list(_BBOX))
            columns = to_batch(part, kind, legend).columns
            writer.write_batch(pa.RecordBatch.from_arrays([*columns, bbox], schema=schema))


def count_rows(path: Path) -> int:
    """Rows that a Parquet file says it has; to say so its end must be there."""
    return int(pq.read_metadata(path).num_rows)


def _geo(kind: LayerKind, crs: str | None) -> dict[str, Any]:
    """The metadata that makes a Parquet file a GeoParquet file (version 1.1.0)."""
    return {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": [kind.geometry],
                "crs": CRS.from_user_input(crs).to_json_dict() if crs else None,
                "orientation": "counterclockwise",
                "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
            }
        },
    }

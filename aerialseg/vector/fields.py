"""What a layer's table holds: fields with the names and comments that people see, and rows as Arrow batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from aerialseg.legend import Legend

GEOMETRY = "geom"


@dataclass(frozen=True, slots=True)
class Field:
    """One column: its Arrow type, and its name (``alias``) and explanation (``comment``) for people.

    decimals: shown of a number. on_update: QGIS's expression for the value after a polygon was changed.
    """

    name: str
    type: pa.DataType
    alias: str
    comment: str
    decimals: int | None = None
    on_update: str = ""


@dataclass(frozen=True, slots=True)
class LayerKind:
    """A kind of layer: type of geometry ("Polygon", "MultiPolygon"), what it is for, fields in their order."""

    geometry: str
    description: str
    fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def schema(self) -> pa.Schema:
        """The fields, then the geometry as WKB."""
        return pa.schema([(field.name, field.type) for field in self.fields] + [(GEOMETRY, pa.binary())])


_CLASS_ID = Field("class_id", pa.int32(), "Class ID", "Number of the class, as in the legend")
_CLASS_NAME = Field("class_name", pa.string(), "Class", "Name of the class, as in the legend")
_AREA = Field("area_m2", pa.float64(), "Area (m²)", "Area on the ground, as drawn, in square metres", 2)
_PERIMETER = Field(
    "perimeter_m", pa.float64(), "Perimeter (m)", "Length of all outlines on the ground, holes included, in metres", 2
)
_IN_PIXELS = {
    "area_m2": Field("area_m2", pa.float64(), "Area (px²)", "Area as drawn, in pixels: their size is not known", 1),
    "perimeter_m": Field(
        "perimeter_m", pa.float64(), "Perimeter (px)", "Length of all outlines, in pixels: their size is not known", 1
    ),
}
_CONFIDENCE = Field(
    "confidence",
    pa.float64(),
    "Confidence (mean)",
    "Mean confidence over the pixels as they were classified, 0 to 1",
    2,
)
_LOWEST = Field(
    "confidence_min",
    pa.float64(),
    "Confidence (lowest)",
    "Lowest confidence among the pixels as they were classified, 0 to 1",
    2,
)
_PIXELS = Field("pixels", pa.int64(), "Pixels", "Pixels of the class raster, after small regions were merged")
_CHECKED = Field("checked", pa.bool_(), "Checked", "Whether a person has checked the class of this polygon")
_PARTS = Field("parts", pa.int64(), "Parts", "Number of polygons of the class")

POLYGONS = LayerKind(
    "Polygon",
    "Land cover: every valid pixel in exactly one polygon",
    (_CLASS_ID, _CLASS_NAME, _AREA, _PERIMETER, _CONFIDENCE, _LOWEST, _PIXELS, _CHECKED),
)
CLASSES = LayerKind(
    "MultiPolygon",
    "Land cover: one multipolygon for each class",
    (_CLASS_ID, _CLASS_NAME, _AREA, _PERIMETER, _CONFIDENCE, _PIXELS, _PARTS),
)


@dataclass(frozen=True, slots=True)
class Measures:
    """How the measures of a layer are to be understood.

    metric: areas and lengths are in metres; else in pixels, of which nobody knows the size on the ground. on_update:
    field -> the same measure as an expression of QGIS, for polygons that are changed there.
    """

    metric: bool = True
    on_update: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: LayerKind) -> LayerKind:
        """The kind of layer with fields that say so."""
        fields = kind.fields if self.metric else [_IN_PIXELS.get(one.name, one) for one in kind.fields]
        return replace(kind, fields=tuple(replace(one, on_update=self.on_update.get(one.name, "")) for one in fields))


METRES = Measures()


@dataclass(frozen=True, slots=True)
class Features:
    """Rows of a layer: geometries, and by name all fields of its kind but ``class_name``. NaN stands for "none"."""

    geometries: NDArray[np.object_]
    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.geometries)


def to_batch(features: Features, kind: LayerKind, legend: Legend) -> pa.RecordBatch:
    """The rows as Arrow, with the names of their classes and WKB (ISO) as geometry."""
    ids = np.array([entry.id for entry in legend], np.int64)
    names = pa.array([entry.name for entry in legend], pa.string())
    columns = dict(features.columns)
    class_names = names.take(pa.array(np.searchsorted(ids, columns["class_id"])))
    arrays = [
        class_names if field.name == "class_name" else pa.array(columns[field.name], field.type, from_pandas=True)
        for field in kind.fields
    ]
    arrays.append(pa.array(shapely.to_wkb(features.geometries, flavor="iso"), pa.binary()))
    return pa.RecordBatch.from_arrays(arrays, schema=kind.schema)

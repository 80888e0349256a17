"""A layer of places to look at: squares with the class that the map has there, as outlines over the imagery."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aerialseg.files import cannot_write, move_into_place
from aerialseg.legend import Legend
from aerialseg.vector.fields import Features, Field, LayerKind
from aerialseg.vector.geopackage import About, Written, complete_geopackage, open_part
from aerialseg.vector.qgis import OUTLINES_STYLE
from aerialseg.vector.stream import write_stream
from aerialseg.vector.writing import WRITE_ERRORS, part_of, remove_parts

LAYER = "places"
KIND = LayerKind(
    "Polygon",
    "Places where a label helps most",
    (
        Field("rank", pa.int32(), "Rank", "1 is the place of the lowest confidence"),
        Field("class_id", pa.int32(), "Class ID", "Number of the class that most of the place has on the map"),
        Field("class_name", pa.string(), "Class", "Name of that class"),
        Field("confidence", pa.float64(), "Confidence (mean)", "Mean confidence over the pixels of the place, 0 to 1"),
        Field("checked", pa.bool_(), "Checked", "Whether all of the place is of this class, as a person has seen"),
    ),
)


def write_places(
    path: Path,
    squares: NDArray[np.object_],
    columns: Mapping[str, NDArray[Any]],
    legend: Legend,
    crs: str | None,
    made: datetime,
) -> None:
    """Write the GeoPackage ``path``. columns: rank, class_id and confidence. made: when, in UTC. Raises OutputError."""
    part = part_of(path)
    rows = Features(squares, {**columns, "checked": np.zeros(len(squares), np.bool_)})
    present = frozenset(np.unique(columns["class_id"]).tolist())
    try:
        remove_parts((path,))
        write_stream(part, LAYER, KIND, iter([rows]), legend=legend, crs=crs, metadata={})
        when = made.strftime("%Y-%m-%dT%H:%M:%S.000Z")
        complete_geopackage(part, {LAYER: Written(KIND, len(squares), present)}, About(legend, crs), when)
        with closing(open_part(part)) as database, database:
            database.execute("UPDATE layer_styles SET useAsDefault = (styleName = ?)", [OUTLINES_STYLE])
        move_into_place(part, path)
    except WRITE_ERRORS as error:
        raise cannot_write(path, error) from error
    finally:
        remove_parts((path,))

"""A layer of labels: polygons and their classes, in the colours of a legend, as a GeoPackage for QGIS."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.files import naming_errors, write_atomically
from aerialseg.legend import Legend
from aerialseg.raster.opening import name_for_pyogrio
from aerialseg.vector.fields import LayerKind
from aerialseg.vector.qgis import qml

LAYER, FIELD = "labels", "class"


def write_label_layer(
    path: Path, geometries: NDArray[np.object_], names: Sequence[str], legend: Legend, crs: str | None
) -> None:
    """Write the layer ``labels`` with the text field ``class``, styled, into a new GeoPackage. Raises OutputError."""
    import geopandas
    import pyogrio

    frame = geopandas.GeoDataFrame({FIELD: list(names)}, geometry=list(geometries), crs=crs)
    with write_atomically(path) as part, naming_errors(path), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a CRS pyogrio says so, and it is said already
        with name_for_pyogrio(part) as name:
            frame.to_file(name, layer=LAYER, driver="GPKG", engine="pyogrio")
            styles = style_table(
                {
                    LAYER: qml(
                        legend, [one.id for one in legend], LayerKind("Polygon", "", ()), field=FIELD, by_name=True
                    )
                }
            )
            pyogrio.write_dataframe(styles, name, layer="layer_styles", driver="GPKG", append=False, FID="id")


def style_table(styles: dict[str, str], called: str = "classes") -> Any:
    """The table in which QGIS looks for the styles (QML) of a GeoPackage's layers."""
    import pandas as pd

    now = pd.Timestamp.now("UTC").floor("s")
    rows = [
        {
            "f_table_catalog": "",
            "f_table_schema": "",
            "f_table_name": layer,
            "f_geometry_column": "geom",
            "styleName": called,
            "styleQML": style,
            "styleSLD": "",
            "useAsDefault": True,
            "description": called,
            "owner": "",
            "ui": None,
            "update_time": now,
        }
        for layer, style in styles.items()
    ]
    return pd.DataFrame(rows)

"""Where chips and blocks lie, and on which side: a GeoPackage to look at on the orthophoto in QGIS."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import shapely

from aerialseg.datasets.chipset import FOOTPRINT_LAYERS, ChipSet
from aerialseg.datasets.label_layer import style_table
from aerialseg.files import naming_errors
from aerialseg.legend import LandClass, Legend
from aerialseg.raster.opening import name_for_pyogrio
from aerialseg.vector.fields import LayerKind
from aerialseg.vector.qgis import qml

SIDES = Legend((LandClass(0, "learned from", (40, 110, 220)), LandClass(1, "held out", (240, 130, 20))))
_SEE_THROUGH = 'alpha="0.65"'


def write_footprints(path: Path, chips: ChipSet) -> None:
    """Write the layers ``chips`` and ``blocks``, with a style, into a new GeoPackage. Raises OutputError."""
    import geopandas
    import pyogrio

    crs = chips.views[0].geo.crs
    blocks = chips.blocks
    squares = geopandas.GeoDataFrame(
        {
            "scene": [block.name for block in blocks],
            "held_out": [int(held) for held in blocks.values()],
            "chips": [sum(chip.block == block for chip in chips.chips) for block in blocks],
        },
        geometry=[shapely.box(*block.bounds) for block in blocks],
        crs=crs,
    )
    area = chips.size[0] * chips.size[1]
    frames = geopandas.GeoDataFrame(
        {
            "frame": [chip.frame for chip in chips.chips],
            "scene": [chip.block.name for chip in chips.chips],
            "held_out": [int(chip.held_out) for chip in chips.chips],
            "ortho": [Path(chips.views[chip.ortho - 1].path).name for chip in chips.chips],
            "labelled": [round(sum(chip.pixels) / area, 3) for chip in chips.chips],
        },
        geometry=[shapely.Polygon(chip.corners) for chip in chips.chips],
        crs=crs,
    )
    with naming_errors(path), warnings.catch_warnings(), name_for_pyogrio(path) as name:
        warnings.simplefilter("ignore")  # without a CRS pyogrio says so, and it is said already
        for layer, frame in zip(FOOTPRINT_LAYERS, (squares, frames), strict=True):
            frame.to_file(name, layer=layer, driver="GPKG", engine="pyogrio")
        pyogrio.write_dataframe(_styles(), name, layer="layer_styles", driver="GPKG", append=False, FID="id")


def _styles() -> Any:
    kind = LayerKind("Polygon", "", ())
    style = qml(SIDES, [side.id for side in SIDES], kind, field="held_out").replace('alpha="1"', _SEE_THROUGH)
    return style_table(dict.fromkeys(("blocks", "chips"), style), "training or test set")

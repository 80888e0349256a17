"""Small pictures of class rasters, for reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.io import MemoryFile

from aerialseg.errors import InputError
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.opening import GDAL_ERRORS, environment, one_line, open_raster, quiet, shown


def class_thumbnail(path: Path, legend: Legend, side_px: int) -> bytes:
    """A PNG in the legend's colours of at most ``side_px`` pixels a side, nodata transparent. Raises InputError."""
    try:
        with environment(), open_raster(str(path)) as dataset:
            scale = min(1.0, side_px / max(dataset.shape))
            shape = tuple(max(1, round(side * scale)) for side in dataset.shape)
            classes = dataset.read(1, out_shape=shape)
        return _png(classes, legend)
    except GDAL_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot make a small picture of {shown(path)}: {one_line(error)}") from error


def _png(classes: np.ndarray, legend: Legend) -> bytes:
    height, width = classes.shape
    profile = {"driver": "PNG", "count": 1, "height": height, "width": width, "dtype": "uint8", "nodata": NODATA}
    colours = legend.colormap()
    if NODATA in classes:  # a value beyond the end of its palette is an error of PNG
        colours[NODATA] = (0, 0, 0, 0)
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with quiet(), memory.open(**profile) as file:
            file.write(classes, 1)
            file.write_colormap(1, colours)
        return bytes(memory.read())

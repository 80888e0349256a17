"""Whole small rasters written at once: what ``demo`` and the tests draw. Each appears at its name when it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rasterio
from affine import Affine

from aerialseg.legend import NODATA, Legend
from aerialseg.raster.sink import check_whole, writing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Transform = tuple[float, float, float, float, float, float]

TILED = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


def write_rgb(
    path: Path, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], *, transform: Transform, crs: str | None
) -> None:
    """Write uint8 (3, h, w) as a GeoTIFF with ``valid`` (h, w) as its internal mask. Raises OutputError."""
    _, height, width = pixels.shape
    profile = {
        **TILED,
        "count": 3,
        "height": height,
        "width": width,
        "dtype": "uint8",
        "photometric": "RGB",
        "predictor": 2,
    }
    with writing(path) as part:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(part, "w", transform=Affine(*transform), crs=crs, **profile) as file,
        ):
            file.write(pixels)
            file.write_mask(valid)
        check_whole(part)


def write_classes(
    path: Path, classes: NDArray[np.uint8], *, transform: Transform, crs: str | None, legend: Legend
) -> None:
    """Write uint8 class ids (h, w), 255 for none, as a GeoTIFF with the legend's colours. Raises OutputError."""
    height, width = classes.shape
    profile = {**TILED, "count": 1, "height": height, "width": width, "dtype": "uint8", "nodata": NODATA}
    with writing(path) as part:
        with rasterio.open(part, "w", transform=Affine(*transform), crs=crs, **profile) as file:
            file.write(classes, 1)
            file.write_colormap(1, legend.colormap())
        check_whole(part)

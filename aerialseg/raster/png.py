"""PNGs of pixels, without a place: what training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from aerialseg.raster.opening import quiet
from aerialseg.raster.sink import blaming


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 (h, w) in grey or (3, h, w) in colour. Raises OutputError."""
    bands = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = bands.shape
    profile = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8", "zlevel": 6}
    with blaming(path), rasterio.Env(GDAL_PAM_ENABLED="NO"), quiet(), rasterio.open(path, "w", **profile) as file:
        file.write(bands)

"""Whole small rasters written at once: what ``demo`` and the tests draw. Each appears at its name when it is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from aerialseg.errors import InputError
from aerialseg.files import naming_errors, one_line, printable, write_atomically
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.blocks import check_whole
from aerialseg.raster.classes import ClassFile, to_bytes
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.opening import GDAL_ERRORS, without_georef_warnings

TILED = {"driver": "GTiff", "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}


def write_rgb(path: Path, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], geo: GeoGrid) -> None:
    """Write uint8 (3, h, w) as a GeoTIFF with ``valid`` (h, w) as its internal mask. Raises OutputError."""
    profile = {**TILED, **geo.profile, "count": 3, "dtype": "uint8", "photometric": "RGB", "predictor": 2}
    with write_atomically(path, errors=GDAL_ERRORS) as part:
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(part, "w", **profile) as file,
        ):
            file.write(pixels)
            file.write_mask(valid)
        check_whole(part)


def write_classes(path: Path, classes: NDArray[np.uint8], geo: GeoGrid, legend: Legend) -> None:
    """Write uint8 class ids (h, w), 255 for none, as a GeoTIFF with the legend's colours. Raises OutputError."""
    profile = {**TILED, **geo.profile, "count": 1, "dtype": "uint8", "nodata": NODATA}
    with write_atomically(path, errors=GDAL_ERRORS) as part:
        with rasterio.open(part, "w", **profile) as file:
            file.write(classes, 1)
            file.write_colormap(1, legend.colormap())
        check_whole(part)


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 (h, w) in grey or (3, h, w) in colour. Raises OutputError."""
    bands = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = bands.shape
    profile = {"driver": "PNG", "count": count, "height": height, "width": width, "dtype": "uint8", "zlevel": 6}
    with (
        naming_errors(path, GDAL_ERRORS),
        rasterio.Env(GDAL_PAM_ENABLED="NO"),
        without_georef_warnings(),
        rasterio.open(path, "w", **profile) as file,
    ):
        file.write(bands)


def write_bands(path: Path, pixels: NDArray[np.uint8], names: Sequence[str] = ()) -> None:
    """Write uint8 (bands, h, w) as a GeoTIFF without a place, its bands described by ``names``. Raises OutputError."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "uint8"}
    with write_atomically(path, durable=False, errors=GDAL_ERRORS) as part:
        with (
            without_georef_warnings(),
            rasterio.open(part, "w", **profile, compress="deflate", predictor=2, photometric="MINISBLACK") as file,
        ):
            file.write(pixels)
            file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (count - 1)]
            for number, name in enumerate(names, start=1):
                file.set_band_description(number, name)
        check_whole(part)


def read_samples(path: str | Path, driver: str) -> NDArray[Any]:
    """Pixels (bands, h, w) in the type that the file stores; opens no file beside it. Raises InputError.

    driver: GDAL's name of the format, such as PNG or GTiff.
    """
    try:
        with (
            rasterio.Env(GDAL_PAM_ENABLED="NO", GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
            without_georef_warnings(),
            rasterio.open(Path(path), driver=driver) as file,
        ):
            samples: NDArray[Any] = file.read()
            return samples
    except GDAL_ERRORS as error:
        raise InputError(f"cannot read the image {path}: {one_line(error)}") from error


def class_thumbnail(path: Path, legend: Legend, side_px: int) -> bytes:
    """A PNG in the legend's colours of at most ``side_px`` pixels a side, nodata transparent. Raises InputError."""
    try:
        with ClassFile(path) as file:
            return class_png(to_bytes(file.shrink(side_px), file.path), legend)
    except GDAL_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot make a small picture of {printable(path)}: {one_line(error)}") from error


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """A JPEG of uint8 (3, h, w)."""
    _, height, width = pixels.shape
    profile = {"driver": "JPEG", "count": 3, "height": height, "width": width, "dtype": "uint8"}
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with without_georef_warnings(), memory.open(**profile) as file:
            file.write(pixels)
        return bytes(memory.read())


def class_png(classes: NDArray[np.uint8], legend: Legend) -> bytes:
    """A PNG in the legend's colours, nodata transparent."""
    height, width = classes.shape
    profile = {"driver": "PNG", "count": 1, "height": height, "width": width, "dtype": "uint8", "nodata": NODATA}
    colours = legend.colormap()
    if NODATA in classes:  # a value beyond the end of its palette is an error of PNG
        colours[NODATA] = (0, 0, 0, 0)
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), MemoryFile() as memory:
        with without_georef_warnings(), memory.open(**profile) as file:
            file.write(classes, 1)
            file.write_colormap(1, colours)
        return bytes(memory.read())

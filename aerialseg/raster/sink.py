"""Writing: block files, the mosaic that they make, and how a file gets its final name."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from aerialseg.errors import OutputError
from aerialseg.legend import NODATA
from aerialseg.raster.grid import Box, Grid
from aerialseg.raster.opening import GDAL_ERRORS, environment, one_line, quiet, shown
from aerialseg.raster.view import View

Bytes = NDArray[np.uint8]

TILE = 512
MOSAIC_TILE = 256
"""Lower than a COG's, so that a row of tiles of a wide raster fits the cache while bands of rows are read from it."""
PART = ".part"
"""Added to the name of a file that is not whole yet."""

# Our own profile, never one copied from the source: lossy compression would change class ids.
_COMMON = {
    "driver": "GTiff",
    "dtype": "uint8",
    "nodata": NODATA,
    "compress": "zstd",
    "zstd_level": 1,
    "sparse_ok": True,
}

_BLOCK = {
    "count": 2,
    "interleave": "band",
    "blockysize": 256,
}  # few strips: they compress better, empty ones cost 8 bytes


def part_of(path: Path) -> Path:
    """The name beside ``path`` under which it is written."""
    return path.with_name(path.name + PART)


def publish(part: Path, final: Path) -> None:
    """Give a finished file its name: flush it to disk, rename, flush the folder. Raises OutputError."""
    try:
        _flush(part, os.O_RDWR)  # Windows flushes no handle that cannot write
        os.replace(part, final)
    except OSError as error:
        raise cannot_write(final, error) from error
    _sync_folder(final.parent)


def _sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk where the system can: Windows and some network file systems cannot."""
    if os.name != "nt":
        with contextlib.suppress(OSError):
            _flush(folder, os.O_RDONLY)


def _flush(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: BaseException) -> OutputError:
    """The error to raise when ``path`` cannot be written because of ``error``."""
    reason = getattr(error, "strerror", None) or one_line(error)
    return OutputError(f"cannot write {shown(path)}: {reason}; check the folder, its permissions and its free space")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The name to write ``path`` under: published when the block ends well, removed when it does not.

    Errors of the operating system and of GDAL become OutputError.
    """
    part = part_of(path)
    try:
        yield part
        publish(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OutputError) or not isinstance(error, GDAL_ERRORS):
            raise
        raise cannot_write(path, error) from error


def write_block(path: Path, classes: Bytes, confidence: Bytes) -> None:
    """Write one block: classes and confidence (both (h, w) uint8, nodata 255) as the two bands of a GeoTIFF.

    The file is made in memory and written beside its name, so what stands there is whole. Raises OutputError.
    """
    height, width = classes.shape
    with environment(), MemoryFile() as memory:
        with quiet():
            dataset = memory.open(**_COMMON, **_BLOCK, height=height, width=width)
        with dataset:
            dataset.write(np.stack([classes, confidence]))
        with writing(path) as part:
            part.write_bytes(memory.getbuffer())


def read_block(path: Path) -> tuple[Bytes, Bytes]:
    """(classes, confidence) of a block file, both (h, w) uint8. Raises OutputError when it is missing or damaged."""
    try:
        with environment(), _open(path) as dataset:
            classes, confidence = dataset.read([1, 2])
    except (*GDAL_ERRORS, IndexError) as error:
        raise OutputError(
            f"block file {shown(path)} cannot be read: {one_line(error)}; delete it and run again to compute it anew"
        ) from error
    return classes, confidence


def _open(path: Path) -> Any:
    with quiet():
        return rasterio.open(path, driver="GTiff", sharing=False)


def mosaic(
    grid: Grid,
    block_path: Callable[[int], Path],
    view: View,
    classes_path: Path,
    confidence_path: Path,
    *,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Join the block files into two tiled GeoTIFFs on the working grid; one block is in memory at a time.

    ``block_path`` gives the file of each block, which must exist. ``progress`` is told 1 for each block joined.
    Raises OutputError.
    """
    with writing(classes_path) as classes_part, writing(confidence_path) as confidence_part:
        with _mosaic_file(classes_part, grid, view) as classes, _mosaic_file(confidence_part, grid, view) as confidence:
            for index, core in enumerate(grid):
                bands = read_block(block_path(index))
                _check_shape(block_path(index), bands[0].shape, core)
                for dataset, band in zip((classes, confidence), bands, strict=True):
                    dataset.write(band, 1, window=Window(core.left, core.top, core.width, core.height))
                if progress:
                    progress(1)
        check_whole(classes_part)
        check_whole(confidence_part)


def _check_shape(path: Path, shape: tuple[int, ...], core: Box) -> None:
    if shape != core.shape:
        raise OutputError(f"block file {shown(path)} has {shape} px, wanted {core.shape}; delete it and run again")


@contextlib.contextmanager
def _mosaic_file(path: Path, grid: Grid, view: View) -> Iterator[Any]:
    # Tiles that divide the block are written once, whatever the cache holds.
    tile = math.gcd(grid.block, MOSAIC_TILE)
    tile = tile if tile >= 64 else MOSAIC_TILE
    place = (
        {"crs": view.crs, "transform": Affine(*view.transform)} if view.crs else {"transform": Affine(*view.transform)}
    )
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile, "bigtiff": "IF_SAFER"}
    with environment(), quiet():
        dataset = rasterio.open(path, "w", **_COMMON, **layout, **place, height=grid.height, width=grid.width, count=1)
    with environment(), dataset:
        yield dataset


def check_whole(path: Path) -> None:
    """Raise OutputError unless every tile of the TIFF lies inside the file: GDAL may fail silently on closing."""
    size = path.stat().st_size
    with environment(), _open(path) as dataset:
        rows, cols = dataset.block_shapes[0]
        for row in range(-(-dataset.height // rows)):
            for col in range(-(-dataset.width // cols)):
                place = f"{col}_{row}"
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=1)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=1)
                if offset and length and int(offset) + int(length) > size:
                    raise OutputError(
                        f"{shown(path)} was cut short: its tile {place} ends beyond {size} bytes; free some space"
                    )

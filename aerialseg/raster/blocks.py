"""Writing: block files, the mosaic that they make, and how a file gets its final name."""

from __future__ import annotations

import contextlib
import math
import zlib
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
from aerialseg.files import (
    cannot_write,
    move_into_place,
    naming_errors,
    one_line,
    part_of,
    printable,
    remove_if_there,
    write_atomically,
)
from aerialseg.legend import NODATA
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box, Grid
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, without_georef_warnings

Bytes = NDArray[np.uint8]
Bands = tuple[Bytes, Bytes]
"""Classes and confidence, both (h, w), nodata 255."""

TILE = 512
MOSAIC_TILE = 256
"""Lower than a COG's, so that a row of tiles of a wide raster fits the cache while bands of rows are read from it."""
SEAL_BYTES = 8

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
    "blockysize": 256,  # few strips: they compress better, empty ones cost 8 bytes
    # Any place will do: without one, or at the identity, rasterio warns, and what other threads do to Python's filters
    # can let that through.
    "transform": Affine(1.0, 0.0, 1.0, 0.0, -1.0, 0.0),
}


def write_block(path: Path, classes: Bytes, confidence: Bytes, key: str = "") -> None:
    """Write one block: classes and confidence (both (h, w) uint8, nodata 255) as the two bands of a GeoTIFF.

    The file is made in memory and written beside its name. Behind the TIFF are its ``key``, which says what it was made
    of, and a checksum, which tells `is_whole` what a power cut has left of it. Raises OutputError.
    """
    height, width = classes.shape
    with gdal_environment(), MemoryFile() as memory:
        with without_georef_warnings():
            dataset = memory.open(**_COMMON, **_BLOCK, height=height, width=width)
        with dataset:
            dataset.write(classes, 1)
            dataset.write(confidence, 2)
        content = memory.getbuffer()
        with write_atomically(path, durable=False, errors=GDAL_ERRORS) as part, open(part, "wb") as file:
            file.write(content)
            file.write(_seal(content, key))


def is_whole(path: Path, key: str = "") -> bool:
    """Whether there is a block file of that key, as it was written. Raises OutputError."""
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    size = len(_seal(b"", key))
    return content[-size:] == _seal(content[:-size], key)


def _seal(content: Any, key: str) -> bytes:
    return key.encode() + zlib.crc32(key.encode(), zlib.crc32(content)).to_bytes(SEAL_BYTES, "little")


def read_block(path: Path) -> Bands:
    """(classes, confidence) of a block file, both (h, w) uint8. Raises OutputError when it is missing or damaged."""
    try:
        with gdal_environment(), _open(path) as dataset:
            classes, confidence = dataset.read([1, 2])
    except (*GDAL_ERRORS, IndexError) as error:
        raise OutputError(
            f"block file {printable(path)} cannot be read: {one_line(error)}; delete it and run again"
        ) from error
    return classes, confidence


def _open(path: Path) -> Any:
    with gdal_environment(alone=True), without_georef_warnings():
        return rasterio.open(path, driver="GTiff", sharing=False)


@contextlib.contextmanager
def join_blocks(
    grid: Grid,
    block_path: Callable[[int], Path],
    geo: GeoGrid,
    classes_path: Path,
    confidence_path: Path,
    finish: Callable[[Box, Bands], Bands] | None = None,
) -> Iterator[Callable[[int, Bands | None], None]]:
    """A function that joins one more block to two tiled GeoTIFFs: its index, and its bands or None to read its file.

    Blocks may come in any order and from any thread, but one at a time; ``block_path`` gives a block's file;
    ``finish`` makes of a box and its bands what is to be joined; blocks that never come are nodata. The two GeoTIFFs,
    on the grid ``geo``, appear at their names when this ends well; an error of the block inside goes through as it is.
    Writing raises OutputError.
    """
    paths = classes_path, confidence_path
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.callback(remove_if_there, part_of(path))
        files = [stack.enter_context(_mosaic_file(path, grid, geo)) for path in paths]

        def join(index: int, bands: Bands | None) -> None:
            core, bands = grid.core(index), bands or read_block(block_path(index))
            _check_shape(block_path(index), bands[0].shape, core)
            bands, core = finish(core, bands) if finish else bands, core.relative_to(grid.answered)
            for path, dataset, band in zip(paths, files, bands, strict=True):
                with naming_errors(path, GDAL_ERRORS), gdal_environment():
                    dataset.write(band, 1, window=Window(core.left, core.top, core.width, core.height))

        yield join
        for path, dataset in zip(paths, files, strict=True):
            with naming_errors(path, GDAL_ERRORS), gdal_environment():
                dataset.close()
                check_whole(part_of(path))
        for path in paths:
            move_into_place(part_of(path), path, durable=False)  # it is made anew in each run


def _check_shape(path: Path, shape: tuple[int, ...], core: Box) -> None:
    if shape != core.shape:
        raise OutputError(f"block file {printable(path)} has {shape} px, wanted {core.shape}; delete it and run again")


@contextlib.contextmanager
def _mosaic_file(path: Path, grid: Grid, geo: GeoGrid) -> Iterator[Any]:
    # Tiles that divide the block are written once, whatever the cache holds.
    tile = math.gcd(grid.block, MOSAIC_TILE)
    tile = tile if tile >= 64 else MOSAIC_TILE
    layout = {"tiled": True, "blockxsize": tile, "blockysize": tile, "bigtiff": "IF_SAFER"}
    with naming_errors(path, GDAL_ERRORS), gdal_environment(), without_georef_warnings():
        dataset = rasterio.open(part_of(path), "w", count=1, **_COMMON, **layout, **geo.profile)
    try:
        yield dataset
    finally:
        with contextlib.suppress(*GDAL_ERRORS):  # there only after another error, which is the one to tell
            dataset.close()


def check_whole(path: Path) -> None:
    """Raise OutputError unless every tile of the TIFF lies inside the file: GDAL may fail silently on closing."""
    size = path.stat().st_size
    with gdal_environment(), _open(path) as dataset:
        rows, cols = dataset.block_shapes[0]
        for row in range(-(-dataset.height // rows)):
            for col in range(-(-dataset.width // cols)):
                place = f"{col}_{row}"
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{place}", "TIFF", bidx=1)
                length = dataset.get_tag_item(f"BLOCK_SIZE_{place}", "TIFF", bidx=1)
                if offset and length and int(offset) + int(length) > size:
                    raise OutputError(
                        f"{printable(path)} was cut short: its tile {place} ends beyond {size} bytes; free some space"
                    )

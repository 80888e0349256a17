"""Rasters that the tests of this folder draw: files by content, views without a file's detour."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.view import View, make_view

UTM = "EPSG:32633"
TEN_CM = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def picture(height: int, width: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Noise, 1 to 255: no pixel equals a neighbour by chance for long, none is 0."""
    return np.random.default_rng(seed).integers(1, 256, (bands, height, width), dtype=np.uint8)


def write(path: Path, pixels: np.ndarray, *, mask: np.ndarray | None = None, **profile: Any) -> Path:
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    profile = {"driver": "GTiff", "crs": UTM, "transform": TEN_CM, **profile, **shape}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "w", **profile) as dataset:
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return path


def view_of(path: Path, **options: Any) -> View:
    return make_view(describe(path), **{"model_gsd_m": 0.1, **options})


def read_all(path: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    view = view_of(path, **options)
    with Source(view) as source:
        return source.read(Box(0, 0, *view.shape))


def tiff(*tags: tuple[int, int, int]) -> bytes:
    """The bytes of a TIFF that has only a header: (tag, type, value) each."""
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def tile_bytes(path: Path, row: int, col: int) -> tuple[int, int]:
    """(offset, length) of a tile in the file."""
    with rasterio.open(path) as dataset:
        tags = (dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1) for what in ("OFFSET", "SIZE"))
        offset, length = (int(tag) for tag in tags)
    return offset, length


def spoil(path: Path, row: int, col: int, *, skip: int = 0) -> None:
    """Overwrite a tile, but for its first ``skip`` bytes, with noise."""
    offset, length = tile_bytes(path, row, col)
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(1).integers(0, 256, length - skip, dtype=np.uint8).tobytes()
    data[offset + skip : offset + length] = noise
    path.write_bytes(data)

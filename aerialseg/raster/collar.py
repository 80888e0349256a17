"""Collars: pixels of one colour around imagery, which files store instead of nodata. A mask says where they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from aerialseg.errors import InputError, OutputError
from aerialseg.files import one_line, printable, write_atomically
from aerialseg.raster.blocks import check_whole
from aerialseg.raster.decode import Pixels, Valid
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, without_georef_warnings
from aerialseg.raster.piece import Colour
from aerialseg.raster.view import View

Rows = Iterator[NDArray[np.uint8]]

IMAGE, NEAR, OUTSIDE = 0, 1, 2
"""What a pixel may be before it is known which regions of the colour touch the outside."""

_MADE_OF = "MADE_OF"


def is_near(pixels: Pixels, colours: tuple[Colour, ...]) -> Valid:
    """Which pixels (C, h, w) have one of the colours, bool (h, w)."""
    near = np.zeros(pixels.shape[1:], np.bool_)
    for colour, tolerance in colours:
        found = np.ones(near.shape, np.bool_)
        for band, value in zip(pixels, colour, strict=True):
            found &= (band >= max(0, value - tolerance)) & (band <= min(255, value + tolerance))
        near |= found
    return near


def closed(near: Valid) -> Valid:
    """The mask without holes and gaps of one or two pixels, which noise leaves: grown by one pixel, and shrunk."""
    return ~_grown(~_grown(near))


def _grown(mask: Valid) -> Valid:
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def write_rows(path: Path, geo: GeoGrid, rows: Rows, made_of: str = "") -> None:
    """A GeoTIFF of strips uint8 (h, w) from top to bottom, which appears when it is whole. Raises OutputError.

    made_of: what `is_made_of` is to know it again by.
    """
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "zstd", "zstd_level": 1, "tiled": True}
    with write_atomically(path, durable=False, errors=GDAL_ERRORS) as part:
        with gdal_environment(), without_georef_warnings():
            dataset = rasterio.open(part, "w", **profile, bigtiff="IF_SAFER", **geo.profile)
        with gdal_environment(), dataset:
            row = 0
            for strip in rows:
                dataset.write(strip, 1, window=Window(0, row, strip.shape[1], len(strip)))
                row += len(strip)
            dataset.update_tags(**{_MADE_OF: made_of})
        check_whole(part)


def is_made_of(path: Path, made_of: str) -> bool:
    """Whether the file is there, complete, and was written with just that."""
    if not path.exists():
        return False
    try:
        with (
            gdal_environment(alone=True),
            without_georef_warnings(),
            rasterio.open(path, driver="GTiff", sharing=False) as file,
        ):
            found = file.tags().get(_MADE_OF)
        check_whole(path)
    except (*GDAL_ERRORS, OutputError):
        return False
    return bool(found == made_of)


def collar_content(view: View, box: Box) -> list[str]:
    """JSON-ready: what is collar in a box that counts from the lattice's origin; nothing where none is looked for."""
    if not view.collar_mask:
        return []
    with closing(CollarMask(view.collar_mask)) as mask:
        return [hashlib.sha256(np.packbits(mask.read(view.local(box))).tobytes()).hexdigest()]


class CollarMask:
    """The mask of a run, open for reading; for one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            with gdal_environment(alone=True), without_georef_warnings():
                self._dataset: Any = rasterio.open(Path(path), driver="GTiff", sharing=False)
        except GDAL_ERRORS as error:
            raise InputError(f"cannot read {printable(path)}: {one_line(error)}; run again") from error

    def close(self) -> None:
        self._dataset.close()

    def read(self, box: Box) -> Valid:
        """Which pixels of the box are collar; none beyond the raster."""
        found = np.zeros(box.shape, np.bool_)
        if inner := box & Box(0, 0, *self._dataset.shape):
            window = Window(inner.left, inner.top, inner.width, inner.height)
            with gdal_environment():
                found[inner.within(box)] = self._dataset.read(1, window=window) > 0
        return found

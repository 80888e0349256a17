"""A class raster and its confidence, read in stretches of rows that are cut into bands.

A *stretch* is what one task reads, with one call for each file, in whole rows of blocks so that no block is decoded
twice. A *band* is what is worked on at a time: few rows, so that what they take fits the processor's caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.legend import NODATA
from aerialseg.raster.opening import GDAL_ERRORS, environment, one_line, open_raster, shown, transform_of

MAX_BAND_PX = 1 << 20
"""A band of rows never holds more pixels than this (or one row), however many rows are asked for."""

STRETCH_PX = 1 << 22
"""A stretch holds about so many pixels, and at least one row of blocks ..."""

MAX_STRETCH_PX = 1 << 26
"""... unless that is more than this."""

CLASS_TYPES = ("uint8", "uint16")
MASKED = -1
"""The value of pixels without a class in rasters that have a mask."""

Classes = NDArray[Any]
"""Class ids: uint8, uint16, or int32 where the raster has a mask."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows ``row`` and following: class ids and, where there is one, confidence in per cent (else of size 0)."""

    row: int
    classes: Classes
    confidence: NDArray[np.uint8]
    nodata: int
    """The value of ``classes`` where there is no class; -1 where each pixel has one."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows that are read together. It holds names and numbers only: whoever gets it opens the files."""

    classes: Path
    confidence: Path | None
    row: int
    rows: int
    band_rows: int
    nodata: int
    masked: bool

    def bands(self) -> Iterator[Band]:
        """The stretch cut into bands. Raises InputError if it cannot be read."""
        classes = _read_classes(self)
        rated = np.zeros((0, 0), np.uint8) if self.confidence is None else _read_confidence(self.confidence, self)
        for start in range(0, self.rows, self.band_rows):
            stop = start + self.band_rows
            yield Band(self.row + start, classes[start:stop], rated[start:stop], MASKED if self.masked else self.nodata)


class ClassRaster:
    """Both files as one object: what they have in common, and its stretches; no file is kept open.

    ``height``, ``width``, ``transform`` (six numbers), ``crs`` (WKT or None), ``dtype`` ("uint8" or "uint16") and
    ``nodata`` (the value that stands for no class, or None; a mask works as well). Raises InputError.
    """

    def __init__(self, classes: Path, confidence: Path | None = None, *, band_rows: int = 1024) -> None:
        self.classes = Path(classes).absolute()
        self.confidence = None if confidence is None else Path(confidence).absolute()
        with ExitStack() as stack:
            stack.enter_context(environment())
            dataset = stack.enter_context(open_raster(str(self.classes)))
            _check_classes(dataset)
            self.height, self.width = (int(side) for side in dataset.shape)
            self.dtype = str(dataset.dtypes[0])
            self.transform: tuple[float, ...] = transform_of(dataset)
            self.crs: str | None = dataset.crs.to_wkt() if dataset.crs else None
            self.masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
            self.nodata = _nodata(dataset)
            block_rows = int(dataset.block_shapes[0][0])
            if self.confidence is not None:
                _check_confidence(stack.enter_context(open_raster(str(self.confidence))), dataset)
        self.band_rows = max(1, min(band_rows, MAX_BAND_PX // self.width))
        self.stretch_rows = _stretch_rows(self.width, block_rows)

    def stretches(self) -> Iterator[Stretch]:
        """The raster from top to bottom."""
        nodata = -1 if self.nodata is None else self.nodata
        for row in range(0, self.height, self.stretch_rows):
            rows = min(self.stretch_rows, self.height - row)
            yield Stretch(self.classes, self.confidence, row, rows, self.band_rows, nodata, self.masked)

    def __iter__(self) -> Iterator[Band]:
        for stretch in self.stretches():
            yield from stretch.bands()


def _stretch_rows(width: int, block_rows: int) -> int:
    """Whole rows of blocks, as many as make a stretch; fewer rows where memory does not allow one row of blocks."""
    if width * block_rows > MAX_STRETCH_PX:
        return max(1, MAX_STRETCH_PX // width)
    return block_rows * max(1, STRETCH_PX // (width * block_rows))


def _check_classes(dataset: Any) -> None:
    alpha = dataset.count == 2 and dataset.colorinterp[1] == ColorInterp.alpha
    if dataset.count != 1 and not alpha:
        raise InputError(
            f"{shown(dataset.name)} has {dataset.count} bands: wanted a class raster, one band of class ids"
        )
    if dataset.dtypes[0] not in CLASS_TYPES:
        raise InputError(
            f"{shown(dataset.name)} holds {dataset.dtypes[0]}: wanted class ids as uint8 or uint16; "
            "convert it with gdal_translate -ot UInt16"
        )


def _check_confidence(dataset: Any, classes: Any) -> None:
    if dataset.dtypes[0] != "uint8":
        raise InputError(f"{shown(dataset.name)} holds {dataset.dtypes[0]}: wanted confidence in per cent as uint8")
    if dataset.shape != classes.shape:
        raise InputError(
            f"{shown(dataset.name)} has {dataset.shape} rows and columns: wanted {classes.shape}, "
            f"as in {shown(classes.name)}"
        )


def _nodata(dataset: Any) -> int | None:
    value = dataset.nodata
    most = np.iinfo(dataset.dtypes[0]).max
    return int(value) if value is not None and 0 <= value <= most and value == int(value) else None


def _read_classes(stretch: Stretch) -> Classes:
    with environment(), open_raster(str(stretch.classes)) as dataset:
        window = Window(0, stretch.row, dataset.width, stretch.rows)
        classes: Classes = _read(dataset, window)
        if not stretch.masked:
            return classes
        valid = _read(dataset, window, mask=True) != 0
        if stretch.nodata >= 0:
            valid &= classes != stretch.nodata
    return np.where(valid, classes, np.int32(MASKED))


def _read_confidence(path: Path, stretch: Stretch) -> NDArray[np.uint8]:
    with environment(), open_raster(str(path)) as dataset:
        percent = _read(dataset, Window(0, stretch.row, dataset.width, stretch.rows))
        unknown = _nodata(dataset)
    if unknown is not None and unknown != NODATA:
        percent[percent == unknown] = NODATA
    return percent


def _read(dataset: Any, window: Window, *, mask: bool = False) -> Classes:
    try:
        return np.ascontiguousarray(dataset.read_masks(1, window=window) if mask else dataset.read(1, window=window))
    except GDAL_ERRORS as error:
        raise InputError(f"cannot read {window} of {shown(dataset.name)}: {one_line(error)}") from error

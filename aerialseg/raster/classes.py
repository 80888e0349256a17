"""A class raster of any origin, open for reading by windows: on its own grid, or warped onto another one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.files import one_line, printable
from aerialseg.legend import NODATA
from aerialseg.raster.describe import MAX_BLOCK_BYTES, block_bytes
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import (
    GDAL_ERRORS,
    gdal_environment,
    geogrid_of,
    has_transform,
    local_path,
    open_raster,
    without_georef_warnings,
)

Values = NDArray[np.int32]

NONE = int(np.iinfo(np.int32).min)
"""The value of pixels without a class, here."""

WINDOW_PX = 2048
"""Side of a window."""
_TYPES = ("uint8", "uint16", "int16", "int32")
_TOLERANCE_PX = 0.01
"""How far GDAL may be off when it warps: it computes each place exactly only where it must."""
_ANY_CRS = "EPSG:3857"
"""Where neither raster says where it is, coordinates are compared as they are; GDAL wants a name for that."""


class ClassFile:
    """One band of class ids. A context manager; one dataset handle, for one thread. Raises InputError.

    ``geo``: where it lies; ``placed``: whether it has a transform.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path)
        self._dataset = open_raster(str(self.path))
        try:
            _check(self._dataset)
        except InputError:
            self._dataset.close()
            raise
        self.geo = geogrid_of(self._dataset)
        self.placed = has_transform(self._dataset)

    def __enter__(self) -> ClassFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._dataset.close()

    def windows(self) -> Iterator[Box]:
        """Boxes that cover the raster once, each of at most ``WINDOW_PX`` squared pixels."""
        height, width = self.geo.shape
        cols = width if self._dataset.block_shapes[0][1] >= width else WINDOW_PX  # strips are read whole
        rows = max(1, WINDOW_PX**2 // cols)
        for top in range(0, height, rows):
            for left in range(0, width, cols):
                yield Box(top, left, min(top + rows, height), min(left + cols, width))

    def read(self, box: Box) -> Values:
        """Class ids (h, w) int32 of a box inside the raster, `NONE` for nodata. Raises InputError."""
        with (
            self._telling(f"rows {box.top}..{box.bottom - 1}, columns {box.left}..{box.right - 1} of "),
            gdal_environment(),
        ):
            window = Window(box.left, box.top, box.width, box.height)
            values = self._dataset.read(1, window=window).astype(np.int32)
            valid = self._dataset.read_masks(1, window=window) != 0
        return np.where(valid, values, np.int32(NONE))

    def warp(self, geo: GeoGrid) -> Values:
        """Class ids (h, w) int32 on the pixels of ``geo``: the nearest, `NONE` where there is none."""
        same = self.geo.crs is None and geo.crs is None
        options = {
            **geo.profile,
            "src_crs": _ANY_CRS if same else self.geo.crs,
            "crs": _ANY_CRS if same else geo.crs,
            "src_transform": self.geo.affine,
            "src_nodata": self._dataset.nodata,
            "nodata": NONE,
            "dtype": "int32",
            "resampling": Resampling.nearest,
            "tolerance": _TOLERANCE_PX,
        }
        with (
            self._telling(),
            gdal_environment(),
            without_georef_warnings(),
            WarpedVRT(self._dataset, **options) as warped,
        ):
            values: Values = warped.read(1)
        return values

    def _telling(self, where: str = "") -> _Telling:
        return _Telling(f"cannot read {where}{printable(self.path)}")


class _Telling:
    """A block in which GDAL's errors become InputError."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, GDAL_ERRORS) and not isinstance(error, InputError):
            raise InputError(f"{self.what}: {one_line(error)}; make or fetch it again") from error


def _check(dataset: Any) -> None:
    name = printable(dataset.name)
    alpha = dataset.count == 2 and dataset.colorinterp[1] == ColorInterp.alpha
    if dataset.count != 1 and not alpha:
        raise InputError(f"{name} has {dataset.count} bands: wanted a class raster, one band of class ids")
    if dataset.dtypes[0] not in _TYPES:
        raise InputError(
            f"{name} holds {dataset.dtypes[0]}: wanted class ids as {', '.join(_TYPES)}; "
            "convert it with gdal_translate -ot Byte"
        )
    if block_bytes(dataset) >= MAX_BLOCK_BYTES:
        raise InputError(
            f"{name} is stored in blocks of {dataset.block_shapes[0]} px: rewrite it with gdal_translate -co TILED=YES"
        )


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

    ``geo`` (where it lies), ``dtype`` ("uint8" or "uint16") and ``nodata`` (the value that stands for no class, or
    None; a mask works as well). Raises InputError.
    """

    def __init__(self, classes: Path, confidence: Path | None = None, *, band_rows: int = 1024) -> None:
        self.classes = Path(classes).absolute()
        self.confidence = None if confidence is None else Path(confidence).absolute()
        with ExitStack() as stack:
            stack.enter_context(gdal_environment())
            dataset = stack.enter_context(open_raster(str(self.classes)))
            _check_classes(dataset)
            self.geo = geogrid_of(dataset)
            self.dtype = str(dataset.dtypes[0])
            self.masked = MaskFlags.per_dataset in dataset.mask_flag_enums[0]
            self.nodata = _nodata(dataset)
            block_rows = int(dataset.block_shapes[0][0])
            if self.confidence is not None:
                _check_confidence(stack.enter_context(open_raster(str(self.confidence))), dataset)
        self.band_rows = max(1, min(band_rows, MAX_BAND_PX // self.geo.width))
        self.stretch_rows = _stretch_rows(self.geo.width, block_rows)

    def stretches(self) -> Iterator[Stretch]:
        """The raster from top to bottom."""
        nodata = -1 if self.nodata is None else self.nodata
        for row in range(0, self.geo.height, self.stretch_rows):
            rows = min(self.stretch_rows, self.geo.height - row)
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
            f"{printable(dataset.name)} has {dataset.count} bands: wanted a class raster, one band of class ids"
        )
    if dataset.dtypes[0] not in CLASS_TYPES:
        raise InputError(
            f"{printable(dataset.name)} holds {dataset.dtypes[0]}: wanted class ids as uint8 or uint16; "
            "convert it with gdal_translate -ot UInt16"
        )


def _check_confidence(dataset: Any, classes: Any) -> None:
    if dataset.dtypes[0] != "uint8":
        raise InputError(f"{printable(dataset.name)} holds {dataset.dtypes[0]}: wanted confidence in per cent as uint8")
    if dataset.shape != classes.shape:
        raise InputError(
            f"{printable(dataset.name)} has {dataset.shape} rows and columns: wanted {classes.shape}, "
            f"as in {printable(classes.name)}"
        )


def _nodata(dataset: Any) -> int | None:
    value = dataset.nodata
    most = np.iinfo(dataset.dtypes[0]).max
    return int(value) if value is not None and 0 <= value <= most and value == int(value) else None


def _read_classes(stretch: Stretch) -> Classes:
    with gdal_environment(), open_raster(str(stretch.classes)) as dataset:
        window = Window(0, stretch.row, dataset.width, stretch.rows)
        classes: Classes = _read(dataset, window)
        if not stretch.masked:
            return classes
        valid = _read(dataset, window, mask=True) != 0
        if stretch.nodata >= 0:
            valid &= classes != stretch.nodata
    return np.where(valid, classes, np.int32(MASKED))


def _read_confidence(path: Path, stretch: Stretch) -> NDArray[np.uint8]:
    with gdal_environment(), open_raster(str(path)) as dataset:
        percent = _read(dataset, Window(0, stretch.row, dataset.width, stretch.rows))
        unknown = _nodata(dataset)
    if unknown is not None and unknown != NODATA:
        percent[percent == unknown] = NODATA
    return percent


def _read(dataset: Any, window: Window, *, mask: bool = False) -> Classes:
    try:
        return np.ascontiguousarray(dataset.read_masks(1, window=window) if mask else dataset.read(1, window=window))
    except GDAL_ERRORS as error:
        raise InputError(f"cannot read {window} of {printable(dataset.name)}: {one_line(error)}") from error

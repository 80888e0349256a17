"""THE reader of class rasters: ids of any GeoTIFF of one band, by windows, by strips, or warped onto another grid.

`ClassFile` is one open file. `ClassRaster` is a class raster with its confidence, cut into tasks of strips that may be
read anywhere. Both give int32 arrays of ids from 0 to `MAX_ID`, and `NO_CLASS` where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.files import one_line, printable
from aerialseg.legend import MAX_ID, NO_CLASS, NODATA
from aerialseg.raster.bounds import same_crs
from aerialseg.raster.damage import noticing_damage
from aerialseg.raster.describe import MAX_BLOCK_BYTES, block_bytes
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import (
    GDAL_ERRORS,
    gdal_environment,
    geogrid_of,
    local_path,
    open_raster,
    transform_of,
    without_georef_warnings,
)

ClassIds = NDArray[np.int32]
"""Class ids, 0 to `MAX_ID`; `NO_CLASS` where there is none."""

WINDOW_PX = 2048
"""Side of a window."""
MAX_STRIP_PX = 1 << 20
"""A strip never holds more pixels than this (or one row), however many rows are asked for."""
TASK_PX, MAX_TASK_PX = 1 << 22, 1 << 26
"""A task holds about so many pixels, and at least one row of blocks unless that is more than the second number."""

_TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
_TOLERANCE_PX = 0.01
"""How far GDAL may be off when it warps: it computes each place exactly only where it must."""
_ANY_CRS = "EPSG:3857"
"""Where neither raster says where it is, coordinates are compared as they are; GDAL wants a name for that."""


class ClassFile:
    """One band of class ids, of any whole numbers or of floats that hold such. Raises InputError.

    A context manager; one dataset handle, for one thread. ``geo``: where it lies; ``placed``: whether it has a
    transform. No class is where the value is ``nodata`` (of the type ``dtype``; None: there is no such value), NaN or
    infinite, and, if ``masked``, where a mask or an alpha band says so.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path)
        self.dataset = open_raster(str(self.path))
        try:
            _check(self.dataset)
            self.geo = geogrid_of(self.dataset)
        except InputError:
            self.close()
            raise
        self.placed = transform_of(self.dataset) is not None
        self.dtype = str(self.dataset.dtypes[0])
        self.nodata = _nodata(self.dataset)
        with gdal_environment():
            self.masked = MaskFlags.per_dataset in self.dataset.mask_flag_enums[0]

    def __enter__(self) -> ClassFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.dataset.close()

    def windows(self) -> Iterator[Box]:
        """Boxes that cover the raster once, each of at most ``WINDOW_PX`` squared pixels."""
        height, width = self.geo.shape
        cols = width if self.dataset.block_shapes[0][1] >= width else WINDOW_PX  # rows are read whole
        rows = max(1, WINDOW_PX**2 // cols)
        for top in range(0, height, rows):
            for left in range(0, width, cols):
                yield Box(top, left, min(top + rows, height), min(left + cols, width))

    def read(self, box: Box, shape: tuple[int, int] | None = None) -> ClassIds:
        """Class ids (h, w) of a box inside the raster, or of every so many of its pixels. Raises InputError."""
        return self._ids(*self._stored(box, shape))

    def read_strips(self, box: Box, rows: int) -> Iterator[ClassIds]:
        """The same cut into strips of ``rows`` rows. All is read at once, in the type stored. Raises InputError."""
        values, mask = self._stored(box)
        for start in range(0, box.height, rows):
            part = slice(start, start + rows)
            yield self._ids(values[part], None if mask is None else mask[part])

    def shrink(self, side_px: int) -> ClassIds:
        """Class ids of the whole raster, of at most ``side_px`` pixels a side. Raises InputError."""
        height, width = self.geo.shape
        scale = min(1.0, side_px / max(height, width))
        return self.read(Box(0, 0, height, width), (max(1, round(height * scale)), max(1, round(width * scale))))

    def warp(self, geo: GeoGrid) -> ClassIds:
        """Class ids (h, w) on the pixels of ``geo``: the nearest. Raises InputError."""
        same = self.geo.crs is None and geo.crs is None
        options = {
            **geo.profile,
            "src_crs": _ANY_CRS if same else self.geo.crs,
            "crs": _ANY_CRS if same else geo.crs,
            "src_transform": self.geo.affine,
            "src_nodata": None,  # GDAL would not ask the mask then; `_ids` knows it
            "nodata": math.nan,  # no value of a pixel, whatever the type
            "dtype": "float64",
            "resampling": Resampling.nearest,
            "tolerance": _TOLERANCE_PX,
        }
        with (
            _reading(self.path),
            gdal_environment(),
            without_georef_warnings(),
            noticing_damage(),
            WarpedVRT(self.dataset, **options) as warped,
        ):
            values = warped.read(1)
        return self._ids(values, None)

    def _stored(self, box: Box, shape: tuple[int, int] | None = None) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
        """Values as stored, and the mask (0: no class) where the file has one."""
        window = Window(box.left, box.top, box.width, box.height)
        where = f"rows {box.top} to {box.bottom - 1}, columns {box.left} to {box.right - 1} of "
        with _reading(self.path, where), gdal_environment(), noticing_damage():
            values = self.dataset.read(1, window=window, out_shape=shape)
            return values, self.dataset.read_masks(1, window=window, out_shape=shape) if self.masked else None

    def _ids(self, values: NDArray[Any], mask: NDArray[np.uint8] | None) -> ClassIds:
        none = np.zeros(values.shape, bool) if mask is None else mask == 0
        if values.dtype.kind == "f":
            none |= ~np.isfinite(values)
            if self.nodata is not None:  # headers write it with fewer digits than pixels have
                none |= np.isclose(values.astype(np.float64), self.nodata, rtol=1e-6, atol=0)
            values = np.where(none, values.dtype.type(NO_CLASS), values)
        elif self.nodata is not None:
            none |= values == self.nodata
        if not np.can_cast(values.dtype, np.uint16):
            self._check_values(values[~none])
        ids = values.astype(np.int32)
        ids[none] = NO_CLASS
        return ids

    def _check_values(self, values: NDArray[Any]) -> None:
        """Raise InputError for what is no class id. The advice must not change a pixel that is one."""
        wrong = values[(values < 0) | (values > MAX_ID) | (values % 1 != 0)].astype(self.dtype)
        if len(wrong):
            declare = f"declare it with gdal_edit.py -a_nodata {wrong[0]!s} FILE"
            replace = f"replace it by the nodata value of the file, {self.nodata}"
            raise InputError(
                f"{printable(self.path)} holds {wrong[0]!s}: wanted class ids, whole numbers from 0 to {MAX_ID}; if "
                f"that stands for no class, {declare if self.nodata is None else replace}; else reclassify the raster"
            )


@contextmanager
def _reading(path: Path, where: str = "") -> Iterator[None]:
    """A block in which GDAL's errors become InputError."""
    try:
        yield
    except GDAL_ERRORS as error:
        raise InputError(f"cannot read {where}{printable(path)}: {one_line(error)}; make or fetch it again") from error


def _check(dataset: Any) -> None:
    name = printable(dataset.name)
    alpha = dataset.count == 2 and dataset.colorinterp[1] == ColorInterp.alpha
    if dataset.count != 1 and not alpha:
        raise InputError(f"{name} has {dataset.count} bands: wanted a class raster, one band of class ids")
    if dataset.dtypes[0] not in _TYPES:
        raise InputError(f"{name} holds {dataset.dtypes[0]}: wanted class ids, whole numbers from 0 to {MAX_ID}")
    if block_bytes(dataset) >= MAX_BLOCK_BYTES:
        raise InputError(
            f"{name} is stored in blocks of {dataset.block_shapes[0]} px: rewrite it with gdal_translate -co TILED=YES"
        )


def _nodata(dataset: Any) -> int | float | None:
    value, dtype = dataset.nodata, np.dtype(dataset.dtypes[0])
    if value is None or not math.isfinite(value):  # NaN and infinite values are no classes anyway
        return None
    if dtype.kind == "f":
        most = float(np.finfo(dtype).max)
        return float(dtype.type(max(-most, min(value, most))))
    return int(value) if value == int(value) and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max else None


def to_bytes(ids: ClassIds, path: Path) -> NDArray[np.uint8]:
    """Ids as our own rasters store them, `NODATA` for none; 255 is none as well. Raises InputError for higher ones."""
    if (ids > NODATA).any():
        raise InputError(f"{printable(path)} has the class {ids.max()}: wanted ids from 0 to {NODATA - 1}")
    return np.where(ids == NO_CLASS, NODATA, ids).astype(np.uint8)


def to_percent(ids: ClassIds, path: Path) -> NDArray[np.uint8]:
    """Confidence, `NODATA` for none. Raises InputError for values that are no per cent."""
    wrong = ids[(ids > 100) & (ids != NODATA)]
    if len(wrong):
        raise InputError(f"{printable(path)} holds {wrong.max()}: wanted confidence in per cent, 0 to 100")
    return to_bytes(ids, path)


def check_confidence(rated: ClassFile, classes: ClassFile) -> None:
    """Raise InputError unless ``rated`` may be the confidence of ``classes``: per cent, on its grid, of its run."""
    name, wanted = printable(rated.path), printable(classes.path)
    if np.dtype(rated.dtype).kind == "f":
        raise InputError(f"{name} holds {rated.dtype}: wanted confidence in per cent as uint8")
    if ColorInterp.palette in rated.dataset.colorinterp:
        raise InputError(
            f"{name} has a colour table, as class rasters have: give the class raster first, its confidence after it"
        )
    if rated.geo.shape != classes.geo.shape:
        size = f"{classes.geo.width} x {classes.geo.height}, as in {wanted}"
        raise InputError(f"{name} has {rated.geo.width} x {rated.geo.height} px: wanted {size}")
    same_place = same_crs(rated.geo.crs, classes.geo.crs)
    if not same_place or classes.geo.offset_of(replace(rated.geo, crs=classes.geo.crs)) != (0, 0):
        raise InputError(f"{name} does not lie on the pixels of {wanted}: wanted the confidence raster of the same run")
    runs = {file.dataset.tags().get("blocks_digest") for file in (rated, classes)} - {None}
    if len(runs) > 1:
        raise InputError(f"{name} is of another run than {wanted}: wanted the confidence raster of the same run")


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows ``row`` and following: class ids and, where there is one, confidence in per cent (else of size 0)."""

    row: int
    classes: ClassIds
    confidence: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StripTask:
    """Strips that are read together. It holds names and numbers only: whoever gets it opens the files."""

    classes: Path
    confidence: Path | None
    box: Box
    strip_rows: int

    def strips(self) -> Iterator[Strip]:
        """The strips from top to bottom. Raises InputError if they cannot be read."""
        rated = repeat(np.zeros((0, 0), np.uint8)) if self.confidence is None else self._percent(self.confidence)
        with ClassFile(self.classes) as file:
            rows = range(self.box.top, self.box.bottom, self.strip_rows)
            for row, classes, percent in zip(rows, file.read_strips(self.box, self.strip_rows), rated, strict=False):
                yield Strip(row, classes, percent)

    def _percent(self, path: Path) -> Iterator[NDArray[np.uint8]]:
        with ClassFile(path) as file:
            for values in file.read_strips(self.box, self.strip_rows):
                yield to_percent(values, file.path)


class ClassRaster:
    """A class raster and its confidence, cut into strips; no file is kept open. Raises InputError."""

    def __init__(self, classes: Path, confidence: Path | None = None, *, strip_rows: int = 1024) -> None:
        with ClassFile(classes) as file:
            block_rows = int(file.dataset.block_shapes[0][0])
            if confidence is not None:
                with ClassFile(confidence) as rated:
                    check_confidence(rated, file)
        self.classes, self.confidence = file.path, None if confidence is None else rated.path
        self.geo = file.geo
        self.strip_rows = max(1, min(strip_rows, MAX_STRIP_PX // self.geo.width))
        self.task_rows = _task_rows(self.geo.width, block_rows)

    def tasks(self) -> Iterator[StripTask]:
        """The raster from top to bottom."""
        height, width = self.geo.shape
        for row in range(0, height, self.task_rows):
            box = Box(row, 0, min(row + self.task_rows, height), width)
            yield StripTask(self.classes, self.confidence, box, self.strip_rows)

    def __iter__(self) -> Iterator[Strip]:
        for task in self.tasks():
            yield from task.strips()


def _task_rows(width: int, block_rows: int) -> int:
    """Whole rows of blocks, as many as make a task; fewer rows where memory does not allow one row of blocks."""
    if width * block_rows > MAX_TASK_PX:
        return max(1, MAX_TASK_PX // width)
    return block_rows * max(1, TASK_PX // (width * block_rows))

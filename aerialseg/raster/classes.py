"""A class raster of any origin, open for reading by windows: on its own grid, or warped onto another one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.raster.describe import MAX_BLOCK_BYTES, block_bytes
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import (
    GDAL_ERRORS,
    environment,
    has_transform,
    local_path,
    one_line,
    open_raster,
    quiet,
    shown,
    transform_of,
)
from aerialseg.raster.patch import Bounds, Patch

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

    ``height``, ``width``, ``transform`` (six numbers), ``crs`` (WKT or None); ``placed``: whether it has a transform.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = local_path(path)
        self._dataset = open_raster(str(self.path))
        try:
            _check(self._dataset)
        except InputError:
            self._dataset.close()
            raise
        self.height, self.width = (int(side) for side in self._dataset.shape)
        self.transform = transform_of(self._dataset)
        self.placed = has_transform(self._dataset)
        self.crs: str | None = self._dataset.crs.to_wkt() if self._dataset.crs else None

    def __enter__(self) -> ClassFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._dataset.close()

    @property
    def whole(self) -> Patch:
        return Patch(self.transform, self.crs, self.height, self.width)

    @property
    def bounds(self) -> Bounds:
        return self.whole.bounds

    def windows(self) -> Iterator[Box]:
        """Boxes that cover the raster once, each of at most ``WINDOW_PX`` squared pixels."""
        cols = self.width if self._dataset.block_shapes[0][1] >= self.width else WINDOW_PX  # strips are read whole
        rows = max(1, WINDOW_PX**2 // cols)
        for top in range(0, self.height, rows):
            for left in range(0, self.width, cols):
                yield Box(top, left, min(top + rows, self.height), min(left + cols, self.width))

    def read(self, box: Box) -> Values:
        """Class ids (h, w) int32 of a box inside the raster, `NONE` for nodata. Raises InputError."""
        with self._telling(f"rows {box.top}..{box.bottom - 1}, columns {box.left}..{box.right - 1} of "), environment():
            window = Window(box.left, box.top, box.width, box.height)
            values = self._dataset.read(1, window=window).astype(np.int32)
            valid = self._dataset.read_masks(1, window=window) != 0
        return np.where(valid, values, np.int32(NONE))

    def warp(self, patch: Patch) -> Values:
        """Class ids (h, w) int32 on the pixels of ``patch``: the nearest, `NONE` where there is none."""
        same = self.crs is None and patch.crs is None
        options = {
            "src_crs": _ANY_CRS if same else self.crs,
            "crs": _ANY_CRS if same else patch.crs,
            "src_transform": rasterio.Affine(*self.transform),
            "transform": rasterio.Affine(*patch.transform),
            "height": patch.height,
            "width": patch.width,
            "src_nodata": self._dataset.nodata,
            "nodata": NONE,
            "dtype": "int32",
            "resampling": Resampling.nearest,
            "tolerance": _TOLERANCE_PX,
        }
        with self._telling(), environment(), quiet(), WarpedVRT(self._dataset, **options) as warped:
            values: Values = warped.read(1)
        return values

    def _telling(self, where: str = "") -> _Telling:
        return _Telling(f"cannot read {where}{shown(self.path)}")


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
    name = shown(dataset.name)
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

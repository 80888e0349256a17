"""A class raster and its confidence, read in full-width bands of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.raster.opening import environment, one_line, quiet, shown

MAX_BAND_PX = 1 << 21
"""A band of rows never holds more pixels than this (or one row), however many rows are asked for: labels and contacts
take some 30 bytes a pixel, so a wide raster would cost more than a narrow one."""


@dataclass(frozen=True, slots=True)
class Band:
    """Rows ``row`` and following: class ids and, where there is one, confidence in per cent (else of size 0)."""

    row: int
    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


class ClassRaster:
    """Both files as one object: ``height``, ``width``, ``transform``, ``crs`` (WKT), and bands. A context manager."""

    def __init__(self, classes: Path, confidence: Path | None = None, *, band_rows: int = 1024) -> None:
        self._stack = ExitStack()
        try:
            self._stack.enter_context(environment())
            self._classes = self._open(classes)
            self._confidence = None if confidence is None else self._open(confidence)
        except BaseException:
            self._stack.close()
            raise
        self.height: int = self._classes.height
        self.width: int = self._classes.width
        self.transform: tuple[float, ...] = tuple(self._classes.transform)[:6]
        self.crs: str | None = self._classes.crs.to_wkt() if self._classes.crs else None
        self.band_rows = _rows(band_rows, self.width, self._classes.block_shapes[0][0])

    def _open(self, path: Path) -> Any:
        try:
            with quiet():
                dataset = self._stack.enter_context(rasterio.open(Path(path).absolute(), driver="GTiff"))
        except RasterioError as error:
            raise InputError(f"cannot open the class or confidence raster {shown(path)}: {one_line(error)}") from error
        if dataset.dtypes[0] != "uint8":
            raise InputError(f"{shown(path)} holds {dataset.dtypes[0]}: wanted class ids or per cent as uint8")
        first = getattr(self, "_classes", dataset)
        if dataset.shape != first.shape:
            raise InputError(
                f"{shown(path)} has {dataset.shape} rows and columns: wanted {first.shape}, as in {shown(first.name)}"
            )
        return dataset

    def __enter__(self) -> ClassRaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[Band]:
        for row in range(0, self.height, self.band_rows):
            window = Window(0, row, self.width, min(self.band_rows, self.height - row))
            confidence = (
                np.zeros((0, 0), np.uint8) if self._confidence is None else self._read(self._confidence, window)
            )
            yield Band(row, self._read(self._classes, window), confidence)

    @staticmethod
    def _read(dataset: Any, window: Window) -> NDArray[np.uint8]:
        try:
            return np.ascontiguousarray(dataset.read(1, window=window))
        except RasterioError as error:
            raise InputError(f"cannot read {window} of {shown(dataset.name)}: {one_line(error)}") from error


def _rows(wanted: int, width: int, block_height: int) -> int:
    """Rows of a band: as wanted, but no more than memory allows; then whole rows of blocks, if at least one fits."""
    most = max(1, MAX_BAND_PX // width)
    if wanted <= most:
        return max(1, wanted)
    return most - most % block_height if most >= block_height else most

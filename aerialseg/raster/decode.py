"""Reading a raster's own pixels: bytes, validity, and what to do when a piece cannot be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from aerialseg.errors import InputError
from aerialseg.files import one_line, printable
from aerialseg.raster.damage import noticing_damage
from aerialseg.raster.describe import MAX_BLOCK_BYTES, block_bytes
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, is_remote, local_path, open_raster
from aerialseg.raster.piece import Piece

Pixels = NDArray[np.uint8]
Valid = NDArray[np.bool_]

DECODERS = min(4, os.cpu_count() or 1)
"""Threads that GDAL decodes the tiles of one read with, where blocks are not read side by side."""

logger = logging.getLogger(__name__)


class NativeReader:
    """One dataset handle for one thread, read by windows of source pixels."""

    def __init__(self, piece: Piece, *, allow_remote: bool = False, decoders: int = DECODERS) -> None:
        self.piece, self.decoders = piece, decoders
        self.path = piece.path if allow_remote and is_remote(piece.path) else str(local_path(piece.path))
        self.raster = Box(0, 0, *piece.shape)
        self.lost: set[Box] = set()
        self._dataset = self._open()
        rows, cols = self._dataset.block_shapes[0]
        self.block = (rows, cols)
        self.tiled = cols < self._dataset.width
        self._indexes = [*piece.bands, *([piece.alpha] if piece.alpha else [])]

    def close(self) -> None:
        self._dataset.close()

    def read(self, window: Box) -> tuple[Pixels, Valid]:
        """Bytes (C, h, w), 0 where invalid, and validity (h, w) of a window inside the raster."""
        if any(block & window for block in self.lost):
            return self._salvage(window)
        try:
            return self._load(window)
        except GDAL_ERRORS as error:
            if self.piece.on_read_error != "nodata":
                raise InputError(self._complaint(window, error)) from error
            self._reopen()  # blocks that are in its cache would now read without an error
            return self._salvage(window)

    def _open(self) -> Any:
        dataset = open_raster(self.path, placed=False)
        shape, count = dataset.shape, dataset.count
        fits = shape == self.piece.shape and max(*self.piece.bands, self.piece.alpha) <= count
        if not fits or block_bytes(dataset) >= MAX_BLOCK_BYTES:
            dataset.close()
            raise InputError(
                f"{printable(self.path)} is not the raster it was when the job was planned; plan the job again"
            )
        if self.decoders == 1 or dataset.driver != "GTiff" or dataset.block_shapes[0][1] >= dataset.width:
            return dataset
        dataset.close()
        return open_raster(self.path, placed=False, NUM_THREADS=self.decoders)  # helps tiles, slows strips

    def _reopen(self) -> None:
        self._dataset.close()
        self._dataset = self._open()

    def _load(self, window: Box) -> tuple[Pixels, Valid]:
        area = Window(window.left, window.top, window.width, window.height)
        with gdal_environment(), noticing_damage():
            data = self._dataset.read(self._indexes, window=area)
            masks = self._dataset.read_masks(list(self.piece.bands), window=area) if self.piece.internal_mask else None
        return self._to_bytes(data, masks)

    def _to_bytes(self, data: NDArray[Any], masks: Pixels | None) -> tuple[Pixels, Valid]:
        count = len(self.piece.bands)
        bands = data[:count]
        valid = _validity(bands, self.piece.nodata)
        if masks is not None:
            valid &= masks.any(axis=0)
        if self.piece.alpha:
            valid &= data[count] > 0
        pixels = bands if self.piece.scale is None else _stretch(bands, self.piece.scale)
        if not self.piece.always_valid and not valid.all():
            pixels = pixels * valid
        return np.ascontiguousarray(pixels, dtype=np.uint8), valid

    def _salvage(self, window: Box) -> tuple[Pixels, Valid]:
        """The window tile by tile (or strip), with nodata where one cannot be read."""
        pixels = np.zeros((len(self.piece.bands), *window.shape), np.uint8)
        valid = np.zeros(window.shape, np.bool_)
        for block in self._blocks(window):
            if block in self.lost:
                continue
            try:
                part, good = self._load(block)
            except GDAL_ERRORS as error:
                self._lose(block, error)
                continue
            shared = block & window
            where, origin = shared.within(window), shared.within(block)
            pixels[(slice(None), *where)] = part[(slice(None), *origin)]
            valid[where] = good[origin]
        return pixels, valid

    def _blocks(self, window: Box) -> Iterator[Box]:
        rows, cols = self.block
        for top in range(window.top // rows * rows, window.bottom, rows):
            for left in range(window.left // cols * cols, window.right, cols):
                yield Box(top, left, top + rows, left + cols) & self.raster

    def _lose(self, block: Box, error: BaseException) -> None:
        self.lost.add(block)
        logger.warning("%s; filled with nodata", self._complaint(block, error, advice=False))

    def _complaint(self, window: Box, error: BaseException, advice: bool = True) -> str:
        where = f"rows {window.top}..{window.bottom - 1}, columns {window.left}..{window.right - 1}"
        text = f"cannot read {where} of {printable(self.path)} (damaged or cut short): {one_line(error)}"
        return text + ("; fetch the file again, or fill with nodata: --on-read-error nodata" if advice else "")


def _validity(bands: NDArray[Any], nodata: float | None) -> Valid:
    """Where not all bands are nodata (as GDAL's dataset mask has it) and none is NaN or infinite."""
    valid = np.ones(bands.shape[1:], np.bool_)
    if nodata is not None:
        valid = ~np.all([_is_nodata(band, nodata) for band in bands], axis=0)
    if bands.dtype.kind == "f":
        for band in bands:
            valid &= np.isfinite(band)
    return valid


def _is_nodata(band: NDArray[Any], nodata: float) -> Valid:
    """As GDAL compares (gdalnodatamaskband.cpp): fractions cut off for integers, the last digits of floats left out.

    Those are ARE_REAL_EQUAL of gdal_priv.h in the band's own precision: where the sum overflows, as near -3.4e38, any
    large value of the same sign is nodata.
    """
    with np.errstate(all="ignore"):
        value = np.float64(nodata).astype(band.dtype)
        same: Valid = band == value
        if band.dtype.kind == "f":
            same |= np.abs(band - value) < np.finfo(np.float32).eps * np.abs(band + value) * 2
    return same


def _stretch(bands: NDArray[Any], scale: Sequence[float]) -> Pixels:
    """Values from low to high as 0 to 255, clipped; NaN becomes 0. scale: low and high of all bands, or of each."""
    out = np.empty(bands.shape, np.uint8)
    pairs = list(zip(scale[::2], scale[1::2], strict=True))
    pairs = pairs * (1 if len(pairs) == len(bands) else len(bands))
    for band, target, (low, high) in zip(bands, out, pairs, strict=True):  # floats of one are eight times as large
        with np.errstate(all="ignore"):
            scaled = (band.astype(np.float64) - low) * (255.0 / (high - low))
        target[...] = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0), 0, 255))
    return out

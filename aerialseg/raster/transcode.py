"""A raster decoded once: what decodes from the top, or slowly, becomes tiles that can be read at any place.

PNG, JPEG and WebP decode line by line from the first one, JPEG 2000 whole code blocks at a time, and each window of a
run overlaps others: without a copy one image is decoded many times over.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.windows import Window

from aerialseg.errors import ResourceError
from aerialseg.executor import Inline, local_threads, run_tasks
from aerialseg.files import naming_errors, write_atomically
from aerialseg.progress import spoken_bytes
from aerialseg.raster.damage import noticing_damage
from aerialseg.raster.decode import DECODERS, NativeReader, Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, without_georef_warnings
from aerialseg.raster.piece import Piece
from aerialseg.raster.sidecars import identity_of
from aerialseg.raster.warped import open_piece

TILE_PX = 256
"""Side of a tile of the copy."""
WINDOW_BYTES = 32 << 20
"""What one thread decodes at a time, or one tile of the source or one row of the copy's where that is more."""
WINDOW_PX = 1024
"""Side of a window where the source has tiles; a larger one where these are larger."""

_DECIDES = ("bands", "scale", "nodata", "alpha", "internal_mask", "on_read_error", "shape")
"""Of a piece: what the pixels of its copy depend on."""
_LOST = "LOST"


@dataclass(frozen=True, slots=True)
class DecodedCopy:
    """``piece`` reads the same pixels from the copy. lost: boxes of the source that could not be read: nodata there."""

    piece: Piece
    lost: frozenset[Box]


def copy_bytes(piece: Piece) -> int:
    """Disk that a copy takes at most."""
    rows, cols = (_whole(side, TILE_PX) for side in piece.shape)
    return rows * cols * _bands(piece)


def decoded_copy(piece: Piece, folder: Path, advance: Callable[[int], None] = lambda _: None) -> DecodedCopy:
    """A copy in ``folder`` of what `NativeReader` reads of ``piece``, pixel for pixel, as uncompressed tiles.

    A copy that is there already, of the same file and sidecars, is taken as it is. Memory is bounded: a window of
    `WINDOW_BYTES` or one row of tiles for each thread, beside what the decoder needs. ``advance`` is told the pixels
    done. Raises InputError (naming the window that cannot be read, unless the piece says otherwise), OutputError,
    ResourceError where the disk has no room.
    """
    about: dict[str, Any] = {"of": identity_of(Path(piece.path)), **{name: getattr(piece, name) for name in _DECIDES}}
    if piece.warp:
        about["warp"] = [*piece.warp.content(), piece.top, piece.left]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    path = folder / f"{key[:24]}.tif"
    if not path.exists():
        with naming_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        _check_room(piece, folder)
        _write(piece, path, advance)
    count = len(piece.bands)
    alpha = count + 1 if _bands(piece) > count else 0
    plain = replace(piece, scale=None, nodata=None, internal_mask=False, alpha=alpha, slow=False, warp=None)
    return DecodedCopy(replace(plain, path=str(path), bands=tuple(range(1, count + 1))), _lost_in(path))


def _bands(piece: Piece) -> int:
    """Bands of the copy: the piece's and, where a pixel may be invalid, one that says which are."""
    return len(piece.bands) + (not piece.always_valid or piece.on_read_error == "nodata")


def _check_room(piece: Piece, folder: Path) -> None:
    free, wanted = shutil.disk_usage(folder).free, copy_bytes(piece)
    if free < wanted:
        raise ResourceError(
            f"{folder} has {spoken_bytes(free)} free and {piece.path} takes {spoken_bytes(wanted)} when it is decoded: "
            "free some, or convert it to a tiled GeoTIFF first: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
        )


def _write(piece: Piece, path: Path, advance: Callable[[int], None]) -> None:
    height, width = piece.shape
    layout = {"tiled": True, "blockxsize": TILE_PX, "blockysize": TILE_PX, "interleave": "pixel", "bigtiff": "IF_SAFER"}
    profile: dict[str, Any] = {"driver": "GTiff", "dtype": "uint8", "sparse_ok": True, **layout}
    with _Reading(piece) as reading, write_atomically(path, durable=False, errors=()) as part:
        with _writing(part):
            copy = rasterio.open(part, "w", height=height, width=width, count=_bands(piece), **profile)
        try:
            for box, pixels, valid in reading.windows():
                with _writing(part):
                    _put(copy, box, pixels, valid)
                advance(box.area)
            boxes = [[box.top, box.left, box.bottom, box.right] for box in sorted(reading.lost)]
            with _writing(part):
                copy.update_tags(**{_LOST: json.dumps(boxes)})
        finally:
            with _writing(part):
                copy.close()
        _lost_in(part)  # a full disk may show only now


def _lost_in(copy: Path) -> frozenset[Box]:
    """What the copy lacks of its source. Raises OutputError where it is none."""
    with _writing(copy), rasterio.open(copy, driver="GTiff") as file:
        return frozenset(Box(*box) for box in json.loads(file.tags()[_LOST]))


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """A block of writing whose errors become OutputError, those too that GDAL only mentions (a full disk)."""
    with (
        naming_errors(path, (*GDAL_ERRORS, KeyError)),
        gdal_environment(alone=True),
        noticing_damage(),
        without_georef_warnings(),
    ):
        yield


def _put(copy: Any, box: Box, pixels: Pixels, valid: Valid) -> None:
    if not valid.any():  # a hole in the file, which takes no room
        return
    area = Window(box.left, box.top, box.width, box.height)
    if copy.count > len(pixels):
        pixels = np.concatenate([pixels, valid[None] * np.uint8(255)])
    copy.write(pixels, window=area)


class _Reading:
    """Reads a piece from top to bottom, tiles by several threads that have a handle each. A context manager."""

    def __init__(self, piece: Piece) -> None:
        self._piece = piece
        self._own = threading.local()
        self._lock = threading.Lock()
        self._readers: list[NativeReader] = []
        self._first = self._reader()

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers:
            reader.close()

    @property
    def lost(self) -> set[Box]:
        return set().union(*(reader.lost for reader in self._readers))

    def windows(self) -> Iterator[tuple[Box, Pixels, Valid]]:
        """Boxes that cover the source once, as they are read."""
        rows, cols = self._window
        fitting = 4 * WINDOW_BYTES // (rows * cols * _bands(self._piece))
        # Lines have to be decoded one after the other.
        workers = max(1, min(DECODERS, fitting)) if self._first.tiled else 1
        executor = Inline() if workers == 1 else local_threads(workers)
        height, width = self._piece.shape
        boxes = (
            Box(top, left, top + rows, left + cols) & Box(0, 0, height, width)
            for top in range(0, height, rows)
            for left in range(0, width, cols)
        )
        yield from run_tasks(executor, self._read, boxes, in_flight=workers)

    @property
    def _window(self) -> tuple[int, int]:
        """(rows, columns) of a window: whole tiles of the copy and, within reason, of the source."""
        rows, cols = self._first.block
        if self._first.tiled:
            return _whole(max(rows, WINDOW_PX), TILE_PX), _whole(max(cols, WINDOW_PX), TILE_PX)
        cols = _whole(cols, TILE_PX)
        return max(1, WINDOW_BYTES // (cols * _bands(self._piece) * TILE_PX)) * TILE_PX, cols

    def _read(self, box: Box) -> tuple[Box, Pixels, Valid]:
        return box, *self._reader().read(box)

    def _reader(self) -> NativeReader:
        reader: NativeReader | None = getattr(self._own, "reader", None)
        if reader is None:
            reader = self._own.reader = open_piece(self._piece, decoders=1)
            with self._lock:
                self._readers.append(reader)
        return reader


def _whole(size: int, of: int) -> int:
    return -(-size // of) * of

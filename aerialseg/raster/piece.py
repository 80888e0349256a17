"""One file of a view: which of its bands are read, how its values become bytes, and what makes a pixel invalid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.bands import RGB, check_bands, check_type, pick_bands
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.grid import Box
from aerialseg.raster.warp import Warp

OnReadError = Literal["fail", "nodata"]
Colour = tuple[tuple[int, ...], int]
"""A value for each band, and by how much a pixel may be off in any of them."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a view: how its own pixels are read, and where they lie.

    ``bands`` and ``alpha`` count from 1; ``alpha`` is 0 where there is none. ``scale``: the values that become 0
    and 255, of all bands or of each in turn. ``nodata``, ``alpha`` and ``internal_mask`` say what makes a pixel
    invalid: a pixel is valid unless *all* used bands are nodata, its alpha or mask is 0 (as in GDAL's dataset
    mask), or any used band is NaN or infinite. ``top`` and ``left``: of its first pixel on the sheet of that
    number. ``run``: pieces of one run count before those of the next. ``digest``: RasterInfo's. ``slow``: a window
    costs much more than its share of the whole, as in all formats but GeoTIFF. ``warp``: how it comes from another
    CRS onto the working grid, whose pixels ``shape`` counts.
    """

    path: str
    shape: tuple[int, int]
    bands: tuple[int, ...]
    digest: str = ""
    sheet: int = 0
    top: int = 0
    left: int = 0
    run: int = 0
    scale: tuple[float, ...] | None = None
    on_read_error: OnReadError = "fail"
    nodata: float | None = None
    alpha: int = 0
    internal_mask: bool = False
    slow: bool = False
    warp: Warp | None = None

    @property
    def box(self) -> Box:
        """Its pixels on its sheet."""
        return Box(self.top, self.left, self.top + self.shape[0], self.left + self.shape[1])

    def content(self) -> list[Any]:
        """JSON-ready: what decides its pixels, wherever the file is."""
        how = self.bands, self.scale, self.nodata, self.alpha, self.internal_mask
        warped = [self.warp.content()] if self.warp else []
        return [self.digest, self.shape, self.top, self.left, *how, *warped]

    @property
    def always_valid(self) -> bool:
        """Whether every pixel that can be read is valid, whatever it holds."""
        plain = self.nodata is None and not self.alpha and not self.internal_mask and self.scale is None
        return plain and self.warp is None


def edges_of(pieces: Sequence[Piece]) -> NDArray[np.int64]:
    """(4, n): top, left, bottom and right of each on its sheet."""
    boxes = (piece.box for piece in pieces)
    return np.array([(box.top, box.left, box.bottom, box.right) for box in boxes], np.int64).reshape(-1, 4).T


@dataclass(frozen=True, slots=True)
class Reading:
    """What is wanted of rasters: see `make_view`."""

    wanted: Sequence[str] = RGB
    bands: Sequence[int] | None = None
    alpha: Literal["auto", "none"] = "auto"
    scale: Sequence[float] | None = None
    usual_scale: Sequence[float] = ()
    on_read_error: OnReadError = "fail"
    collar: tuple[Colour, ...] = ()


def make_piece(info: RasterInfo, want: Reading, *, require_crs: bool) -> tuple[Piece, str]:
    """The piece, without its place, and what is to be said of its bands."""
    placed = info.geo.crs is not None and info.georeferenced
    if require_crs and not placed:
        what, how = (
            ("coordinate system (CRS)", "-a_srs EPSG:CODE")
            if info.georeferenced
            else ("transform from pixels to the ground", "-a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY")
        )
        raise InputError(f"{printable(info.path)} has no {what}; add it: gdal_edit.py {how}")
    no_alpha, bands, note = want.alpha == "none", want.bands, ""
    used = pick_bands(info, want.wanted, no_alpha) if bands is None else check_bands(info, want.wanted, bands)
    flagged = info.color.index("alpha") + 1 if "alpha" in info.color else 0
    masked = flagged if "alpha" in info.mask and not no_alpha and flagged not in used else 0
    scale, scale_note = _scale(info, used, want)
    check_type(info, used, scale)
    if bands is None and used != tuple(range(1, len(used) + 1)):
        note += f"; bands {', '.join(map(str, used))} are {', '.join(want.wanted)}, as the file says"
    unused = [f"{band} ({name})" for band, name in enumerate(info.color, 1) if band not in (*used, flagged)]
    if bands is None and unused:
        note += f"; band{'s' if len(unused) > 1 else ''} {', '.join(unused)} not used"
    if flagged != masked:
        note += f"; band {flagged}, flagged alpha, is no mask"
    note += scale_note
    piece = Piece(
        path=info.path,
        shape=info.geo.shape,
        bands=used,
        digest=info.digest,
        scale=scale,
        on_read_error=want.on_read_error,
        nodata=info.nodata,
        alpha=masked,
        internal_mask="internal" in info.mask,
        slow=info.driver != "GTiff",
    )
    return piece, note


def _scale(info: RasterInfo, used: Sequence[int], want: Reading) -> tuple[tuple[float, ...] | None, str]:
    """The values that become 0 and 255, as asked for or else as is usual; and what is to be said of them."""
    if want.scale is not None or not want.usual_scale:
        return (None if want.scale is None else tuple(map(float, want.scale))), ""
    pairs = zip(want.usual_scale[::2], want.usual_scale[1::2], strict=True)
    spoken = ", ".join(f"{low:g} to {high:g}" for low, high in pairs)
    if all(info.dtypes[band - 1] == "uint8" for band in used):
        return None, f"; 8 bit are read as they are, while the model was trained on values scaled from {spoken}"
    return tuple(map(float, want.usual_scale)), f"; values scaled from {spoken}, as the model's card says"

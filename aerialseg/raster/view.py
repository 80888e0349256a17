"""How a raster is read for a model: which bands, at which ground sampling distance. Decided once, as data."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.georef import Georeferenced
from aerialseg.raster.grid import MAX_PIXELS

MAX_SHRINK = 1000
"""Source pixels along each axis that may make one working pixel."""
WIDE = 8192
"""Compressed strips wider than this are decoded again for each of many blocks."""
GSD_TOLERANCE = 0.10
"""Imagery whose pixels are this much larger or smaller than the model's is read as it is."""
MAX_COARSER = 4.0
"""Imagery this many times coarser than the model's shows nothing that the model knows."""

OnReadError = Literal["fail", "nodata"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View(Georeferenced):
    """How a raster is read. ``geo`` and ``gsd_m`` are those of the working grid.

    The transform of a raster that stores none is the one that QGIS draws it by (see RasterInfo).

    ``ratio`` is (rows, columns) of source pixels per working pixel. ``bands`` and ``alpha`` count from 1; ``alpha`` is
    0 where there is none. ``nodata``, ``alpha`` and ``internal_mask`` say what makes a pixel invalid: a pixel is valid
    unless *all* used bands are nodata, its alpha or mask is 0 (as in GDAL's dataset mask), or any used band is NaN or
    infinite. ``note`` is one sentence for the user.
    """

    source_shape: tuple[int, int]
    bands: tuple[int, ...]
    scale: tuple[float, float] | None
    resampled: bool
    ratio: tuple[float, float]
    on_read_error: OnReadError
    gsd_m: tuple[float, float] | None
    note: str
    nodata: float | None = None
    alpha: int = 0
    internal_mask: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.geo.shape


def make_view(
    info: RasterInfo,
    *,
    model_gsd_m: float | None,
    wanted: Sequence[str] = ("red", "green", "blue"),
    bands: Sequence[int] | None = None,
    alpha: Literal["auto", "none"] = "auto",
    gsd: float | Literal["native"] | None = None,
    scale: tuple[float, float] | None = None,
    on_read_error: OnReadError = "fail",
    max_pixels: int = MAX_PIXELS,
    require_crs: bool = False,
) -> View:
    """How ``info``'s raster is read for a model of ``model_gsd_m`` metres a pixel that wants the bands ``wanted``.

    ``bands`` are those, in that order; None takes what the file says of its bands. ``alpha`` "none": a band that is
    flagged alpha is no mask.

    ``gsd`` is None (resample to the model's where they differ by more than 10 %), "native" (never resample), or
    metres: the working resolution where the raster has a coordinate system, the size of its own pixel where it has
    none. Raises InputError when bands, type, ground sampling distance, georeference or size do not fit, UsageError
    when ``gsd`` or ``scale`` make no sense for any raster.
    """
    placed = info.geo.crs is not None and info.georeferenced
    if require_crs and not placed:
        what, how = (
            ("coordinate system (CRS)", "-a_srs EPSG:CODE")
            if info.georeferenced
            else ("transform from pixels to the ground", "-a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY")
        )
        raise InputError(f"{printable(info.path)} has no {what}; add it: gdal_edit.py {how}")
    used = _pick_bands(info, wanted, alpha == "none") if bands is None else _check_bands(info, wanted, bands)
    flagged = info.color.index("alpha") + 1 if "alpha" in info.color else 0
    masked = flagged if "alpha" in info.mask and alpha == "auto" and flagged not in used else 0
    _check_type(info, used, scale)
    shape, gsd_m, note = _working_grid(info, model_gsd_m, _parse_gsd(gsd))
    _check_size(info, shape, max_pixels)
    if not placed:
        unit = "" if gsd_m else "lengths and areas are in pixels (px, px²); "
        note = f"no {'coordinate system' if info.georeferenced else 'georeference'}; {unit}{note}"
    _warn(info, note if gsd_m is None or not placed else "")
    if bands is None and used != tuple(range(1, len(used) + 1)):
        note += f"; bands {', '.join(map(str, used))} are {', '.join(wanted)}, as the file says"
    if flagged != masked:
        note += f"; band {flagged}, flagged alpha, is no mask"
    return View(
        path=info.path,
        geo=replace(info.geo.zoom_to(shape), crs=info.geo.crs if placed else None),
        source_shape=info.geo.shape,
        bands=used,
        scale=None if scale is None else (float(scale[0]), float(scale[1])),
        resampled=shape != info.geo.shape,
        ratio=(info.geo.height / shape[0], info.geo.width / shape[1]),
        on_read_error=on_read_error,
        gsd_m=gsd_m,
        note=note,
        nodata=info.nodata,
        alpha=masked,
        internal_mask="internal" in info.mask,
    )


def _warn(info: RasterInfo, note: str) -> None:
    if note:
        logger.warning("%s: %s", printable(info.path), note)
    if info.block_shape[1] >= info.geo.width > WIDE and info.compression != "none":
        logger.warning(
            "%s is stored in strips: gdal_translate -co TILED=YES would make reading it faster", printable(info.path)
        )


def _pick_bands(info: RasterInfo, wanted: Sequence[str], no_alpha: bool) -> tuple[int, ...]:
    """The bands that the file says are the wanted ones; where it does not say, all bands in their order."""
    if "alpha" in info.color and "alpha" not in info.mask and not no_alpha:
        raise InputError(
            f"band {info.color.index('alpha') + 1} of {printable(info.path)} is flagged alpha but is no mask: it has "
            f"many levels, as infrared has; choose bands with {_example(info, wanted)}, or say --alpha none"
        )
    if all(info.color.count(name) == 1 for name in wanted):
        return tuple(info.color.index(name) + 1 for name in wanted)
    colours = tuple(band for band, name in enumerate(info.color, 1) if name != "alpha")
    if no_alpha and len(colours) != len(wanted):
        colours = tuple(range(1, info.count + 1))
    said = [info.color[band - 1] for band in colours]
    silent = ("undefined", "gray", "alpha")
    if len(said) == len(wanted) and all(a in (b, *silent) for a, b in zip(said, wanted, strict=True)):
        return colours
    raise InputError(
        f"{printable(info.path)} has {info.count} band(s) ({', '.join(info.color[:8])}), the model wants {len(wanted)} "
        f"({', '.join(wanted)}); say which, counting from 1: {_example(info, wanted)}"
    )


def _example(info: RasterInfo, wanted: Sequence[str]) -> str:
    colours = [band for band, name in enumerate(info.color, 1) if not name == "alpha" in info.mask] or [1]
    return f"--bands {','.join(map(str, (colours + colours[-1:] * len(wanted))[: len(wanted)]))}"


def _check_bands(info: RasterInfo, wanted: Sequence[str], bands: Sequence[int]) -> tuple[int, ...]:
    used = tuple(int(band) for band in bands)
    wrong = [band for band in used if not 1 <= band <= info.count]
    if len(used) != len(wanted) or wrong:
        which = f"there is no band {wrong[0]}" if wrong else f"the model wants {len(wanted)} ({', '.join(wanted)})"
        raise InputError(
            f"--bands {','.join(map(str, used))} of {printable(info.path)} with {info.count} band(s): {which}"
        )
    return used


def _check_type(info: RasterInfo, bands: tuple[int, ...], scale: tuple[float, float] | None) -> None:
    types = {info.dtypes[band - 1] for band in bands}
    if any(dtype.startswith("complex") for dtype in types):
        raise InputError(
            f"{printable(info.path)} holds complex numbers, the model wants 8-bit colours; convert it first"
        )
    if scale is not None:
        low, high = scale
        if not (math.isfinite(low) and math.isfinite(high) and low != high):
            raise UsageError(f"--scale {low:g},{high:g}: wanted two different finite values, such as 0,4095")
    elif types != {"uint8"}:
        raise InputError(
            f"{printable(info.path)} holds {', '.join(sorted(types))}, the model wants 8-bit colours; "
            f"say which values are black and white with --scale LOW,HIGH{_scale_hint(info, bands)}"
        )


def _scale_hint(info: RasterInfo, bands: tuple[int, ...]) -> str:
    """The range of the bits that the file says it uses; otherwise nobody knows but who looks at the values."""
    if info.bits and info.dtypes[bands[0] - 1].startswith("uint"):
        return f": its {info.bits} bits make that --scale 0,{2**info.bits - 1}"
    return ", the least and the greatest of Computed Min/Max in 'gdalinfo -mm FILE' if nothing better is known"


def _parse_gsd(gsd: float | str | None) -> float | Literal["native"] | None:
    if gsd is None or gsd == "native":
        return gsd  # type: ignore[return-value]
    try:
        value = float(gsd)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"--gsd {gsd}: wanted metres per pixel above 0 (such as 0.05), or 'native'")
    return value


Shape = tuple[int, int]
Gsd = tuple[float, float]


def _working_grid(
    info: RasterInfo, model: float | None, gsd: float | Literal["native"] | None
) -> tuple[Shape, Gsd | None, str]:
    """(shape, ground size of a pixel, note) of the grid that the raster is read on."""
    own = info.gsd_m
    stated = own is None and isinstance(gsd, float)
    if stated:
        assert isinstance(gsd, float)
        own = (gsd, gsd)
    native = info.geo.shape
    if own is None:
        return native, None, "pixels have no known size on the ground, read as they are; --gsd METRES tells their size"
    if gsd == "native" or (model is None and (gsd is None or stated)):
        return native, own, f"{_metres(own)}, read as it is"
    target = gsd if isinstance(gsd, float) and not stated else model
    assert target is not None
    if gsd is None or stated:
        _check_coarser(info, own, target)
        if max(abs(size / target - 1) for size in own) <= GSD_TOLERANCE:
            return native, own, f"{_metres(own)}, read as it is (the model's: {target:.3f} m/px)"
    shape = _resized(info, own, target)
    if shape == native:
        return native, own, f"{_metres(own)}, read as it is"
    whose = "the model's " if target == model else ""
    actual = own[0] * info.geo.width / shape[1], own[1] * info.geo.height / shape[0]
    return shape, actual, f"{_metres(own)}, resampled to {whose}{target:.3f} m/px"


def _check_coarser(info: RasterInfo, own: Gsd, model: float) -> None:
    times = max(own) / model
    if times > MAX_COARSER * 1.01:
        raise InputError(
            f"{printable(info.path)} has {_metres(own)}, {times:.3g} times coarser than the model's {model:.3f} m/px "
            f"(at most {MAX_COARSER:.0f} times); use finer imagery or a model for it, "
            "or say --gsd native to run it anyway"
        )


def _resized(info: RasterInfo, own: Gsd, target: float) -> Shape:
    if target / min(own) > MAX_SHRINK:
        raise InputError(
            f"{printable(info.path)} has {_metres(own)}: {target / min(own):.0f} of its pixels would make one of "
            f"{target:.3f} m (at most {MAX_SHRINK}); check its coordinate system, "
            "or shrink it first with gdalwarp -tr -r average"
        )
    return max(1, round(info.geo.height * own[1] / target)), max(1, round(info.geo.width * own[0] / target))


def _check_size(info: RasterInfo, shape: Shape, max_pixels: int) -> None:
    pixels = shape[0] * shape[1]
    if pixels > max_pixels:
        raise InputError(
            f"{printable(info.path)} has {pixels:,} px to map ({shape[0]:,} x {shape[1]:,}), more than --max-pixels "
            f"{max_pixels:,}; raise --max-pixels, or cut it with gdal_translate -srcwin"
        )


def _metres(gsd: Gsd) -> str:
    x, y = gsd
    return f"{x:.3f} m/px" if abs(x / y - 1) < 0.02 else f"{x:.3f} x {y:.3f} m/px"

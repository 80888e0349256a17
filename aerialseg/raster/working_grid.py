"""At which ground sampling distance rasters are read, and what is too coarse, too fine or too large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from aerialseg.errors import InputError, MisfitError, UsageError
from aerialseg.files import printable
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.lattice import working_pixel

MAX_SHRINK = 1000
"""Source pixels along each axis that may make one working pixel."""
GSD_TOLERANCE = 0.10
"""Imagery whose pixels are this much larger or smaller than the model's is used as it is."""
MAX_COARSER = 4.0
"""Imagery this many times coarser than the model's shows nothing that the model knows."""
SAME_PIXEL = 1e-6
"""Pixels that differ by less are the same: what a transform's digits lose."""
AGREES = 0.01
"""A --pixel-size that is at most this far off the raster's own pixel size says the same."""

Resolution = float | Literal["native"] | None
"""What is computed at: metres per pixel; the raster's own pixels ("native"); None, the model's where they differ."""
Gsd = tuple[float, float]


def split_gsd(
    infos: Sequence[RasterInfo], gsd: Resolution, resolution: Resolution, pixel_size: float | None
) -> tuple[Resolution, float | None]:
    """Resolution and pixel size of what was given, where the old name ``gsd`` may stand for either.

    Metres were the pixel size for rasters that do not know theirs, else the resolution. Raises UsageError where an old
    and a new name are given.
    """
    if gsd is None:
        return resolution, pixel_size
    if resolution is not None or pixel_size is not None:
        raise UsageError(
            "--gsd is the old name of --resolution and of --pixel-size, one of which is given too: write --resolution "
            "METRES|native (what the map is computed at) and --pixel-size METRES (of a raster that does not know it) "
            "in place of --gsd"
        )
    if gsd == "native" or any(info.gsd_m for info in infos):
        return gsd, None
    return None, gsd


def check_scale(resolution: Resolution, pixel_size: float | None) -> tuple[Resolution, float | None]:
    """Both as numbers. Raises UsageError."""
    try:
        resolution = resolution if resolution in (None, "native") else _metres(resolution)
    except ValueError:
        raise UsageError(f"--resolution {resolution}: wanted metres per pixel (such as 0.05), or 'native'") from None
    try:
        return resolution, None if pixel_size is None else _metres(pixel_size)
    except ValueError:
        raise UsageError(f"--pixel-size {pixel_size}: wanted metres per pixel (such as 0.05)") from None


def _metres(given: float | str | None) -> float:
    value = float(given or 0)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """pixel: its size in units of the CRS, None for the raster's own. gsd_m: its size on the ground."""

    pixel: tuple[float, float] | None
    gsd_m: Gsd | None
    note: str


def working_grid(
    info: RasterInfo, model: float | None, resolution: Resolution, pixel_size: float | None
) -> WorkingGrid:
    """The grid that the raster is read on. ``pixel_size``: of its pixels, where it does not know. Raises InputError."""
    own = _own_size(info, pixel_size)
    if own is None:
        if isinstance(resolution, float):
            raise InputError(
                f"{printable(info.path)} does not say how large its pixels are on the ground, so it cannot be "
                f"resampled to --resolution {resolution:g}: give --pixel-size METRES as well"
            )
        size = "pixels have no known size on the ground, read as they are; --pixel-size METRES tells their size"
        return WorkingGrid(None, None, size)
    target = model if resolution is None else resolution
    if target is None or target == "native":
        return WorkingGrid(None, own, f"{_spoken(own)}, used as it is")
    if resolution is None:
        _check_coarser(info, own, target)
        if max(abs(size / target - 1) for size in own) <= GSD_TOLERANCE:
            return WorkingGrid(None, own, f"{_spoken(own)}, used as it is (the model's: {spoken_gsd(target)})")
    _check_shrink(info, own, target)
    geo = info.geo if info.georeferenced else replace(info.geo, crs=None)
    pixel = working_pixel(geo, own, target)
    times = [new / old for new, old in zip(pixel, geo.resolution, strict=True)]
    if max(abs(one - 1) for one in times) < SAME_PIXEL:
        return WorkingGrid(None, own, f"{_spoken(own)}, used as it is")
    whose = "the model's " if target == model else ""
    return WorkingGrid(
        pixel, (own[0] * times[0], own[1] * times[1]), f"{_spoken(own)}, resampled to {whose}{spoken_gsd(target)}"
    )


def _own_size(info: RasterInfo, pixel_size: float | None) -> Gsd | None:
    """Ground size of the raster's pixels as it says, or as it was given. Raises InputError where these contradict."""
    own = info.gsd_m
    if pixel_size is None:
        return own
    if own is not None and max(abs(pixel_size / size - 1) for size in own) > AGREES:
        raise InputError(
            f"{printable(info.path)} has {_spoken(own)} by its own georeference, and --pixel-size says "
            f"{spoken_gsd(pixel_size)}: leave --pixel-size out (--resolution METRES is what a map is computed at), or "
            "correct the file's georeference"
        )
    return own or (pixel_size, pixel_size)


def mismatch(gsd_m: Gsd | None, model: float | None) -> str:
    """A warning where the user chose a resolution for which the model was not trained."""
    if gsd_m is None or model is None or max(abs(size / model - 1) for size in gsd_m) <= GSD_TOLERANCE:
        return ""
    times = max((size / model for size in gsd_m), key=lambda ratio: abs(math.log(ratio)))
    how = f"{times:.3g} times coarser" if times > 1 else f"{1 / times:.3g} times finer"
    map_is = "a poorer" if 1 / MAX_COARSER <= times <= MAX_COARSER else "a wrong"
    return f", {how} than the model's {spoken_gsd(model)}: expect {map_is} map"


def _check_coarser(info: RasterInfo, own: Gsd, model: float) -> None:
    times = max(own) / model
    if times > MAX_COARSER * 1.01:
        raise MisfitError(
            f"{printable(info.path)} has {_spoken(own)}, {times:.3g} times coarser than the model's "
            f"{spoken_gsd(model)} (at most {MAX_COARSER:.0f} times); use finer imagery or a model for it, "
            "or give --resolution native to run it anyway",
            own,
        )


def _check_shrink(info: RasterInfo, own: Gsd, target: float) -> None:
    if target / min(own) > MAX_SHRINK:
        raise InputError(
            f"{printable(info.path)} has {_spoken(own)}: {target / min(own):.0f} of its pixels would make one of "
            f"{spoken_gsd(target)} (at most {MAX_SHRINK}); check its coordinate system, "
            "or shrink it first with gdalwarp -tr X Y -r average -dstalpha"
        )


def check_size(info: RasterInfo, shape: tuple[int, int], max_pixels: int) -> None:
    """Raise InputError where a working grid of that shape has no pixels or too many."""
    path, pixels = info.path, shape[0] * shape[1]
    if not pixels:
        raise InputError(
            f"{printable(path)} ({info.geo.width} x {info.geo.height} px) is smaller than one pixel of the model; "
            "map it at its own resolution: --resolution native"
        )
    if pixels > max_pixels:
        raise InputError(
            f"{printable(info.path)} has {pixels:,} px to map ({shape[0]:,} x {shape[1]:,}), more than --max-pixels "
            f"{max_pixels:,}; raise --max-pixels, or map a part of it with --aoi"
        )


def _spoken(gsd: Gsd) -> str:
    x, y = gsd
    return f"{spoken_gsd(x)} per pixel" if abs(x / y - 1) < 0.02 else f"{spoken_gsd(x)} x {spoken_gsd(y)} per pixel"


def spoken_gsd(metres: float) -> str:
    """Metres per pixel as a person says them: ``3.5 cm``, ``1.2 m``."""
    return f"{metres * 100:.3g} cm" if metres < 1 else f"{metres:.3g} m"

"""At which ground sampling distance rasters are read, and what is too coarse, too fine or too large."""

from __future__ import annotations

import math
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


def parse_gsd(gsd: float | str | None) -> float | Literal["native"] | None:
    if gsd is None or gsd == "native":
        return gsd  # type: ignore[return-value]
    try:
        value = float(gsd)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"--gsd {gsd}: wanted metres per pixel above 0 (such as 0.05), or 'native'")
    return value


Gsd = tuple[float, float]


@dataclass(frozen=True, slots=True)
class WorkingGrid:
    """pixel: its size in units of the CRS, None for the raster's own. gsd_m: its size on the ground."""

    pixel: tuple[float, float] | None
    gsd_m: Gsd | None
    note: str


def working_grid(info: RasterInfo, model: float | None, gsd: float | Literal["native"] | None) -> WorkingGrid:
    """The grid that the raster is read on."""
    own = info.gsd_m
    stated = own is None and isinstance(gsd, float)
    if stated:
        assert isinstance(gsd, float)
        own = (gsd, gsd)
    if own is None:
        size = "pixels have no known size on the ground, read as they are; --gsd METRES tells their size"
        return WorkingGrid(None, None, size)
    if gsd == "native" or (model is None and (gsd is None or stated)):
        return WorkingGrid(None, own, f"{_spoken(own)}, used as it is")
    target = gsd if isinstance(gsd, float) and not stated else model
    assert target is not None
    if gsd is None or stated:
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
            "or give --gsd native to run it anyway",
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
            "map it at its own resolution: --gsd native"
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

"""Which bands of a raster a model gets, and whether their values are what it wants."""

from __future__ import annotations

import math
from collections.abc import Sequence

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.raster.describe import RasterInfo


def pick_bands(info: RasterInfo, wanted: Sequence[str], no_alpha: bool) -> tuple[int, ...]:
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


def check_bands(info: RasterInfo, wanted: Sequence[str], bands: Sequence[int]) -> tuple[int, ...]:
    used = tuple(int(band) for band in bands)
    wrong = [band for band in used if not 1 <= band <= info.count]
    if len(used) != len(wanted) or wrong:
        which = f"there is no band {wrong[0]}" if wrong else f"the model wants {len(wanted)} ({', '.join(wanted)})"
        raise InputError(
            f"--bands {','.join(map(str, used))} of {printable(info.path)} with {info.count} band(s): {which}"
        )
    return used


def check_type(info: RasterInfo, bands: tuple[int, ...], scale: tuple[float, float] | None) -> None:
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

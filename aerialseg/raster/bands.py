"""Which bands of a raster a model gets, and whether their values are what it wants."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from aerialseg.errors import InputError, MisfitError, UsageError
from aerialseg.files import printable
from aerialseg.raster.describe import RasterInfo

RGB = ("red", "green", "blue")

_SILENT = ("undefined", "gray")
"""Colour interpretations that say nothing."""
_WORDS = {
    "near infrared": "nir",
    "infrared": "nir",
    "ir": "nir",
    "ndsm": "height",
    "chm": "height",
    "red edge": "rededge",
}
"""Descriptions of bands -> the names of models' bands that they mean."""


def names_of_bands(info: RasterInfo, wanted: Sequence[str]) -> tuple[str, ...]:
    """What the file says of each band: its colour interpretation, or its description where that is a wanted name."""
    silent = _SILENT if "alpha" in info.mask else (*_SILENT, "alpha")  # GDAL flags the fourth band alpha, unless told
    names = list(info.color)
    for at, description in enumerate(info.descriptions):
        word = " ".join(re.split(r"[\s_-]+", description.lower())).strip()
        word = _WORDS.get(word, word)
        if names[at] in silent and word in wanted and word not in names:
            names[at] = word
    return tuple(names)


def pick_bands(info: RasterInfo, wanted: Sequence[str], no_alpha: bool) -> tuple[int, ...]:
    """The bands that the file says are the wanted ones; where it does not say, all bands in their order."""
    names = names_of_bands(info, wanted)
    if "alpha" in names and "alpha" not in info.mask and not no_alpha:
        raise InputError(
            f"band {info.color.index('alpha') + 1} of {printable(info.path)} is flagged alpha but is no mask: it has "
            f"many levels, as infrared has; choose bands with {_example(info, wanted)}, or say --alpha none"
        )
    if all(names.count(name) == 1 for name in wanted):
        return tuple(names.index(name) + 1 for name in wanted)
    colours = tuple(band for band, name in enumerate(names, 1) if name != "alpha")
    if no_alpha and len(colours) != len(wanted):
        colours = tuple(range(1, info.count + 1))
    said = [names[band - 1] for band in colours]
    silent = ("undefined", "gray", "alpha")
    if len(said) == len(wanted) and all(a in (b, *silent) for a, b in zip(said, wanted, strict=True)):
        return colours
    raise MisfitError(
        f"{printable(info.path)} has {info.count} band(s) ({', '.join(map(printable, names[:8]))}), the model wants "
        f"{len(wanted)} ({', '.join(wanted)}); name them, counting from 1: {_example(info, wanted)}",
        info.gsd_m,
        names,
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


def check_type(info: RasterInfo, bands: tuple[int, ...], scale: Sequence[float] | None) -> None:
    """Raise InputError where the values are neither bytes nor scaled to bytes, UsageError for a scale that is none."""
    types = {info.dtypes[band - 1] for band in bands}
    if any(dtype.startswith("complex") for dtype in types):
        raise InputError(
            f"{printable(info.path)} holds complex numbers, the model wants 8-bit colours; convert it first"
        )
    if scale is not None:
        check_scale(scale, len(bands))
    elif types != {"uint8"}:
        raise InputError(
            f"{printable(info.path)} holds {', '.join(sorted(types))}, the model wants 8-bit colours; "
            f"say which values are black and white with --scale LOW,HIGH{_scale_hint(info, bands)}"
        )


def check_scale(scale: Sequence[float], bands: int) -> None:
    """Raise UsageError where these are not one LOW,HIGH for all bands, or one for each."""
    if len(scale) not in (2, 2 * bands):
        raise UsageError(
            f"--scale {_numbers(scale)}: wanted LOW,HIGH for all bands, or one such pair for each of the {bands}"
        )
    pairs = zip(scale[::2], scale[1::2], strict=True)
    if not all(math.isfinite(low) and math.isfinite(high) and low != high for low, high in pairs):
        raise UsageError(f"--scale {_numbers(scale)}: wanted two different finite values, such as 0,4095")


def _numbers(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _scale_hint(info: RasterInfo, bands: tuple[int, ...]) -> str:
    """The range of the bits that the file says it uses; otherwise nobody knows but who looks at the values."""
    if info.bits and info.dtypes[bands[0] - 1].startswith("uint"):
        return f": its {info.bits} bits make that --scale 0,{2**info.bits - 1}"
    return ", the least and the greatest of Computed Min/Max in 'gdalinfo -mm FILE' if nothing better is known"

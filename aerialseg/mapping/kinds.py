"""Kinds of values that settings have: how each is read, from a command line, a TOML file or Python."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOISE = 8
"""How far lossy compression moves black and white, about."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of one kind are written.

    parse: the value of text, of a TOML value or of what Python passed; ValueError or TypeError where it is none.
    wanted: what it should have been, for errors. metavar: on the command line; "" is a flag. choices: if few.
    unit: of a number, in documents.
    """

    parse: Callable[[Any], Any]
    wanted: str
    metavar: str
    choices: tuple[str, ...] = ()
    unit: str = ""


def _number(value: Any) -> float:
    number = float(_no_flag(value))
    if not 0 <= number < math.inf:
        raise ValueError
    return number


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError
    return value


def _count(value: Any) -> int:
    number = float(_no_flag(value))
    if not 1 <= number < math.inf:
        raise ValueError
    return int(number)


def _flag(value: Any) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _pixel_size(value: Any) -> float:
    metres = _number(value)
    if not metres:
        raise ValueError
    return metres


def _resolution(value: Any) -> float | str:
    return "native" if value == "native" else _pixel_size(value)


def _tiling(value: Any) -> str:
    mode, colon, halo = str(value).partition(":")
    if mode not in ("exact", "approximate") or (colon and (mode == "exact" or int(halo) < 0)):
        raise ValueError
    return str(value)


def _numbers(of: Callable[[Any], Any], count: int | None) -> Callable[[Any], tuple[Any, ...]]:
    def parse(value: Any) -> tuple[Any, ...]:
        parts = value.split(",") if isinstance(value, str) else _no_flag(value)
        numbers = tuple(of(part) for part in parts)
        if count is not None and len(numbers) != count:
            raise ValueError
        return numbers

    return parse


def _scale(value: Any) -> tuple[float, ...]:
    numbers = _numbers(float, None)(value)
    if not numbers or len(numbers) % 2:
        raise ValueError
    return numbers


def _colours(value: Any) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Colours with their tolerances: of ``255,255,255``, ``0,0,0~8``, ``auto``, or of several of these."""
    if isinstance(value, str):
        if value == "auto":
            return (((0, 0, 0), NOISE), ((255, 255, 255), NOISE))
        colour, _, tolerance = value.partition("~")
        values = tuple(int(part) for part in colour.split(","))
        if not all(0 <= one <= 255 for one in (*values, int(tolerance or 0))):
            raise ValueError
        return ((values, int(tolerance or 0)),)
    if value and all(isinstance(one, str) for one in value):
        return tuple(colour for one in value for colour in _colours(one))
    return tuple((tuple(map(int, colour)), int(tolerance)) for colour, tolerance in value)


def _crs(value: Any) -> str:
    from aerialseg.raster.placement import wkt_of  # PROJ takes a while to load, and few need it

    text = str(_no_flag(value)).strip()
    wkt_of(text)
    return text


def split_layer(text: str) -> tuple[str, str]:
    """Path and layer of FILE:LAYER; the layer is "" where it is not said."""
    named = re.fullmatch(r"(.*\.\w+):([^/\\]+)", text)
    return (named[1], named[2]) if named else (text, "")


def split_aoi(text: str) -> tuple[tuple[float, float, float, float] | None, str, str]:
    """Of an area of interest: (xmin, ymin, xmax, ymax), "" and its CRS; or None, a path and the layer.

    CRS and layer are "" where they are not said. Raises ValueError for numbers that are no box.
    """
    corners, _, crs = text.partition("@")
    try:
        numbers = [float(part) for part in corners.split(",")]
    except ValueError:
        return None, *split_layer(text)
    left, bottom, right, top = numbers
    if not (left < right and bottom < top and all(map(math.isfinite, numbers))):
        raise ValueError
    return (left, bottom, right, top), "", crs


def aoi_file(text: str | None) -> str:
    """The path of an area of interest, "" where it is none."""
    return split_aoi(text)[1] if text else ""


def _aoi(value: Any) -> str:
    text = str(value) if isinstance(value, (str, Path)) else ",".join(repr(float(_no_flag(one))) for one in value)
    if not text:
        raise ValueError
    split_aoi(text)
    return text


def _files(value: Any) -> tuple[str, ...]:
    texts = tuple(str(one) for one in ([value] if isinstance(value, (str, Path)) else _no_flag(value)))
    if not all(texts):
        raise ValueError
    return texts


def choice(*values: str) -> Kind:
    def parse(value: Any) -> str:
        return values[values.index(value)]

    return Kind(parse, f"one of {', '.join(values)}", "|".join(values), values)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip("-"):
        raise ValueError
    return value


def _device(value: Any) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)):
        raise ValueError
    return str(value)


FLAG = Kind(_flag, "true or false", "")
AREA = Kind(_number, "0 or more m²", "M2", unit="m²")
LENGTH = Kind(_number, "0 or more metres", "M", unit="m")
PIXELS = Kind(_count, "1 or more pixels", "PX", unit="px")
BANDS = Kind(_numbers(int, None), "1,2,3 (band numbers)", "1,2,3")
SCALE = Kind(_scale, "LOW,HIGH (two numbers), or one such pair a band", "LOW,HIGH")
COLOURS = Kind(_colours, "R,G,B, R,G,B~TOLERANCE or auto", "R,G,B[~T]|auto")
ORDER = Kind(_text, "auto, name, newest, given, FIELD or -FIELD (of a tile index)", "name|newest|given|[-]FIELD")
RESOLUTION = Kind(_resolution, "metres per pixel (0.05) or 'native'", "M|native", unit="m/px")
PIXEL_SIZE = Kind(_pixel_size, "metres per pixel (0.05)", "M", unit="m/px")
AOI = Kind(
    _aoi,
    "XMIN,YMIN,XMAX,YMAX (of the raster's CRS, or of another: ...@EPSG:4326) or a file of polygons",
    "FILE[:LAYER]|XMIN,YMIN,XMAX,YMAX",
)
POLYGON_FILES = Kind(_files, "files of polygons", "FILE[:LAYER]")
TILING = Kind(_tiling, "exact, approximate or approximate:PX (pixels around each tile)", "exact|approximate[:PX]")
DEVICE = Kind(_device, "auto, cpu, cuda or cuda:N (the GPU of that number, from 0)", "auto|cpu|cuda[:N]")
CRS = Kind(_crs, "EPSG:CODE (such as EPSG:25832) or WKT", "EPSG:CODE")

"""The first directory of a TIFF, as far as it takes to see what GDAL would be told before GDAL is."""

from __future__ import annotations

import struct
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

GEO_ASCII = 34737
"""GeoAsciiParams: names, and in some files the whole text, of the coordinate system."""
GDAL_METADATA = 42112
"""An XML text of GDAL's own."""

DOUBLE = 12
_SIZES = dict.fromkeys((3, 8), 2) | dict.fromkeys((4, 9, 11, 13), 4) | dict.fromkeys((5, 10, DOUBLE, 16, 17, 18), 8)
"""Type of values -> bytes of one, where that is more than 1."""


def text_tags(path: Path, *, most: int) -> dict[int, bytes]:
    """`GEO_ASCII` and `GDAL_METADATA` of the first directory, each cut after ``most`` bytes. Raises OSError."""
    found: dict[int, bytes] = {}
    for tag, _, content in read_tags(path, (GEO_ASCII, GDAL_METADATA), most=most)[1]:
        found[tag] = found.get(tag, b"") + content
    return found


def read_tags(path: Path, wanted: Collection[int], *, most: int) -> tuple[str, list[tuple[int, int, bytes]]]:
    """The order of bytes ("<" or ">"), and number, type and content, cut after ``most`` bytes, of tags of the first
    directory.

    What makes no sense is left out: GDAL cannot read it either, and says so. Raises OSError.
    """
    found: list[tuple[int, int, bytes]] = []
    with open(path, "rb") as file:
        order = "<" if file.read(2) == b"II" else ">"
        try:
            for tag, kind, start, length in _entries(file, order, wanted):
                file.seek(start)
                found.append((tag, kind, file.read(min(length, most))))
        except (struct.error, ValueError, OverflowError):
            pass
    return order, found


def _entries(file: BinaryIO, order: str, wanted: Collection[int]) -> list[tuple[int, int, int, int]]:
    """(tag, type, offset, bytes) of the tags that are looked for."""
    big = _number(file, order + "H") == 43
    pointer, counter = ("Q", "Q") if big else ("I", "H")
    file.seek(8 if big else 4)
    file.seek(_number(file, order + pointer))
    entry = struct.Struct(f"{order}HH{pointer}{8 if big else 4}s")
    start = file.tell() + struct.calcsize(order + counter)
    content = file.read(struct.calcsize(order + counter))
    (count,) = struct.unpack(order + counter, content)
    content = file.read(min(count, 65_535) * entry.size)
    content = content[: len(content) // entry.size * entry.size]
    found = []
    for number, (tag, kind, values, value) in enumerate(entry.iter_unpack(content)):
        if tag in wanted:
            length = values * _SIZES.get(kind, 1)
            offset = start + (number + 1) * entry.size - len(value)
            if length > len(value):
                (offset,) = struct.unpack(order + pointer, value)
            found.append((tag, kind, offset, length))
    return found


def _number(file: BinaryIO, layout: str) -> int:
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return int(value)

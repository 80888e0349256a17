"""The first directory of a TIFF, as far as it takes to see what GDAL would be told before GDAL is."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

GEO_ASCII = 34737
"""GeoAsciiParams: names, and in some files the whole text, of the coordinate system."""
GDAL_METADATA = 42112
"""An XML text of GDAL's own."""


def text_tags(path: Path, *, most: int) -> dict[int, bytes]:
    """`GEO_ASCII` and `GDAL_METADATA` of the first directory, each cut after ``most`` bytes. Raises OSError.

    What makes no sense is left out: GDAL cannot read it either, and says so.
    """
    found: dict[int, bytes] = {}
    with open(path, "rb") as file:
        try:
            for tag, start, length in _texts(file):
                file.seek(start)
                found[tag] = found.get(tag, b"") + file.read(min(length, most))
        except (struct.error, ValueError, OverflowError):
            pass
    return found


def _texts(file: BinaryIO) -> list[tuple[int, int, int]]:
    """(tag, offset, length) of the tags that are looked for."""
    order = "<" if file.read(2) == b"II" else ">"
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
    for number, (tag, _, length, value) in enumerate(entry.iter_unpack(content)):
        if tag in (GEO_ASCII, GDAL_METADATA):
            inside = length <= len(value)
            offset = start + (number + 1) * entry.size - len(value)
            found.append((tag, offset if inside else struct.unpack(order + pointer, value)[0], length))
    return found


def _number(file: BinaryIO, layout: str) -> int:
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return int(value)

"""Where plain GeoTIFFs lie, without asking GDAL for the coordinate system of each.

To make a CRS of a file's GeoKeys takes GDAL longer than all else of opening it, and the thousands of tiles of a mosaic
have the same keys. So GDAL is asked for the first file of each set of keys, and the place of the others, one tie point
and the size of a pixel, is read here: only where doing so for the first file gave the very numbers of GDAL's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from aerialseg.raster.georef import GeoGrid, Transform
from aerialseg.raster.ifd import DOUBLE, GEO_ASCII, read_tags

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, GEO_DOUBLES = 33550, 33922, 34264, 34735, 34736
_PLACED, _KEYS = {PIXEL_SCALE, TIE_POINTS, GEO_KEYS}, (GEO_KEYS, GEO_DOUBLES, GEO_ASCII)
MOST_BYTES = 1 << 16
MOST_KEYS = 256

_known: dict[str, str] = {}
"""The GeoKeys that were met, and what GDAL made of them, for the process."""


@dataclass(frozen=True, slots=True)
class TiffPlace:
    """What a file says of its place. keys: those that its CRS is made of, as they are stored."""

    transform: Transform
    keys: str

    @property
    def crs(self) -> str | None:
        """The CRS of the keys, WKT; None where GDAL has to be asked."""
        return _known.get(self.keys)

    def learn(self, found: GeoGrid) -> None:
        """Remember what GDAL found for the file, if it is what was read here."""
        if found.crs is not None and found.transform == self.transform:
            if len(_known) >= MOST_KEYS:
                _known.clear()
            _known[self.keys] = found.crs


def read_place(path: Path) -> TiffPlace | None:
    """The place of a TIFF that has one tie point and the size of a pixel; None of any other file.

    No file may lie beside it, which could place it elsewhere. Raises OSError.
    """
    order, tags = read_tags(path, (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, *_KEYS), most=MOST_BYTES)
    found = {tag: (kind, content) for tag, kind, content in tags}
    if len(found) < len(tags) or not found.keys() >= _PLACED or TRANSFORMATION in found:
        return None
    (scale_kind, scale), (point_kind, point) = found[PIXEL_SCALE], found[TIE_POINTS]
    if (scale_kind, point_kind, len(scale), len(point)) != (DOUBLE, DOUBLE, 24, 48):
        return None
    width, height, _ = struct.unpack(f"{order}3d", scale)
    col, row, _, x, y, _ = struct.unpack(f"{order}6d", point)
    if not (width > 0 and height > 0):
        return None
    keys = repr([order, *map(found.get, _KEYS)])
    return TiffPlace((width, 0.0, x - col * width, 0.0, -height, y + row * height), keys)

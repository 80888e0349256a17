"""Whether GDAL may read an ``.aux.xml``: how much it holds, and what its coordinate systems name."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from xml.parsers import expat

MAX_BYTES = 32 << 20
MAX_NODES = 1_000_000
"""Elements and attributes: GDAL needs about 200 bytes for each."""
MAX_REPEATS = 65_536
"""How often one element may occur: as many categories or rows of a table as uint16 has values."""

_CELL = "f"
"""The element of one cell of an attribute table."""
_STORAGE = {"INTERLEAVE", "COMPRESSION", "NBITS"}
"""Metadata of the raster itself. GDAL takes them from here instead, and memory is reckoned from them."""
_PLACES = {"srs", "projection", "wkt"}
"""Elements and attributes that hold a coordinate system; GDAL takes one for the other, in any case."""
_GRID_FILE = re.compile(
    r"""(\b(\w*grids|init|file|model)\s*=\s*|PROJ4_GRIDS"\s*,\s*"|PARAMETERFILE\s*[\[(]\s*"[^"]*"\s*,\s*")[^\s"]*[/\\]""",
    re.IGNORECASE,
)


class _FaultError(Exception):
    """Why GDAL must not read the file."""


def names_grid_file(crs: str) -> bool:
    """Whether a coordinate system (WKT or PROJ string) names a datum grid by a path, which PROJ would open."""
    return _GRID_FILE.search(crs) is not None


def pam_fault(path: Path, *, of_tiff: bool = True) -> str | None:
    """Why GDAL must not read the ``.aux.xml`` at ``path``, or None. Raises OSError.

    of_tiff: it belongs to a TIFF, of which only the file itself may say how it is stored. gdal_translate writes it down
    beside PNG and JPEG for what they were made of, and nobody asks.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        return f"has {size:,} bytes, more than {MAX_BYTES:,}"
    try:
        content = path.read_bytes()
        _check_nodes(content)
        _Reader(of_tiff).parser.Parse(content, True)  # in small pieces it would take minutes for one long element
    except expat.ExpatError as error:
        return f"is not valid XML ({error})"
    except _FaultError as fault:
        return str(fault)
    return None


def _check_nodes(content: bytes) -> None:
    """Refuse too many elements and attributes before anything makes objects of them."""
    if content.count(b"<") - content.count(b"</") + content.count(b"=") > MAX_NODES:
        raise _FaultError(f"has more than {MAX_NODES:,} elements and attributes")


class _Reader:
    """Counts what GDAL would keep, and keeps nothing itself but the text of a coordinate system."""

    def __init__(self, of_tiff: bool) -> None:
        self._of_tiff = of_tiff
        self._met: Counter[str] = Counter()
        self._text: list[str] | None = None
        self._storage = False
        # Whatever encoding the file claims, GDAL looks at bytes; in this encoding each byte is one character.
        self.parser = expat.ParserCreate("iso-8859-1")
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.lower()
        self._met[tag] += 1
        if tag != _CELL and self._met[tag] > MAX_REPEATS:
            raise _FaultError(f"has more than {MAX_REPEATS:,} elements <{tag}>")
        if tag == "metadata":
            self._storage = attributes.get("domain", "").upper() == "IMAGE_STRUCTURE"
        elif self._of_tiff and self._storage and tag == "mdi" and attributes.get("key", "").upper() in _STORAGE:
            raise _FaultError(f"says how the raster is stored ({attributes['key']}), which only the raster can")
        for key, value in attributes.items():
            if key.lower() in _PLACES:
                _check_crs(value)
        self._text = [] if tag in _PLACES else None

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _end(self, _: str) -> None:
        if self._text is not None:
            _check_crs("".join(self._text))
        self._text = None

    def _doctype(self, *_: object) -> None:
        raise _FaultError("has a document type declaration, which GDAL's own files never have")


def _check_crs(text: str) -> None:
    if names_grid_file(text):
        raise _FaultError("has a coordinate system that names a grid file by its path, and such files are not opened")

"""Files beside a GeoTIFF that GDAL opens along with it, checked before GDAL sees them.

Whatever driver opens the raster, GDAL opens its mask (``.msk``), overviews (``.ovr``), and old ERDAS statistics
(``.aux``) with any driver, so one that is a VRT reads any file and any address. GDAL reads ``.aux.xml`` whole, so a
small one can fill the memory. Other sidecars (world files, ``.IMD``, ``.RPB`` ...) are text that names no files.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from aerialseg.raster.ifd import GDAL_METADATA, GEO_ASCII, text_tags
from aerialseg.raster.pam_check import names_grid_file, pam_fault

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MAX_TEXT_BYTES = 16 << 20
"""GDAL reads metadata files whole, and needs ten times their size."""

_CHAIN = r"(\.(ovr|msk|aux|aux\.xml))*"
_TEXT = r"(\.(xml|imd|rpb|rpc|pvl)|_(rpc|metadata|mtl|pvl)\.(txt|xml))"
_HFA_MAGIC = b"EHFA_HEADER_TAG"
_HFA_POINTER = re.compile(rb"(RRDNamesList|ExternalRasterDMS)\0", re.IGNORECASE)


def find_sidecars(raster: Path) -> Iterator[Path]:
    """Files beside ``raster`` that GDAL may open with it, those of its sidecars included. Raises OSError."""
    name, stem = re.escape(raster.name), re.escape(raster.stem)
    opened = re.compile(rf"({name}|{stem}\.aux){_CHAIN}|{stem}{_TEXT}", re.IGNORECASE)
    start = raster.stem.casefold()
    with os.scandir(raster.parent) as entries:
        for entry in entries:
            if entry.name == raster.name or not entry.name.casefold().startswith(start):
                continue
            special = entry.name[len(raster.stem) :][:1] in (".", "_") and not (entry.is_file() or entry.is_dir())
            path = raster.with_name(entry.name)
            if (opened.fullmatch(entry.name) or special) and path.exists():
                yield path


def is_tiff_sidecar(path: Path) -> bool:
    """Whether the name is that of a mask or of overviews."""
    return path.suffix.lower() in (".msk", ".ovr")


def fault_of(path: Path) -> str | None:
    """Why GDAL must not see the sidecar at ``path``, or None. Raises OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not status.st_size:
        return "is empty" if is_tiff_sidecar(path) else None
    if path.name.lower().endswith(".aux.xml"):
        return pam_fault(path)
    if path.suffix.lower() == ".aux":
        return _hfa_fault(path)
    if is_tiff_sidecar(path):
        return tiff_fault(path)
    much = status.st_size > MAX_TEXT_BYTES
    return f"has {status.st_size:,} bytes, more than {MAX_TEXT_BYTES:,}" if much else None


def tiff_fault(path: Path) -> str | None:
    """Why GDAL must not open the file at ``path`` as a TIFF, or None. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(4)
    if head not in TIFF_MAGIC:
        return f"starts with {head!r} and is not a TIFF; other formats are not followed"
    texts = text_tags(path, most=MAX_TEXT_BYTES + 1)
    if len(texts.get(GDAL_METADATA, b"")) > MAX_TEXT_BYTES:
        return f"has a metadata tag of more than {MAX_TEXT_BYTES:,} bytes"
    if names_grid_file(texts.get(GEO_ASCII, b"").decode("latin-1")):
        return "has a coordinate system that names a grid file by its path, and such files are not opened"
    return None


def _hfa_fault(path: Path) -> str | None:
    """ERDAS files may name others that hold their pixels; GDAL ignores an ``.aux`` of any other format."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        points = content[: len(_HFA_MAGIC)] == _HFA_MAGIC and _HFA_POINTER.search(content)
    return "is an ERDAS file that points to other files, and those are not followed" if points else None

"""Files beside a raster that GDAL opens along with it, checked before GDAL sees them.

Whatever driver opens the raster, GDAL opens its mask (``.msk``), overviews (``.ovr``), and old ERDAS statistics
(``.aux``) with any driver, so one that is a VRT reads any file and any address. GDAL reads ``.aux.xml`` whole, so a
small one can fill the memory. Other sidecars (world files, ``.IMD``, ``.RPB`` ...) are text that names no files.

A raster is its sidecars too: they hold its mask, its place and its coordinate system, so `identity_of` covers them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.ifd import GDAL_METADATA, GEO_ASCII, text_tags
from aerialseg.raster.jp2 import jp2_texts
from aerialseg.raster.pam_check import names_grid_file, pam_fault
from aerialseg.raster.sqlite_check import sqlite_fault

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

MAX_TEXT_BYTES = 16 << 20
"""GDAL reads metadata files whole, and needs ten times their size."""

SETTLED_NS = 2_000_000_000
_CHAIN = r"(\.(ovr|msk|aux|aux\.xml))*"
_TEXT = r"(\.(xml|imd|rpb|rpc|pvl|prj|tab|wld)|_(rpc|metadata|mtl|pvl)\.(txt|xml))"
_EDGE_BYTES = 64 << 10
Listing = Callable[[Path], list[tuple[str, str]]]
_GRID_FAULT = "has a coordinate system that names a grid file by its path, and such files are not opened"
_HFA_MAGIC = b"EHFA_HEADER_TAG"
_HFA_POINTER = re.compile(rb"(RRDNamesList|ExternalRasterDMS)\0", re.IGNORECASE)


def names_in(folder: Path) -> list[tuple[str, str]]:
    """The names in a folder, each behind itself in lower case, sorted. Raises OSError."""
    changed_ns = os.stat(folder).st_mtime_ns
    if time.time_ns() - changed_ns < SETTLED_NS:  # the clock of files is too coarse to tell two changes apart
        return _names_in(folder)
    return _known_names(folder, changed_ns)


def _names_in(folder: Path) -> list[tuple[str, str]]:
    return sorted((name.casefold(), name) for name in os.listdir(folder))


@lru_cache(maxsize=16)
def _known_names(folder: Path, changed_ns: int) -> list[tuple[str, str]]:
    """Of a folder of thousands of tiles, each of which asks for the files beside it."""
    return _names_in(folder)


def find_sidecars(raster: Path, listing: Listing = names_in) -> Iterator[Path]:
    """Files beside ``raster`` that GDAL may open with it, those of its sidecars included. Raises OSError.

    listing: for whoever asks of many rasters of one folder and would list it once.
    """
    names, name, stem = listing(raster.parent), raster.name, raster.stem
    start = stem.casefold()
    for lower, beside in islice(names, bisect_left(names, (start, "")), None):
        if not lower.startswith(start):
            break
        rest = beside[len(stem) :]
        if beside == name or rest[:1] not in (".", "_"):
            continue
        path = raster.with_name(beside)
        if path.exists() and (_opened(raster.suffix).fullmatch(rest) or not (path.is_file() or path.is_dir())):
            yield path


@lru_cache(maxsize=64)
def _opened(suffix: str) -> re.Pattern[str]:
    """How the names go on of what GDAL opens with a raster of that suffix."""
    ending = re.escape(suffix[1:])
    world = rf"\.({ending[:1]}{ending[-1:]}|{ending})w"
    return re.compile(rf"({re.escape(suffix)}|\.aux){_CHAIN}|{_TEXT}|{world}", re.IGNORECASE)


def identity_of(raster: Path, listing: Listing = names_in, sidecars: Sequence[Path] | None = None) -> str:
    """A cheap identity of a raster, "OWN:BESIDE": the second part is that of its sidecars.

    Of size, time of change, first and last 64 KiB. Of a sidecar that these hold completely the time does not count:
    copying renews it. sidecars: those that `find_sidecars` has found already, sorted. Raises InputError where a file is
    missing or cannot be read.
    """
    try:
        own = hashlib.sha256(_state_of(raster, timed=True))
        beside = hashlib.sha256()
        for path in sorted(find_sidecars(raster, listing)) if sidecars is None else sidecars:
            beside.update(os.fsencode(path.name) + b"\0" + hashlib.sha256(_state_of(path, timed=False)).digest())
    except OSError as error:
        raise InputError(
            f"cannot read {printable(error.filename or raster)}: {error.strerror or error}; is it still there?"
        ) from error
    return f"{own.hexdigest()}:{beside.hexdigest()}"


def _state_of(path: Path, *, timed: bool) -> bytes:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # reading from a pipe would wait
        return b"no file"
    timed = timed or status.st_size > 2 * _EDGE_BYTES
    with open(path, "rb") as file:
        first = file.read(_EDGE_BYTES)
        file.seek(max(0, status.st_size - _EDGE_BYTES))
        return f"{status.st_size} {status.st_mtime_ns if timed else ''} ".encode() + first + file.read(_EDGE_BYTES)


def is_tiff_sidecar(path: Path) -> bool:
    """Whether the name is that of a mask or of overviews."""
    return path.suffix.lower() in (".msk", ".ovr")


def fault_of(path: Path, *, of_tiff: bool = True) -> str | None:
    """Why GDAL must not see the sidecar at ``path`` (of a TIFF or of another raster), or None. Raises OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if not status.st_size:
        return "is empty" if is_tiff_sidecar(path) else None
    if path.name.lower().endswith(".aux.xml"):
        return pam_fault(path, of_tiff=of_tiff)
    if path.suffix.lower() == ".aux":
        return _hfa_fault(path)
    if is_tiff_sidecar(path):
        return tiff_fault(path)
    much = status.st_size > MAX_TEXT_BYTES
    return f"has {status.st_size:,} bytes, more than {MAX_TEXT_BYTES:,}" if much else None


def raster_fault(path: Path, driver: str) -> str | None:
    """Why GDAL must not open the raster at ``path`` with that driver, and what to do; None where it may.

    Raises OSError.
    """
    if driver in ("GPKG", "MBTiles"):
        return sqlite_fault(path, geopackage=driver == "GPKG")
    fault = None
    if driver == "GTiff":
        fault = tiff_fault(path)
    elif driver == "JP2OpenJPEG":
        texts = jp2_texts(path, most=MAX_TEXT_BYTES)
        if texts is None:
            fault = f"has more than {MAX_TEXT_BYTES:,} bytes of metadata"
        elif names_grid_file(texts):
            fault = _GRID_FAULT
    return f"{fault}; rewrite it with gdal_translate -a_srs EPSG:CODE -co PROFILE=GeoTIFF" if fault else None


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
        return _GRID_FAULT
    return None


def _hfa_fault(path: Path) -> str | None:
    """ERDAS files may name others that hold their pixels; GDAL ignores an ``.aux`` of any other format."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        points = content[: len(_HFA_MAGIC)] == _HFA_MAGIC and _HFA_POINTER.search(content)
    return "is an ERDAS file that points to other files, and those are not followed" if points else None

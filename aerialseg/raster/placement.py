"""Where a raster lies that does not say so itself: world files and ``.prj`` beside it, read strictly.

GDAL takes what it can out of a world file (text is 0, "0,5" is 0), reads none for WebP, and no ``.prj`` for images.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyproj
from affine import loadsw
from pyproj.exceptions import CRSError
from rasterio.crs import CRS
from rasterio.errors import CRSError as RasterioCRSError

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.georef import Transform
from aerialseg.raster.pam_check import names_grid_file

MAX_BYTES = 1 << 20
"""Of a world file or ``.prj``."""


def transform_beside(raster: Path, used: Sequence[str], stored: Transform | None) -> Transform | None:
    """The transform of the world file that places the raster; ``stored``, GDAL's, where none does.

    used: the files that GDAL took for parts of the raster. Raises InputError for a world file with nonsense.
    """
    if stored is not None and len(used) == 1:
        return stored
    names = {name.lower() for name in _world_names(raster)}
    found = [Path(file) for file in used if Path(file).name.lower() in names]
    if stored is None and not found:
        found = [path for path in map(raster.with_name, _world_names(raster)) if path.is_file()]
    if not found:
        return stored
    placed = _read_world_file(found[0])
    return stored if _is_placed_by_pam(raster) else placed  # GDAL knows which of both comes first in which format


def crs_beside(raster: Path) -> str | None:
    """The CRS of the ``.prj`` beside a raster, WKT; None where there is none. Raises InputError for nonsense."""
    found = [path for path in map(raster.with_suffix, (".prj", ".PRJ")) if path.is_file()]
    return _read_prj(found[0]) if found else None


def wkt_of(crs: str) -> str:
    """WKT as GDAL writes it of a CRS in WKT (Esri's too), or as EPSG:CODE. Raises ValueError."""
    text = crs.strip().strip("\0")
    if names_grid_file(text):
        raise ValueError("names a grid file by its path, and such files are not opened")
    try:
        known = pyproj.CRS.from_user_input(text) if _CODE.fullmatch(text) else pyproj.CRS.from_wkt(text)
        code = known.to_epsg()
        return str((CRS.from_epsg(code) if code else CRS.from_wkt(text, morph_from_esri_dialect=True)).to_wkt())
    except (CRSError, RasterioCRSError) as error:
        raise ValueError("is no coordinate system: wanted EPSG:CODE or WKT") from error


_CODE = re.compile(r"[A-Za-z]+:\d+")


def _world_names(raster: Path) -> Iterator[str]:
    """The names that the world file of a raster may have."""
    ending = raster.suffix[1:]
    for one in (f"{ending[:1]}{ending[-1:]}w", f"{ending}w", "wld"):
        yield from (f"{raster.stem}.{one.lower()}", f"{raster.stem}.{one.upper()}")


def _is_placed_by_pam(raster: Path) -> bool:
    pam = raster.with_name(raster.name + ".aux.xml")
    return pam.is_file() and b"<geotransform" in pam.read_bytes().lower()


def _read_world_file(path: Path) -> Transform:
    words = _read(path).replace(",", ".").split()
    try:
        transform = loadsw("\n".join(words))
        if not all(map(math.isfinite, transform)):
            raise ValueError
    except ValueError as error:
        raise InputError(
            f"{printable(path)} is no world file: it holds {' '.join(words)[:60]!r}, wanted six numbers, one on each "
            "line; correct it, or delete it"
        ) from error
    return tuple(transform)[:6]


def _read_prj(path: Path) -> str:
    text = _read(path)
    try:
        return wkt_of(text)
    except ValueError as error:
        raise InputError(
            f"{printable(path)} {error}; correct it, or delete it and say --crs EPSG:CODE (it holds {text[:60]!r})"
        ) from error


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {os.strerror(error.errno or 0)}") from error

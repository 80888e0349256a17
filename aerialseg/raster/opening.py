"""Opening rasters: the driver is named, nothing else is followed, warnings do not leak.

GDAL picks the driver by content, so a VRT renamed to ``.tif`` reads any file that it names, and a path may be an
address. Therefore a path is looked at before GDAL sees it, and only the driver that its first bytes call for may open
it (``drivers``). Nobody can tell GDAL which drivers may open the files beside it, so these are checked as well
(``sidecars``).
"""

from __future__ import annotations

import logging
import os
import re
import stat
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio.env import getenv, hasenv
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from aerialseg.errors import InputError
from aerialseg.files import FILE_ERRORS, one_line, printable
from aerialseg.raster.drivers import FORMATS, HEAD_BYTES, NAMES, driver_of, why_refused
from aerialseg.raster.georef import GeoGrid, Transform, check_place
from aerialseg.raster.placement import crs_beside, transform_beside
from aerialseg.raster.sidecars import fault_of, find_sidecars, is_tiff_sidecar, names_in, raster_fault

CACHE_BYTES = 32 << 20
"""GDAL's block cache, for the whole process: windows are read once, a larger cache would only cost memory."""

LISTED = 1000
"""Names in a folder that GDAL lists (GDAL_READDIR_LIMIT_ON_OPEN): with more it tries each name that it wants."""

GDAL_ERRORS = (RasterioError, rasterio._err.CPLE_BaseError, *FILE_ERRORS)
"""What rasterio raises when GDAL fails."""

MAX_SIDECAR_BLOCK = 1 << 30
"""Values in one tile or strip of a mask or of overviews, which decodes as a whole."""

_OPTIONS = {
    "GDAL_CACHEMAX": CACHE_BYTES,
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": "NO",
    "GDAL_NUM_THREADS": "1",
}
"""GDAL's fast way through PNG reads a file that was cut short without a word. JPEG 2000 is decoded by threads of its
own, whose errors nobody can catch, unless it is told to take one."""

UNPLACED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
"""How QGIS draws a raster without a transform: a pixel is a unit, rows count down from y = 0."""
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

_WANTED = f"give the path of a raster ({FORMATS})"
_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+:/|/vsi)")
_PREFIX = re.compile(r"^[A-Z][A-Z0-9_]+:")
_CUT = re.compile("[!;?\n\r\t\ud800-\udfff]|^//")
"""What pyogrio cuts a path at, drops from it, or cannot encode (names that are not UTF-8)."""
_warnings_lock = threading.Lock()

# Without a handler Python prints warnings of libraries to stderr; whoever sets up logging still gets them.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


@contextmanager
def without_georef_warnings() -> Iterator[None]:
    """A block in which rasterio does not warn about a missing georeference: that is a fact, reported as one."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def has_transform(dataset: Any) -> bool:
    """Whether an open dataset stores a transform: rasterio's identity may be one or stand for none, and only its
    warning tells which."""
    with _warnings_lock, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset.read_transform()
    return not any(issubclass(one.category, NotGeoreferencedWarning) for one in said)


def transform_of(dataset: Any) -> Transform | None:
    """The transform that an open dataset, or a world file beside it, stores (`placement`). Raises InputError."""
    stored = dataset.transform != rasterio.Affine.identity() or has_transform(dataset)
    found = tuple(dataset.transform)[:6] if stored else None
    return found if is_remote(dataset.name) else transform_beside(Path(dataset.name), dataset.files, found)


def geogrid_of(dataset: Any) -> GeoGrid:
    """Where an open dataset lies: by the transform and CRS that it or the files beside it store.

    Without a transform by `UNPLACED`, and without a CRS. Raises InputError where the transform leads nowhere, and where
    only control points or RPCs place it.
    """
    transform = transform_of(dataset)
    if transform in (None, IDENTITY) and (dataset.gcps[0] or dataset.rpcs):
        what, way = ("ground control points", "-tps") if dataset.gcps[0] else ("RPCs", "-rpc")
        raise InputError(
            f"{printable(dataset.name)} is placed by {what} only, not by a transform; warp it first: "
            f"gdalwarp {way} -r bilinear -dstalpha IN.tif OUT.tif (classes: -r near)"
        )
    if transform is None:
        return GeoGrid(dataset.height, dataset.width, UNPLACED, None)
    crs = dataset.crs.to_wkt() if dataset.crs else None
    if crs is None and not is_remote(dataset.name):
        crs = crs_beside(Path(dataset.name))
    geo = GeoGrid(dataset.height, dataset.width, transform, crs)
    check_place(dataset.name, geo)
    return geo


@contextmanager
def gdal_environment(*, alone: bool = False, crowded: bool = False) -> Iterator[None]:
    """A block in which GDAL's cache is small and nobody is asked for credentials.

    ``alone``: rasters are opened without the files beside them, as is right for those that we wrote ourselves.
    ``crowded``: their folder holds more names than GDAL lists, so it need not begin to. Inside another such block it
    costs nothing.
    """
    listing = "EMPTY_DIR" if alone else "TRUE" if crowded else "FALSE"
    options = {**_OPTIONS, "GDAL_DISABLE_READDIR_ON_OPEN": listing}
    if hasenv() and options.items() <= getenv().items():
        yield
        return
    with rasterio.Env(session=None, **options):
        yield


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether GDAL would take the path for an address, an archive or a part of a file instead of a file."""
    text = os.fspath(path)
    if _ADDRESS.match(text):
        return True
    return bool(_PREFIX.match(text)) and not os.path.exists(text)


@contextmanager
def name_for_pyogrio(path: Path) -> Iterator[str]:
    """A block in which pyogrio can open the file: it cuts a path at ``!`` and ``;`` and drops line breaks.

    Such a file has another name meanwhile, by links in a temporary folder. A name that will be written to must be fine
    itself. Raises OSError.
    """
    if not _CUT.search(str(path)):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="aerialseg-") as links:
        if not _CUT.search(path.name):
            os.symlink(path.parent, f"{links}/folder")
            yield f"{links}/folder/{path.name}"
            return
        for one in path.parent.iterdir():
            if one.name.startswith(path.stem):  # a shapefile has others beside it
                os.symlink(one, f"{links}/file{one.name[len(path.stem) :]}")
        yield f"{links}/file{path.suffix}"


def local_path(path: str | os.PathLike[str]) -> Path:
    """The absolute path of a regular file that starts like a raster. Raises InputError (faults 1, 2, 6, 7)."""
    absolute = Path(os.path.abspath(path))
    if is_remote(path) or is_remote(absolute):
        raise InputError(
            f"{printable(path)} is not a local file: addresses and GDAL's virtual paths are not opened; "
            "download the raster first, or give --allow-remote"
        )
    try:
        _check_regular(absolute)
        with open(absolute, "rb") as file:
            head = file.read(HEAD_BYTES)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {printable(absolute)}: {reason}; {_WANTED}") from error
    if driver_of(head) is None:
        raise InputError(f"{printable(absolute)} is not a raster that can be read: {why_refused(absolute, head)}")
    return absolute


def _check_regular(path: Path) -> None:
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{printable(path)} is a folder; {_WANTED}")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{printable(path)} is not a regular file; {_WANTED}")


def open_raster(path: str, *, placed: bool = True, sidecars: Sequence[Path] | None = None, **options: Any) -> Any:
    """An open rasterio dataset of the raster at ``path`` (from `local_path`, or the remote address of a GeoTIFF).

    placed: GDAL is asked where it lies, which takes most of the time of opening a GeoTIFF. sidecars: those that
    `find_sidecars` has found already, sorted. Raises InputError when GDAL
    cannot make sense of it, and when it, or a file beside it, points at another file.
    """
    if is_remote(path):
        return _open(path, "GTiff", **options)
    driver, sidecars = _checked(Path(path), sidecars)
    if driver == "GTiff" and not placed:
        options["GEOREF_SOURCES"] = "NONE"
    dataset = _open(Path(path), driver, alone=not sidecars, **options)
    for mask in (one for one in sidecars if str(one) == f"{path}.msk"):
        with _open(mask) as other:
            if other.shape != dataset.shape:
                dataset.close()
                raise InputError(
                    f"{printable(mask)} masks {other.width} x {other.height} px and {printable(Path(path).name)} has "
                    f"{dataset.width} x {dataset.height}: it belongs to another raster; move it elsewhere"
                )
    return dataset


def _checked(path: Path, sidecars: Sequence[Path] | None) -> tuple[str, Sequence[Path]]:
    """The driver of the file at ``path``, and the files beside it that it may open (faults 6, 7, 9). Raises
    InputError where it must not."""
    try:
        driver = _driver(path)
        if fault := raster_fault(path, driver):
            raise InputError(f"{printable(path)} {fault}")
        sidecars = sorted(find_sidecars(path)) if sidecars is None else sidecars
        for sidecar in sidecars:
            other = driver != "GTiff" and sidecar.name.lower() == f"{path.name.lower()}.aux.xml"
            if fault := fault_of(sidecar, of_tiff=not other):
                raise InputError(
                    f"{printable(sidecar)}, which GDAL opens together with {printable(path.name)}, {fault}; "
                    "move that file elsewhere"
                )
        for sidecar in filter(is_tiff_sidecar, sidecars):  # these have sidecars themselves, which are safe by now
            _check_tiff_sidecar(sidecar)
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"cannot read {printable(path)} or a file beside it: {error.strerror or error}; make them readable"
        ) from error
    return driver, sidecars


def _check_tiff_sidecar(path: Path) -> None:
    with _open(path) as dataset:
        rows, cols = dataset.block_shapes[0]
        if rows * cols * dataset.count >= MAX_SIDECAR_BLOCK:
            raise InputError(
                f"one block (tile or strip) of {printable(path)} has {rows} x {cols} px: too much for memory; "
                "move that file elsewhere, or rewrite it with gdal_translate -co TILED=YES"
            )


def _driver(path: Path) -> str:
    with open(path, "rb") as file:
        return driver_of(file.read(HEAD_BYTES)) or "GTiff"


def _open(target: str | Path, driver: str = "GTiff", *, alone: bool = False, **options: Any) -> Any:
    """alone: no file beside it is part of it; GDAL would list the folder for each raster to see that."""
    if driver == "GPKG":
        options["IMMUTABLE"] = "YES"  # else files appear beside it that are only of use for writing
    try:
        crowded = isinstance(target, Path) and not alone and len(names_in(target.parent)) > LISTED
        with gdal_environment(alone=alone, crowded=crowded), without_georef_warnings():
            # For files, what rasterio.open does, but for the settings that it makes anew for each.
            opened = rasterio.open if isinstance(target, str) else rasterio.DatasetReader
            dataset = opened(target, driver=driver, sharing=False, **options)
            elsewhere = dataset.tags(ns="OVERVIEWS")  # GDAL follows it when overviews are asked for, not before
    except GDAL_ERRORS as error:
        if "missing codec" in (met := one_line(error)):
            raise InputError(
                f"{printable(target)} is compressed with {met.rstrip('.').split()[-1]}, which this installation cannot "
                "read; rewrite it with a GDAL that can: gdal_translate -co COMPRESS=DEFLATE IN.tif OUT.tif"
            ) from error
        raise InputError(
            f"{printable(target)} is no readable {NAMES.get(driver, driver)} (damaged, cut short?): {one_line(error)}; "
            "fetch it again, or see gdalinfo"
        ) from error
    if elsewhere:
        dataset.close()
        raise InputError(
            f"{printable(target)} or its .aux.xml says that its overviews are in another file, and those are not "
            "followed; move that .aux.xml elsewhere, or make a copy of the raster with gdal_translate"
        )
    return dataset

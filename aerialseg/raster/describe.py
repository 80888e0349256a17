"""What a raster is, found without reading its pixels."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, Compression, MaskFlags
from rasterio.windows import Window

from aerialseg.errors import InputError, UsageError
from aerialseg.files import one_line, printable
from aerialseg.raster.bounds import name_of_crs, same_crs
from aerialseg.raster.georef import GeoGrid, Georeferenced, check_place
from aerialseg.raster.opening import (
    GDAL_ERRORS,
    IDENTITY,
    gdal_environment,
    geogrid_of,
    is_remote,
    local_path,
    open_raster,
    transform_of,
)
from aerialseg.raster.placement import wkt_of
from aerialseg.raster.sidecars import find_sidecars, identity_of
from aerialseg.raster.tiff_place import TiffPlace, read_place

MAX_BANDS = 4096
MAX_NAME = 80
"""Characters of a band's description that are kept."""
MAX_BLOCK_BYTES = 1 << 30
"""A tile or strip decodes as a whole: larger ones would cost more memory than a block of the output."""

MASK_LEVELS = 32
"""A mask has two levels; one whose edges were resampled has more of them, but there alone."""

LAST_SECOND = 253_402_300_799
"""The last one of the year 9999, the last that has a date."""

_SAMPLED_BYTES = 256 << 20
_SAMPLE_PX = 256


@dataclass(frozen=True)
class RasterInfo(Georeferenced):
    """What `describe` found: plain values, nothing opened.

    ``geo`` has the transform stored; where none is, the one that QGIS draws such a raster by (a pixel is a unit, rows
    count down from y = 0), so that what is made of the raster lies upon it. Neither that one nor a stored identity
    (which QGIS draws with rows counting up) makes the raster ``georeferenced``.
    ``gsd_m`` is the ground size of a pixel along x (columns) and y (rows) at the raster's centre, None without a known
    coordinate system. ``mask`` says what marks pixels as invalid: "none", or "alpha", "internal", "nodata" joined by
    "+" (a pixel is valid when none of them objects); a band that is flagged alpha but holds an image, as infrared, is
    not among them. NaN is always nodata, so ``nodata`` is never NaN. ``bits`` is NBITS: 12 where values end at 4095.
    ``digest`` is a cheap identity of header, file and sidecars (`identity_of`). ``driver`` is GDAL's for the format.
    ``descriptions`` are the names that the file gives its bands, "" where it gives none.
    """

    count: int
    dtypes: tuple[str, ...]
    georeferenced: bool
    nodata: float | None
    mask: str
    color: tuple[str, ...]
    bits: int | None
    block_shape: tuple[int, int]
    compression: str
    interleave: str
    gsd_m: tuple[float, float] | None
    digest: str
    driver: str = "GTiff"
    descriptions: tuple[str, ...] = ()


def describe(path: str | os.PathLike[str], *, allow_remote: bool = False, crs: str | None = None) -> RasterInfo:
    """What the raster at ``path`` is. Opens that file only, and nothing over the network unless ``allow_remote``.

    crs: of a raster that says none, EPSG:CODE or WKT.

    Raises InputError when there is no such file, when it is of no format that is read, when a tile or strip of it would
    take more than 1 GiB, when it is a palette image, when its bands have different nodata values, when only control
    points or RPCs place it, or when it has another CRS than ``crs``.
    """
    remote = allow_remote and is_remote(path)
    name = os.fspath(path) if remote else str(local_path(path))
    sidecars = [] if remote else _sidecars(name)  # first: what changes from here on is noticed
    identity = name if remote else identity_of(Path(name), sidecars=sidecars)
    plain = None if remote or sidecars else _plain_place(name)
    known = plain.crs if plain else None
    dataset = open_raster(name, placed=known is None, sidecars=sidecars)
    try:
        with gdal_environment(alone=not sidecars):
            _check(name, dataset)
            if plain and known:
                geo, placed = GeoGrid(dataset.height, dataset.width, plain.transform, known), True
                check_place(name, geo)
            else:
                geo, placed = geogrid_of(dataset), transform_of(dataset) not in (None, IDENTITY)
            if plain and not known:
                plain.learn(geo)
            if crs is not None:
                geo = _with_crs(name, geo, crs, placed=placed)
            info = RasterInfo(path=name, **_facts(dataset, geo, placed), digest="")
    except GDAL_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"the header of {printable(name)} cannot be read: {one_line(error)}; fetch the file again"
        ) from error
    finally:
        dataset.close()
    return replace(info, digest=_digest(info, identity))


def _sidecars(name: str) -> list[Path]:
    try:
        return sorted(find_sidecars(Path(name)))
    except OSError as error:
        raise InputError(f"cannot read the folder of {printable(name)}: {error.strerror or error}") from error


def _plain_place(name: str) -> TiffPlace | None:
    try:
        return read_place(Path(name))
    except OSError:  # who opens it says what is wrong
        return None


def is_unchanged(info: RasterInfo, *, allow_remote: bool = False) -> bool:
    """Whether raster and sidecars are still those described, as far as ``digest`` tells. Raises InputError."""
    if allow_remote and is_remote(info.path):
        return describe(info.path, allow_remote=True, crs=info.geo.crs).digest == info.digest
    return _digest(info, identity_of(Path(info.path))) == info.digest


def source_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of the whole file at ``path``, in hexadecimal, read in small pieces. Raises InputError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror or error}; is it still there?") from error


def source_date(*paths: str | os.PathLike[str]) -> datetime:
    """The time to write into what is made of these files: the same input gives the same bytes, whenever it is made.

    SOURCE_DATE_EPOCH (reproducible-builds.org) where it is set, else when the newest of them was last changed; 1970 for
    those that are not on a disk of this machine. Whole seconds, UTC. Raises UsageError.
    """
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = [0]
    for path in paths:
        with suppress(OSError):
            seconds.append(min(int(os.path.getmtime(path)), LAST_SECOND))
    try:
        return datetime.fromtimestamp(int(said) if said else max(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH is {said!r}: wanted whole seconds since 1970, or unset") from None


def _check(name: str, dataset: Any) -> None:
    if dataset.count > MAX_BANDS:
        raise InputError(
            f"{printable(name)} has {dataset.count:,} bands, more than {MAX_BANDS:,}: not an image; "
            "take the bands you need with gdal_translate -b 1 -b 2 -b 3"
        )
    size = block_bytes(dataset)
    if size >= MAX_BLOCK_BYTES:
        rows, cols = dataset.block_shapes[0]
        raise InputError(
            f"one block (tile or strip) of {printable(name)} has {rows} x {cols} px, which is {size / 2**30:.1f} GiB "
            "(less than 1 is wanted); rewrite it in smaller tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE"
        )
    if ColorInterp.palette in dataset.colorinterp:
        raise InputError(
            f"{printable(name)} is a palette image, its values are not colours; use gdal_translate -expand rgba"
        )
    pairs = zip(dataset.nodatavals, dataset.colorinterp, strict=True)
    if len(values := {str(value) for value, color in pairs if color != ColorInterp.alpha}) > 1:
        raise InputError(
            f"the bands of {printable(name)} have different nodata values ({', '.join(sorted(values))}), wanted one "
            "for all; make a mask of them: gdalwarp -dstalpha IN.tif OUT.tif"
        )


def block_bytes(dataset: Any) -> int:
    """Bytes that the largest block of an open dataset decodes to."""
    rows, cols = dataset.block_shapes[0]
    by_band = dataset.driver == "GTiff" and dataset.interleaving is not None and dataset.interleaving.name == "band"
    together = 1 if by_band else dataset.count
    return int(rows * cols * together * _itemsize(dataset.dtypes[0]))


def compression_of(dataset: Any) -> str:
    """The compression of an open dataset in lower case, "none" without; rasterio has no name for all of them."""
    found = dataset.compression or Compression.none
    return found.name if isinstance(found, Compression) else str(found).lower()


def _itemsize(dtype: str) -> int:
    sizes = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "complex64": 8, "complex_int16": 4, "complex128": 16}
    return sizes.get(dtype, 8 if dtype.endswith("64") else 4)


def _facts(dataset: Any, geo: GeoGrid, placed: bool) -> dict[str, Any]:
    nodata = dataset.nodata
    return {
        "geo": geo,
        "count": dataset.count,
        "driver": dataset.driver,
        "dtypes": tuple(dataset.dtypes),
        "georeferenced": placed,
        "nodata": None if nodata is None or math.isnan(nodata) else float(nodata),
        "mask": _mask(dataset),
        "color": tuple(color.name for color in dataset.colorinterp),
        "descriptions": tuple((text or "")[:MAX_NAME] for text in dataset.descriptions),
        "bits": _bits(dataset),
        "block_shape": tuple(int(size) for size in dataset.block_shapes[0]),
        "compression": compression_of(dataset),
        "interleave": dataset.interleaving.name if dataset.interleaving else "pixel",
        "gsd_m": geo.pixel_size_m if placed else None,
    }


def _bits(dataset: Any) -> int | None:
    """NBITS of a TIFF; of others an .aux.xml may say anything."""
    said = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0) if dataset.driver == "GTiff" else 0
    return int(said) or None


def _with_crs(name: str, geo: GeoGrid, crs: str, *, placed: bool) -> GeoGrid:
    """The grid in the CRS that was given for a raster that says none."""
    if not placed:
        raise InputError(
            f"{printable(name)} has no transform from pixels to the ground, so --crs alone does not place it: put "
            "its world file beside it, or use gdal_translate -a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY"
        )
    wkt = wkt_of(crs)
    if geo.crs is not None:
        if not same_crs(geo.crs, wkt):
            raise InputError(
                f"{printable(name)} is in {name_of_crs(geo.crs)}, and --crs says {name_of_crs(wkt)}: leave --crs out, "
                "or correct the file with gdal_edit.py -a_srs EPSG:CODE"
            )
        return geo
    geo = replace(geo, crs=wkt)
    check_place(name, geo)
    return geo


def _mask(dataset: Any) -> str:
    alpha = ColorInterp.alpha in dataset.colorinterp and not _holds_image(
        dataset, dataset.colorinterp.index(ColorInterp.alpha) + 1
    )
    # Masks of each band, in a file beside the raster, have no flag at all.
    internal = not {MaskFlags.all_valid, MaskFlags.alpha, MaskFlags.nodata}.intersection(dataset.mask_flag_enums[0])
    kinds = (("alpha", alpha), ("internal", internal), ("nodata", dataset.nodata is not None))
    return "+".join(name for name, there in kinds if there) or "none"


def _holds_image(dataset: Any, band: int) -> bool:
    """Whether most values of a band (in up to 16 blocks) lie between 0 and its highest, on many levels.

    GDAL flags the fourth of four bands alpha, whatever it holds, unless told otherwise.
    """
    rows, cols = dataset.block_shapes[0]
    steps = 2 if 16 * block_bytes(dataset) > _SAMPLED_BYTES else 4
    tops = {(2 * step + 1) * dataset.height // (2 * steps) // rows * rows for step in range(steps)}
    lefts = {(2 * step + 1) * dataset.width // (2 * steps) // cols * cols for step in range(steps)}
    levels: Counter[float] = Counter()
    for top, left in product(sorted(tops), sorted(lefts)):
        height, width = min(rows, _SAMPLE_PX, dataset.height - top), min(cols, _SAMPLE_PX, dataset.width - left)
        with suppress(*GDAL_ERRORS):  # who reads the pixels will say so
            values, counts = np.unique(dataset.read(band, window=Window(left, top, width, height)), return_counts=True)
            levels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    levels.pop(0, None)
    return len(levels) > MASK_LEVELS and 2 * levels[max(levels)] < levels.total()


def _digest(info: RasterInfo, identity: str) -> str:
    facts = {name: value for name, value in info.to_json().items() if name not in ("path", "digest")}
    return hashlib.sha256(f"{identity} {json.dumps(facts, sort_keys=True)}".encode()).hexdigest()

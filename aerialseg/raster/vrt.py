"""VRT mosaics, as gdalbuildvrt writes them: which files, which lies on top, and what the VRT says of each.

GDAL would follow whatever a VRT names: any file, any address, scripts. So it never sees one. Its XML is read here, and
only a plain mosaic is taken: complete files below the VRT's own folder, pixel by pixel, band by band.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import pyproj
from affine import Affine
from pyproj.exceptions import ProjError

from aerialseg.errors import InputError
from aerialseg.files import one_line, printable
from aerialseg.raster.bounds import name_of_crs, same_crs
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.georef import ALIGNED_PX, GeoGrid, check_place
from aerialseg.raster.opening import is_remote
from aerialseg.raster.pam_check import names_grid_file

VRT = ".vrt"
MAX_VRT_BYTES = 32 << 20
MAX_VRT_NODES = 1_000_000
"""Elements and attributes; a tile of three bands has about 60."""
MAX_NAME = 4096
MAX_CRS = 100_000
MAX_SAID = 200
"""Characters of a name in a message."""

_DATASET = {"SRS", "GeoTransform", "VRTRasterBand", "MaskBand", "Metadata", "OverviewList", "BlockXSize", "BlockYSize"}
_SOURCES = {"SimpleSource", "ComplexSource"}
_BAND = {"ColorInterp", "NoDataValue", "HideNoDataValue", "Description", "UnitType", "Metadata", "Histograms"}
_SOURCE = {"SourceFilename", "SourceBand", "SourceProperties", "SrcRect", "DstRect", "NODATA", "UseMaskBand"}
_PLAIN_CRS = re.compile(r"[A-Z]+:\d+$|[A-Z_]+\[")
_RECT = ("xOff", "yOff", "xSize", "ySize")

Rect = tuple[float, float, float, float]
"""(left, top, width, height) in pixels of the VRT."""


@dataclass(frozen=True, slots=True)
class VrtSource:
    """What a VRT says of one of its files: where it lies on the grid of the VRT, whose size does not count (None: the
    VRT does not say where it is itself), and its nodata value."""

    path: str
    rect: Rect
    geo: GeoGrid | None
    nodata: float | None


_Entry = tuple[str, bool, Rect, str | None]
"""A file of a band: its name, whether that counts from the VRT's folder, its place, and its nodata value."""


class _FaultError(Exception):
    """Why the VRT is not taken."""


def read_vrt(path: Path) -> list[VrtSource]:
    """The files of a mosaic, the one on top first. Opens the VRT alone. Raises InputError for anything else."""
    try:
        size = os.path.getsize(path)
        if size > MAX_VRT_BYTES:
            raise _FaultError(f"has {size:,} bytes, more than {MAX_VRT_BYTES:,}")
        return _sources(path, _parse(path.read_bytes()))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {printable(path)}: {error.strerror or error}") from error
    except (_FaultError, expat.ExpatError, ElementTree.ParseError, ValueError, LookupError) as error:
        met = str(error) if isinstance(error, _FaultError) else f"is no valid VRT ({_said(str(error))})"
        raise InputError(
            f"{printable(path)} {met}; only plain mosaics of files below their own folder are read: "
            "give the files or their folder instead, or make one file of it: gdal_translate IN.vrt OUT.tif"
        ) from error


def check_claim(info: RasterInfo, said: VrtSource) -> None:
    """Raise InputError where a raster is not what the VRT says of it: then its pixels are not those of the VRT."""
    (left, top, width, height), name = said.rect, printable(info.path)
    if info.geo.shape != (round(height), round(width)):
        raise InputError(
            f"{name} has {info.geo.width} x {info.geo.height} px and the VRT takes {width:g} x {height:g} of it: make "
            "the VRT again with gdalbuildvrt"
        )
    if said.nodata is not None and info.nodata != said.nodata:
        raise InputError(
            f"{name} has the nodata value {info.nodata}, and the VRT says {said.nodata:g}: write it into the file with "
            f"gdal_edit.py -a_nodata {said.nodata:g}"
        )
    if said.geo is None:
        return
    if said.geo.crs and not same_crs(info.geo.crs, said.geo.crs):
        raise InputError(
            f"{name} has another coordinate system ({name_of_crs(info.geo.crs)}) than the VRT says "
            f"({name_of_crs(said.geo.crs)}): correct it: gdal_edit.py -a_srs EPSG:CODE"
        )
    corners = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
    found = [said.geo.to_pixels(*corner) for corner in info.geo.corners]
    if (off := max(map(math.dist, found, corners))) > ALIGNED_PX:
        raise InputError(
            f"{name} lies elsewhere than the VRT says, by up to {off:.2g} of its pixels: make the VRT again with "
            "gdalbuildvrt"
        )


def _parse(content: bytes) -> ElementTree.Element:
    if content.count(b"<") - content.count(b"</") + content.count(b"=") > MAX_VRT_NODES:
        raise _FaultError(f"has more than {MAX_VRT_NODES:,} elements and attributes")
    _check_doctype(content)
    return ElementTree.fromstring(content)


def _check_doctype(content: bytes) -> None:
    """Entities are declared in a document type declaration alone, and that comes first."""

    def refuse(*_: object) -> None:
        raise _FaultError("has a document type declaration, which VRTs never have")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(content, True)


def _sources(path: Path, root: ElementTree.Element) -> list[VrtSource]:
    if root.tag != "VRTDataset":
        raise _FaultError(f"holds <{_said(root.tag)}>, not a mosaic")
    _check_plain(root, "VRTDataset", _DATASET)
    bands = [list(_band(band, str(number))) for number, band in enumerate(root.findall("VRTRasterBand"), 1)]
    masks = [one for band in root.findall("MaskBand/*") for one in _band(band, "mask")]
    if not bands or not bands[0]:
        raise _FaultError("names no files")
    if any(band != bands[0] for band in bands[1:]) or not {one[:3] for one in masks} <= {one[:3] for one in bands[0]}:
        raise _FaultError("has other files in one band than in another")
    geo, folder = _place(path, root), os.path.realpath(path.parent)
    shared = None if any(one[3] is not None for one in bands[0]) else root.findtext("VRTRasterBand/NoDataValue")
    found = {
        _resolve(path, folder, name, relative): (rect, _nodata(own if own is not None else shared))
        for name, relative, rect, own in reversed(bands[0])
    }
    if len(found) < len(bands[0]):
        raise _FaultError("names a file twice")
    return [VrtSource(file, rect, geo, nodata) for file, (rect, nodata) in found.items()]


def _said(name: str) -> str:
    return printable(name if len(name) <= MAX_SAID else f"{name[:MAX_SAID]}...")


def _check_plain(element: ElementTree.Element, kind: str, children: set[str]) -> None:
    if element.get("subClass") not in (None, kind):
        raise _FaultError(f"has a {_said(element.get('subClass', ''))}, which is computed")
    for child in element:
        if child.tag not in children:
            raise _FaultError(f"has a <{_said(child.tag)}>, which is more than a plain mosaic has")


def _band(band: ElementTree.Element, source_band: str) -> Iterator[_Entry]:
    _check_plain(band, "VRTSourcedRasterBand", _BAND | _SOURCES)
    for source in band:
        if source.tag in _SOURCES:
            yield _entry(source, source_band)


def _entry(source: ElementTree.Element, source_band: str) -> _Entry:
    _check_plain(source, "", _SOURCE)
    file = source.find("SourceFilename")
    name = (file.text if file is not None else None) or ""
    taken, placed = (_rect(source.find(tag)) for tag in ("SrcRect", "DstRect"))
    if taken[:2] != (0, 0):
        raise _FaultError(f"takes a part of {_said(name)}")
    if max(abs(one - other) for one, other in zip(taken[2:], placed[2:], strict=True)) > ALIGNED_PX:
        raise _FaultError(f"scales {_said(name)}")
    band = source.findtext("SourceBand", "1").strip()
    if band.partition(",")[0] != source_band:
        raise _FaultError(
            f"takes band {_said(band)} of {_said(name)} for its band {source_band}: --bands chooses bands"
        )
    return name, file is not None and file.get("relativeToVRT") == "1", placed, source.findtext("NODATA")


def _rect(element: ElementTree.Element | None) -> Rect:
    if element is None:
        raise _FaultError("does not say which part of a file it takes, and where to")
    left, top, width, height = (float(element.get(name, "nan")) for name in _RECT)
    if not all(map(math.isfinite, (left, top, width, height))):
        raise _FaultError("has a rectangle that is none")
    return left, top, width, height


def _nodata(text: str | None) -> float | None:
    """NaN is always nodata, whatever a file says."""
    value = math.nan if text is None else float(text)
    return None if math.isnan(value) else value


def _place(path: Path, root: ElementTree.Element) -> GeoGrid | None:
    transform, crs = root.findtext("GeoTransform"), (root.findtext("SRS") or "").strip()
    if transform is None:
        return None
    if crs and (len(crs) > MAX_CRS or names_grid_file(crs) or not _PLAIN_CRS.match(crs)):
        raise _FaultError("has a coordinate system that is neither WKT nor AUTHORITY:CODE, or that names a file")
    try:
        crs = pyproj.CRS.from_user_input(crs).to_wkt() if crs else ""
    except ProjError as error:
        raise _FaultError(f"has no valid coordinate system ({one_line(error)})") from error
    size = int(root.get("rasterYSize", "0")), int(root.get("rasterXSize", "0"))
    affine = Affine.from_gdal(*map(float, transform.split(",")))
    geo = GeoGrid(*size, tuple(affine)[:6], crs or None)
    check_place(str(path), geo)
    return geo


def _resolve(path: Path, folder: str, name: str, relative: bool) -> str:
    """The absolute path of a file that the VRT names. Opens nothing."""
    if not 0 < len(name) <= MAX_NAME or is_remote(name):
        raise _FaultError(f"names {_said(name)!r}, which is no local file")
    file = os.path.abspath(path.parent / name if relative else name)
    if os.path.commonpath([folder, os.path.realpath(file)]) != folder:
        raise _FaultError(f"names {_said(name)}, which lies outside {printable(folder)}")
    if file.lower().endswith(VRT):
        raise _FaultError(f"names another VRT, {_said(name)}")
    return file

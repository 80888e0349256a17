"""Class rasters side by side: which of them lie on one grid, and one raster or one VRT of them all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
from rasterio.windows import Window

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable, write_atomically
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.blocks import check_whole
from aerialseg.raster.classes import ClassFile, to_bytes
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, without_georef_warnings
from aerialseg.raster.palette import color_table

MAX_SPREAD = 1_000_000
"""Pixels along a side of a mosaic; tiles further apart than that are not of one flight."""


@dataclass(frozen=True, slots=True)
class SourceTile:
    """A raster of one uint8 band: where it is, and its place."""

    path: Path
    geo: GeoGrid


@dataclass(frozen=True, slots=True)
class Patchwork:
    """Tiles of one grid, ``geo``, and the box of it that each tile covers. Where tiles overlap, the first that has a
    value there counts."""

    geo: GeoGrid
    tiles: tuple[tuple[SourceTile, Box], ...]


def read_tile(path: str | Path) -> SourceTile:
    """The place of a class raster. Raises InputError (no class raster of uint8, no transform)."""
    with ClassFile(path) as file:
        if file.dtype != "uint8" or file.masked:
            kind = f"{file.dtype} with a mask" if file.masked else file.dtype
            raise InputError(
                f"{printable(file.path)} holds {kind}: wanted uint8 without one, as segment-raster writes it"
            )
        if not file.placed:
            raise InputError(
                f"{printable(file.path)} has no transform, so it cannot be placed beside the other rasters"
            )
        return SourceTile(file.path, file.geo)


def patchworks(tiles: Sequence[SourceTile]) -> list[Patchwork]:
    """Tiles sorted by grids, in the order of the first one of each: those whose pixels lie on one lattice."""
    groups: list[list[SourceTile]] = []
    for tile in tiles:
        group = next((group for group in groups if group[0].geo.offset_of(tile.geo) is not None), None)
        if group is None:
            groups.append([tile])
        else:
            group.append(tile)
    return [_patchwork(group) for group in groups]


def _patchwork(group: list[SourceTile]) -> Patchwork:
    first = group[0].geo
    corners = [offset for tile in group if (offset := first.offset_of(tile.geo)) is not None]
    top, left = min(row for row, _ in corners), min(col for _, col in corners)
    boxes = [
        Box(row - top, col - left, row - top + tile.geo.height, col - left + tile.geo.width)
        for tile, (row, col) in zip(group, corners, strict=True)
    ]
    height, width = max(box.bottom for box in boxes), max(box.right for box in boxes)
    if max(height, width) > MAX_SPREAD:
        raise UsageError(
            f"the tiles spread over {width:,} x {height:,} px: choose fewer (at most {MAX_SPREAD:,} a side)"
        )
    return Patchwork(first.part(Box(top, left, top + height, left + width)), tuple(zip(group, boxes, strict=True)))


def write_mosaic(patchwork: Patchwork, path: Path) -> None:
    """One GeoTIFF (uint8, nodata 255) of all tiles. Memory does not grow with it. Raises InputError, OutputError."""
    profile = {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "nodata": NODATA,
        "compress": "zstd",
        "zstd_level": 1,
        "sparse_ok": True,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "bigtiff": "IF_SAFER",
        **patchwork.geo.profile,
    }
    with write_atomically(path, errors=GDAL_ERRORS) as part:
        with gdal_environment(), without_georef_warnings():
            target = rasterio.open(part, "w+", **profile)
        with gdal_environment(), target:
            for tile, box in reversed(patchwork.tiles):
                with ClassFile(tile.path) as file:
                    for window in file.windows():
                        _lay(file, window, target, box)
        check_whole(part)


def _lay(file: ClassFile, window: Box, target: Any, tile: Box) -> None:
    """Write a window of a tile over what is there, where the tile has a class."""
    ids = to_bytes(file.read(window), file.path)
    place = Window(tile.left + window.left, tile.top + window.top, window.width, window.height)
    target.write(np.where(ids == NODATA, target.read(1, window=place), ids), 1, window=place)


def write_vrt(patchwork: Patchwork, path: Path, legend: Legend | None) -> None:
    """A VRT of the tiles, which names them relative to itself. Raises OutputError."""
    geo = patchwork.geo
    root = Xml.Element("VRTDataset", rasterXSize=str(geo.width), rasterYSize=str(geo.height))
    if geo.crs:
        Xml.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = geo.crs
    numbers = geo.affine.to_gdal()
    Xml.SubElement(root, "GeoTransform").text = ", ".join(repr(float(value)) for value in numbers)
    band = Xml.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    Xml.SubElement(band, "NoDataValue").text = str(NODATA)
    Xml.SubElement(band, "ColorInterp").text = "Palette" if legend else "Gray"
    if legend:
        band.append(color_table(legend, NODATA))
        names = Xml.SubElement(band, "CategoryNames")
        by_id = {entry.id: entry.name for entry in legend}
        for value in range(max(by_id) + 1):
            Xml.SubElement(names, "Category").text = by_id.get(value, "")
    for tile, box in reversed(patchwork.tiles):
        band.append(_source(tile, box, path))
    with write_atomically(path, errors=GDAL_ERRORS) as part:
        part.write_bytes(bytes(Xml.tostring(root, encoding="utf-8")))


def _source(tile: SourceTile, box: Box, path: Path) -> Xml.Element:
    source = Xml.Element("ComplexSource")
    name = os.path.relpath(tile.path, path.absolute().parent)
    Xml.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
    Xml.SubElement(source, "SourceBand").text = "1"
    size = {"xSize": str(tile.geo.width), "ySize": str(tile.geo.height)}
    Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    Xml.SubElement(source, "DstRect", {"xOff": str(box.left), "yOff": str(box.top), **size})
    Xml.SubElement(source, "NODATA").text = str(NODATA)
    return source

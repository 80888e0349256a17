"""Class rasters side by side: which of them lie on one grid, and one raster or one VRT of them all."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import numpy as np
import rasterio
from affine import Affine
from rasterio.windows import Window

from aerialseg.errors import InputError, UsageError
from aerialseg.files import one_line, writing
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.blocks import check_whole
from aerialseg.raster.georef import Transform
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import GDAL_ERRORS, environment, has_transform, local_path, open_raster, quiet
from aerialseg.raster.palette import color_table

ALIGNED_PX = 0.01
"""Tiles of one grid lie on whole pixels, but for what floating-point numbers lose."""
MAX_SPREAD = 1_000_000
"""Pixels along a side of a mosaic; tiles further apart than that are not of one flight."""
ROWS = 2048


@dataclass(frozen=True, slots=True)
class Tile:
    """A raster of one uint8 band: where it is, and its place."""

    path: Path
    height: int
    width: int
    transform: Transform
    crs: str | None


@dataclass(frozen=True, slots=True)
class Patchwork:
    """Tiles of one grid: its size and transform, and the box that each tile covers. Where tiles overlap, the first
    that has a value there counts."""

    height: int
    width: int
    transform: Transform
    crs: str | None
    tiles: tuple[tuple[Tile, Box], ...]


def read_tile(path: str | Path) -> Tile:
    """The place of a class raster. Raises InputError (no GeoTIFF, no uint8 band, no transform)."""
    place = local_path(path)
    with open_raster(str(place)) as dataset:
        if dataset.count != 1 or dataset.dtypes[0] != "uint8":
            raise InputError(f"{place} has {dataset.count} band(s) of {dataset.dtypes[0]}: wanted one of uint8")
        if not has_transform(dataset):
            raise InputError(f"{place} has no transform, so nobody knows where it lies beside others")
        a, b, c, d, e, f = (float(value) for value in dataset.transform[:6])
        crs = dataset.crs.to_wkt() if dataset.crs else None
        return Tile(place, dataset.height, dataset.width, (a, b, c, d, e, f), crs)


def patchworks(tiles: Sequence[Tile]) -> list[Patchwork]:
    """Tiles sorted by grids, in the order of the first one of each: those whose pixels lie on one lattice."""
    groups: list[list[Tile]] = []
    for tile in tiles:
        group = next((group for group in groups if _offset(group[0], tile) is not None), None)
        if group is None:
            groups.append([tile])
        else:
            group.append(tile)
    return [_patchwork(group) for group in groups]


def _offset(first: Tile, other: Tile) -> tuple[int, int] | None:
    """(rows, columns) from the first tile to the other one, where they are of one grid."""
    if first.crs != other.crs:
        return None
    here, there = Affine(*first.transform), Affine(*other.transform)
    col, row = _apply(~here, there.c, there.f)
    far_col, far_row = _apply(~here, *_apply(there, other.width, other.height))
    drift = max(abs(far_col - col - other.width), abs(far_row - row - other.height))
    off = max(abs(col - round(col)), abs(row - round(row)))
    return (round(row), round(col)) if max(drift, off) < ALIGNED_PX else None


def _apply(transform: Affine, x: float, y: float) -> tuple[float, float]:
    """The point, transformed; the operator for it is another one in each version of affine."""
    return transform.a * x + transform.b * y + transform.c, transform.d * x + transform.e * y + transform.f


def _patchwork(group: list[Tile]) -> Patchwork:
    first = group[0]
    corners = [offset for tile in group if (offset := _offset(first, tile)) is not None]
    top, left = min(row for row, _ in corners), min(col for _, col in corners)
    boxes = [
        Box(row - top, col - left, row - top + tile.height, col - left + tile.width)
        for tile, (row, col) in zip(group, corners, strict=True)
    ]
    height, width = max(box.bottom for box in boxes), max(box.right for box in boxes)
    if max(height, width) > MAX_SPREAD:
        raise UsageError(
            f"the tiles spread over {width:,} x {height:,} px: choose fewer (at most {MAX_SPREAD:,} a side)"
        )
    a, b, _, d, e, _ = first.transform
    x, y = _apply(Affine(*first.transform), left, top)
    return Patchwork(height, width, (a, b, x, d, e, y), first.crs, tuple(zip(group, boxes, strict=True)))


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
        "height": patchwork.height,
        "width": patchwork.width,
        "transform": Affine(*patchwork.transform),
        "crs": patchwork.crs,
    }
    with writing(path, errors=GDAL_ERRORS) as part:
        with environment(), quiet():
            target = rasterio.open(part, "w+", **profile)
        with environment(), target:
            for tile, box in reversed(patchwork.tiles):
                for row, values in _strips(tile):
                    window = Window(box.left, box.top + row, box.width, len(values))
                    below = target.read(1, window=window)
                    target.write(np.where(values == NODATA, below, values), 1, window=window)
        check_whole(part)


def _strips(tile: Tile) -> Iterator[tuple[int, Any]]:
    rows = max(1, min(ROWS, math.ceil(2**26 / tile.width)))
    try:
        with open_raster(str(tile.path)) as dataset:
            nodata = dataset.nodata
            for row in range(0, tile.height, rows):
                values = dataset.read(1, window=Window(0, row, tile.width, min(rows, tile.height - row)))
                if nodata is not None and nodata != NODATA:
                    values[values == nodata] = NODATA
                yield row, values
    except GDAL_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"cannot read {tile.path}: {one_line(error)}; make it anew") from error


def write_vrt(patchwork: Patchwork, path: Path, legend: Legend | None) -> None:
    """A VRT of the tiles, which names them relative to itself. Raises OutputError."""
    root = Xml.Element("VRTDataset", rasterXSize=str(patchwork.width), rasterYSize=str(patchwork.height))
    if patchwork.crs:
        Xml.SubElement(root, "SRS", dataAxisToSRSAxisMapping="1,2").text = patchwork.crs
    numbers = Affine(*patchwork.transform).to_gdal()
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
    with writing(path, errors=GDAL_ERRORS) as part:
        part.write_bytes(bytes(Xml.tostring(root, encoding="utf-8")))


def _source(tile: Tile, box: Box, path: Path) -> Xml.Element:
    source = Xml.Element("ComplexSource")
    name = os.path.relpath(tile.path, path.absolute().parent)
    Xml.SubElement(source, "SourceFilename", relativeToVRT="1").text = name
    Xml.SubElement(source, "SourceBand").text = "1"
    size = {"xSize": str(tile.width), "ySize": str(tile.height)}
    Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **size})
    Xml.SubElement(source, "DstRect", {"xOff": str(box.left), "yOff": str(box.top), **size})
    Xml.SubElement(source, "NODATA").text = str(NODATA)
    return source

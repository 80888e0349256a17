"""Images of every format that is read, drawn for the tests: lossless where the format can be."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import dumpsw
from rasterio.io import MemoryFile

from aerialseg.raster.opening import without_georef_warnings
from tests.raster.drawing import TEN_CM, UTM, write

ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "JP2OpenJPEG": "jp2", "GPKG": "gpkg", "MBTiles": "mbtiles"}
WORLD = {"jpg": "jgw", "png": "pgw", "webp": "wpw", "jp2": "j2w", "j2k": "jkw", "tif": "tfw"}
EXACT: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "JP2OpenJPEG": {"quality": 100, "reversible": "YES"},
    "GPKG": {"tile_format": "PNG"},
}
"""Driver -> options by which it loses nothing."""
MERCATOR_M = 2 * 20037508.342789244
TILE = 256


def draw(
    folder: Path, driver: str, pixels: np.ndarray, *, placed: bool = True, stem: str = "a", **options: Any
) -> Path:
    """The pixels as a file of the driver's, with a world file and without a CRS where the format holds none."""
    path = folder / f"{stem}.{ENDINGS.get(driver, 'tif')}"
    if driver == "MBTiles":
        return draw_mbtiles(path, pixels)
    inside = driver == "GPKG"
    place = {} if inside else {"crs": None, "transform": None}
    with without_georef_warnings():
        write(path, pixels, driver=driver, **place, **(EXACT.get(driver, {}) | options))
    path.with_name(path.name + ".aux.xml").unlink(missing_ok=True)
    if placed and not inside:
        path.with_suffix(f".{WORLD[path.suffix[1:]]}").write_text(dumpsw(TEN_CM))
    return path


def draw_prj(path: Path, crs: str = UTM) -> None:
    text = rasterio.crs.CRS.from_user_input(crs).to_wkt(version="WKT1_ESRI")
    path.with_suffix(".prj").write_text(text)


def image_bytes(pixels: np.ndarray, driver: str = "PNG", **options: Any) -> bytes:
    count, height, width = pixels.shape
    with without_georef_warnings(), MemoryFile() as memory:
        with memory.open(
            driver=driver, count=count, height=height, width=width, dtype="uint8", **(EXACT.get(driver, {}) | options)
        ) as file:
            file.write(pixels)
        return bytes(memory.read())


def draw_mbtiles(
    path: Path, pixels: np.ndarray, zoom: int = 19, encode: Callable[[np.ndarray], bytes] = image_bytes
) -> Path:
    """Whole tiles of 256 px at a zoom level (19: 0.3 m at the equator) near 12 degrees east, 47 north."""
    col, row = round(0.53333 * 2**zoom), round(0.65 * 2**zoom)
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE metadata (name text, value text)")
        database.execute("CREATE TABLE tiles (zoom_level int, tile_column int, tile_row int, tile_data blob)")
        about = {"name": "a", "format": "png", "minzoom": zoom, "maxzoom": zoom, "type": "overlay", "version": "1"}
        database.executemany("INSERT INTO metadata VALUES (?, ?)", about.items())
        for top in range(0, pixels.shape[1], TILE):
            for left in range(0, pixels.shape[2], TILE):
                tile = pixels[:, top : top + TILE, left : left + TILE]
                place = (zoom, col + left // TILE, row - top // TILE)
                database.execute("INSERT INTO tiles VALUES (?, ?, ?, ?)", (*place, encode(tile)))
    return path


def edit_tile(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the tile in column 1 of row 0 (in the file's order) of a GeoPackage or MBTiles."""
    with closing(sqlite3.connect(path)) as database, database:
        table = "tiles"
        if path.suffix == ".gpkg":
            ((table,),) = database.execute("SELECT table_name FROM gpkg_contents")
        query = (
            f'SELECT rowid, tile_data FROM "{table}" ORDER BY zoom_level DESC, tile_row, tile_column LIMIT 1 OFFSET 1'
        )
        ((number, content),) = database.execute(query)
        database.execute(f'UPDATE "{table}" SET tile_data = ? WHERE rowid = ?', (change(content), number))

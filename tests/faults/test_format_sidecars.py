"""Faults 6, 7 and 9 for every format of a raster: nothing inside or beside it leads elsewhere or fills the memory."""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS

from aerialseg.errors import InputError
from aerialseg.raster.describe import describe
from tests.faults.test_sidecars import (
    ADDRESS,
    LEADS_OUT,
    SENDS,
    SIDE,
    check_refused,
    classes_raster,
    grid_file,
    repeated,
    run,
    run_traced,
    vrt,
)
from tests.raster.drawing import picture, view_of, write
from tests.raster.formats import ENDINGS, draw, draw_mbtiles

BESIDE = {name: LEADS_OUT[name] for name in ("msk-vrt", "msk-mrf", "ovr-vrt", "aux-xml", "aux-grid", "aux-erdas")}
BESIDE |= {f"sends {name}": SENDS[name] for name in ("msk-vrt", "msk-wms", "aux-xml", "aux-srs")}
BESIDE |= {"prj-grid": lambda raster, outside: raster.with_suffix(".prj").write_text(grid_wkt(outside))}


def grid_wkt(outside: object) -> str:
    after = 'AUTHORITY["EPSG","7004"]],'
    wkt = CRS.from_epsg(31467).to_wkt()
    assert after in wkt
    return wkt.replace(after, f'{after}EXTENSION["PROJ4_GRIDS","{outside}"],', 1)


def drawn(folder: Path, driver: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if driver == "MBTiles":
        return draw_mbtiles(folder / "a.mbtiles", picture(256, 256))
    return draw(folder, driver, picture(SIDE, SIDE))


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema=ON")
        for statement in statements:
            database.execute(statement)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def insert_box(raster: Path, content: bytes) -> None:
    """Put a box before the pixels of a JPEG 2000 file."""
    whole = raster.read_bytes()
    at = whole.index(b"jp2c") - 4
    raster.write_bytes(whole[:at] + content + whole[at:])


def geojp2_grid(raster: Path, outside: Path) -> None:
    """A GeoTIFF inside a UUID box, whose coordinate system names a grid file."""
    other = write(raster.with_name("other.tif"), picture(1, 1))
    grid_file(other, outside)
    uuid = bytes.fromhex("B14BF8BD083D4B43A5AE8CD7D5A6CE03")
    insert_box(raster, box(b"uuid", uuid + other.read_bytes()))
    other.unlink()
    raster.with_suffix(".j2w").unlink()


def gml_grid(raster: Path, outside: Path) -> None:
    text = f'<gml:FeatureCollection srsName="+proj=longlat +nadgrids={outside} +type=crs"/>'.replace("/", "&#47;", 3)
    insert_box(raster, box(b"xml ", text.encode()))


def srs_grid(raster: Path, outside: Path) -> None:
    text = grid_wkt(outside).replace("'", "''")
    change(raster, f"UPDATE gpkg_spatial_ref_sys SET definition = '{text}'")


def calling(table: str, call: str) -> Callable[[Path, Path], None]:
    """A view in the place of a table, which calls a function that GDAL has for SQL when it is read."""

    def put(raster: Path, outside: Path) -> None:
        called = call.format(outside=outside, address=ADDRESS)
        change(
            raster,
            f"ALTER TABLE {table} RENAME TO other",
            f"CREATE VIEW {table} AS SELECT *, {called} AS called FROM other",
        )

    return put


INSIDE: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    "jp2 geotiff": ("JP2OpenJPEG", geojp2_grid),
    "jp2 gml": ("JP2OpenJPEG", gml_grid),
    "gpkg srs": ("GPKG", srs_grid),
    "gpkg view": ("GPKG", calling("gpkg_contents", "ogr_geocode('{address}')")),
    "gpkg pixel": ("GPKG", calling("gpkg_tile_matrix", "gdal_get_pixel_value('{outside}', 1, 'pixel', 0, 0)")),
    "mbtiles view": ("MBTiles", calling("tiles", "load_extension('{outside}')")),
    "mbtiles metadata": ("MBTiles", calling("metadata", "ogr_datasource_load_layers('{outside}')")),
    "mbtiles endless": (
        "MBTiles",
        lambda raster, _: change(
            raster,
            "DROP TABLE metadata",
            "CREATE VIEW metadata AS WITH RECURSIVE n(name, value) AS (SELECT 1, 1 UNION ALL SELECT name + 1, 1 FROM n)"
            " SELECT * FROM n",
        ),
    ),
    "mbtiles virtual": (
        "MBTiles",
        lambda raster, _: change(
            raster,
            "INSERT INTO sqlite_master VALUES"
            " ('table', 'grids', 'grids', 0, 'CREATE VIRTUAL TABLE grids USING VirtualOGR(''x'')')",
        ),
    ),
}  # fmt: skip


def hostile(folder: Path, driver: str, put: Callable[[Path, Path], None]) -> Path:
    raster = drawn(folder / "in", driver)
    outside = classes_raster(folder / "outside")
    shutil.copy(outside, raster.parent / "outside")
    put(raster, outside)
    return raster


@pytest.mark.slow
def test_row_06_and_row_07_no_format_follows_what_lies_beside_or_inside_it(tmp_path):
    commands: list[list[object]] = []
    for driver in ENDINGS:
        for name, put in BESIDE.items():
            if name == "prj-grid" and driver in ("GPKG", "MBTiles"):  # they have a CRS
                continue
            folder = tmp_path / driver / name.replace(" ", "-")
            commands.append(["segment", hostile(folder, driver, put), folder / "s.gpkg", "--resolution", "native"])
    for name, (driver, put) in INSIDE.items():
        folder = tmp_path / "inside" / name.replace(" ", "-")
        commands.append(["segment", hostile(folder, driver, put), folder / "s.gpkg", "--resolution", "native"])
    ended, forbidden = run_traced(commands, tmp_path)
    assert not forbidden
    check_refused(ended, commands)


@pytest.mark.parametrize("driver", ENDINGS)
def test_row_06_a_pointer_by_the_name_of_an_image_is_not_followed(tmp_path, driver):
    path = tmp_path / f"a.{ENDINGS[driver]}"
    path.write_text(vrt("/etc/passwd"))
    with pytest.raises(InputError, match="points at other rasters"):
        describe(path)


@pytest.mark.slow
def test_row_09_what_fills_the_memory_is_refused_at_once(tmp_path):
    band = '<PAMRasterBand band="1"><CategoryNames>'
    bomb = repeated(band, "<Category>a</Category>", 2_000_000, "</CategoryNames></PAMRasterBand>")
    commands: list[list[object]] = []
    for driver in ENDINGS:
        raster = drawn(tmp_path / driver, driver)
        raster.with_name(raster.name + ".aux.xml").write_text(bomb)
        commands.append(["segment", raster, tmp_path / f"{driver}.fgb"])
    boxes = drawn(tmp_path / "boxes", "JP2OpenJPEG")
    insert_box(boxes, box(b"xml ", b" " * (64 << 20)))
    huge = drawn(tmp_path / "huge", "GPKG")
    change(huge, "UPDATE gpkg_tile_matrix SET tile_width = 65536, tile_height = 65536")
    commands += [["segment", raster, tmp_path / f"{raster.parent.name}.fgb"] for raster in (boxes, huge)]
    ended = run(commands)
    check_refused(ended, commands)
    assert max(end.peak_kb for end in ended) < 500_000
    assert not [end for end in ended[1:] if end.seconds > 5]


def test_8_a_database_of_more_pixels_than_anybody_maps_is_refused(tmp_path):
    many = drawn(tmp_path / "many", "GPKG")
    change(
        many,
        "UPDATE gpkg_tile_matrix SET matrix_width = 4000000, matrix_height = 4000000",
        "UPDATE gpkg_tile_matrix_set SET max_x = min_x + 4e6 * 25.6, min_y = max_y - 4e6 * 25.6",
        "UPDATE gpkg_contents SET max_x = NULL, min_y = NULL",
    )
    with pytest.raises(InputError, match="--max-pixels"):
        view_of(many, resolution_m="native")


def test_row_26_a_database_with_changes_that_wait_is_refused(tmp_path):
    path = drawn(tmp_path, "GPKG")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("UPDATE gpkg_contents SET identifier = 'other'")
        with pytest.raises(InputError, match=r"a\.gpkg-wal; close the program"):
            describe(path)


def test_grids_by_name_alone_are_fine(tmp_path):
    path = draw(tmp_path, "PNG", np.ones((3, 30, 40), np.uint8))
    path.with_suffix(".prj").write_text(CRS.from_epsg(31467).to_wkt())
    assert "31467" in str(describe(path).geo.crs)

"""Formats of one raster: each is read as its pixels are, by its own driver, and placed by what lies beside it."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import dumpsw

from aerialseg.errors import InputError
from aerialseg.raster.bounds import reproject_bounds
from aerialseg.raster.describe import describe
from aerialseg.raster.drivers import DRIVERS, driver_of
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import gdal_environment
from aerialseg.raster.source import Source
from aerialseg.raster.view import make_view
from tests.raster.drawing import TEN_CM, TILED, UTM, picture, read_all, view_of, write
from tests.raster.formats import ENDINGS, EXACT, WORLD, draw, draw_mbtiles, draw_prj, edit_tile, image_bytes

IMAGES = ("JPEG", "PNG", "WEBP", "JP2OpenJPEG")
SMOOTH = np.linspace(1, 255, 300 * 512).reshape(1, 300, 512).repeat(3, 0).astype(np.uint8)


def test_the_installed_gdal_has_every_driver():
    with gdal_environment() as _, rasterio.Env() as environment:
        assert set(DRIVERS) <= set(environment.drivers())


@pytest.mark.parametrize("driver", ENDINGS)
def test_a_file_is_told_by_its_first_bytes(tmp_path, driver):
    path = draw(tmp_path, driver, picture(256, 512))
    assert driver_of(path.read_bytes()[:256]) == driver
    assert describe(path).driver == driver


@pytest.mark.slow
@pytest.mark.parametrize("driver", [*EXACT, "MBTiles"])
def test_lossless_formats_are_read_pixel_for_pixel(tmp_path, driver):
    pixels = picture(256, 512)
    path = draw(tmp_path, driver, pixels)
    read, valid = read_all(path, resolution_m="native")
    assert np.array_equal(read, pixels)
    assert valid.all()


@pytest.mark.parametrize("driver", IMAGES)
def test_a_world_file_and_a_prj_place_an_image(tmp_path, driver):
    path = draw(tmp_path, driver, picture(30, 40))
    assert describe(path).geo.crs is None
    draw_prj(path)
    info = describe(path)
    assert info.geo.transform == pytest.approx(TEN_CM[:6])
    assert rasterio.crs.CRS.from_wkt(info.geo.crs).to_epsg() == 32633
    assert info.georeferenced
    assert info.gsd_m == pytest.approx((0.1, 0.1), rel=1e-3)


@pytest.mark.parametrize("driver", IMAGES)
def test_pam_places_an_image(tmp_path, driver):
    path = draw(tmp_path, driver, picture(30, 40), placed=False)
    a, b, c, d, e, f = TEN_CM[:6]
    numbers = ", ".join(map(str, (c, a, b, f, d, e)))
    text = f"<PAMDataset><SRS>{UTM}</SRS><GeoTransform>{numbers}</GeoTransform></PAMDataset>"
    path.with_name(path.name + ".aux.xml").write_text(text)
    info = describe(path)
    assert info.geo.transform == pytest.approx(TEN_CM[:6])
    assert "32633" in info.geo.crs


@pytest.mark.parametrize("name", ["a.wld", "a.PGW", "a.pngw"])
def test_world_files_have_several_names(tmp_path, name):
    path = draw(tmp_path, "PNG", picture(30, 40), placed=False)
    assert not describe(path).georeferenced
    (tmp_path / name).write_text(dumpsw(TEN_CM))
    assert describe(path).geo.transform == pytest.approx(TEN_CM[:6])


@pytest.mark.parametrize("driver", [*IMAGES, "GTiff"])
@pytest.mark.parametrize(
    "text", ["hello", "", "0.1\n0\n0\n-0.1\n500000", "0.1\n0\n0\n-0.1\nnan\n1", "0.1\n0\n0\n-0.1\nx\n1"]
)
def test_row_11_a_world_file_with_nonsense_is_an_error_that_names_it(tmp_path, driver, text):
    path = draw(tmp_path, driver, picture(30, 40), placed=False)
    world = path.with_suffix("." + WORLD[path.suffix[1:]])
    world.write_text(text)
    with pytest.raises(InputError, match=rf"{world.name} is no world file.*six numbers"):
        describe(path)


def test_a_world_file_with_decimal_commas_is_read(tmp_path):
    path = draw(tmp_path, "JPEG", picture(30, 40))
    world = path.with_suffix(".jgw")
    world.write_text(world.read_text().replace(".", ","))
    assert describe(path).geo.transform == pytest.approx(TEN_CM[:6])


def test_a_prj_with_nonsense_is_an_error_that_names_it(tmp_path):
    path = draw(tmp_path, "PNG", picture(30, 40))
    path.with_suffix(".prj").write_text("Projection UTM\nZone 33")
    with pytest.raises(InputError, match=r"a\.prj is no coordinate system.*--crs"):
        describe(path)


def test_crs_is_for_files_that_say_none(tmp_path):
    path = draw(tmp_path, "PNG", picture(30, 40))
    info = describe(path, crs="EPSG:25832")
    assert rasterio.crs.CRS.from_wkt(info.geo.crs).to_epsg() == 25832
    assert info.gsd_m == pytest.approx((0.1, 0.1), rel=1e-3)
    assert info.digest != describe(path).digest


def test_crs_that_says_the_same_as_the_file_is_fine_and_another_is_an_error(tmp_path):
    path = write(tmp_path / "a.tif", picture(30, 40))
    swapped = rasterio.crs.CRS.from_user_input(UTM).to_wkt(version="WKT2_2019")
    assert describe(path, crs=swapped) == describe(path)
    with pytest.raises(InputError, match=r"EPSG:32633.*--crs says .*EPSG:25832"):
        describe(path, crs="EPSG:25832")


def test_crs_does_not_place_what_has_no_transform(tmp_path):
    path = draw(tmp_path, "PNG", picture(30, 40), placed=False)
    with pytest.raises(InputError, match=r"no transform.*--crs alone"):
        describe(path, crs=UTM)


def test_an_image_is_not_turned_by_its_exif_tag_because_its_world_file_is_not(tmp_path):
    path = draw(tmp_path, "JPEG", SMOOTH)
    content = path.read_bytes()
    tag = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    upright = read_all(path)[0]
    path.write_bytes(content[:2] + b"\xff\xe1" + (len(tag) + 2).to_bytes(2, "big") + tag + content[2:])
    assert np.array_equal(read_all(path)[0], upright)
    assert describe(path).geo.shape == (300, 512)


def test_an_alpha_band_of_a_png_is_its_mask(tmp_path):
    alpha = np.full((1, 30, 40), 255, np.uint8)
    alpha[:, :10] = 0
    path = draw(tmp_path, "PNG", np.concatenate([picture(30, 40), alpha]))
    pixels, valid = read_all(path)
    assert np.array_equal(valid, alpha[0] > 0)
    assert not pixels[:, ~valid].any()


def test_tiles_that_a_database_lacks_are_nodata(tmp_path):
    path = draw(tmp_path, "MBTiles", picture(512, 768))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM tiles WHERE rowid = 2")
    _, valid = read_all(path, resolution_m="native")
    assert not valid[:256, 256:512].any()
    assert valid.sum() == 512 * 768 - 256 * 256


def test_mbtiles_are_read_at_their_highest_zoom_in_web_mercator(tmp_path):
    path = draw(tmp_path, "MBTiles", picture(512, 512))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "INSERT INTO tiles SELECT 18, tile_column / 2, tile_row / 2, tile_data FROM tiles GROUP BY 2, 3"
        )
        database.execute("UPDATE metadata SET value = '18' WHERE name = 'minzoom'")
    info = describe(path)
    assert info.geo.shape == (512, 512)
    assert rasterio.crs.CRS.from_wkt(info.geo.crs).to_epsg() == 3857
    assert info.geo.resolution == pytest.approx((0.29858, 0.29858), rel=1e-4)


def test_mbtiles_outside_their_bounds_are_nodata(tmp_path):
    path = draw(tmp_path, "MBTiles", picture(512, 512))
    left, bottom, right, top = reproject_bounds(describe(path).geo.bounds, "EPSG:3857", "EPSG:4326")
    third = left + (right - left) / 3
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO metadata VALUES ('bounds', ?)", (f"{third},{bottom},{right},{top}",))
    info = describe(path)
    assert info.geo.width == pytest.approx(512 * 2 / 3, abs=2)
    assert np.array_equal(read_all(path, resolution_m="native")[0], picture(512, 512)[:, :, -info.geo.width :])


def test_a_view_of_tiles_is_read_as_the_table(tmp_path):
    pixels = picture(256, 512)
    path = draw(tmp_path, "MBTiles", pixels)
    with closing(sqlite3.connect(path)) as database, database:
        database.executescript(
            "CREATE TABLE images AS SELECT rowid AS tile_id, tile_data FROM tiles;"
            "CREATE TABLE map AS SELECT zoom_level, tile_column, tile_row, rowid AS tile_id FROM tiles;"
            "DROP TABLE tiles;"
            "CREATE VIEW tiles AS SELECT zoom_level, tile_column, tile_row, tile_data"
            " FROM map JOIN images USING (tile_id);"
        )
    assert np.array_equal(read_all(path, resolution_m="native")[0], pixels)


def test_a_geopackage_of_several_rasters_is_an_error_that_names_them(tmp_path):
    path = draw(tmp_path, "GPKG", picture(30, 40))
    write(path, picture(30, 40), driver="GPKG", append_subdataset="YES", raster_table="second", tile_format="PNG")
    with pytest.raises(InputError, match=r"holds the rasters a, second; .*gdal_translate GPKG:"):
        describe(path)


def test_a_geopackage_of_layers_alone_is_an_error(tmp_path):
    import geopandas
    import shapely

    geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "a.gpkg")
    with pytest.raises(InputError, match="holds no raster"):
        describe(tmp_path / "a.gpkg")


def test_reading_a_geopackage_leaves_nothing_beside_it(tmp_path):
    path = draw(tmp_path, "GPKG", picture(30, 40))
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
    before = path.read_bytes()
    read_all(path, resolution_m="native")
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == before


# Fault 3 and 4: GDAL reads a PNG that was cut short, and a broken tile of a database, as if nothing were wrong.


@pytest.mark.slow
@pytest.mark.parametrize("driver", IMAGES)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_row_03_an_image_that_was_cut_short_names_the_window(tmp_path, driver, share):
    path = draw(tmp_path, driver, picture(300, 400))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"cannot read rows 0\.\.299.*--on-read-error nodata"):
        read_all(path)


def test_row_03_what_a_cut_png_still_holds_is_read_when_told_to_go_on(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    path = draw(tmp_path, "PNG", picture(300, 400))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    pixels, valid = read_all(path, on_read_error="nodata")
    assert 120 < valid.all(1).sum() < 150
    assert np.array_equal(pixels, picture(300, 400) * valid)


TILES = {
    "png": image_bytes,
    "jpeg": lambda tile: image_bytes(tile, "JPEG"),
    "webp": lambda tile: image_bytes(tile, "WEBP"),
}
DAMAGE = {
    "cut": lambda tile: tile[: len(tile) // 2],
    "empty": lambda _: b"",
    "text": lambda _: b"<html>404</html>",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("encode", TILES)
def test_row_04_a_broken_tile_of_a_database_is_an_error_or_nodata(tmp_path, encode, damage, caplog):
    caplog.set_level(logging.ERROR)
    path = draw_mbtiles(tmp_path / "a.mbtiles", SMOOTH[:, :256], encode=TILES[encode])
    edit_tile(path, DAMAGE[damage])
    with pytest.raises(InputError, match="cannot read rows"):
        read_all(path, resolution_m="native")
    _, valid = read_all(path, resolution_m="native", on_read_error="nodata")
    assert not valid[:, 256:].any()
    assert valid[:, :256].all()


def test_row_04_a_broken_tile_of_a_geopackage_is_an_error(tmp_path):
    path = draw(tmp_path, "GPKG", picture(256, 512))
    edit_tile(path, DAMAGE["cut"])
    with pytest.raises(InputError, match="cannot read rows"):
        read_all(path, resolution_m="native")


def test_row_04_damage_inside_a_jpeg_is_noticed_though_libjpeg_goes_on(tmp_path):
    path = draw(tmp_path, "JPEG", SMOOTH)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = np.random.default_rng(1).integers(0, 256, 200, dtype=np.uint8).tobytes()
    path.write_bytes(content)
    with pytest.raises(InputError, match="JPEG"):
        read_all(path)


def test_row_04_a_class_raster_with_a_broken_tile_is_an_error_too(tmp_path):
    from aerialseg.raster.classes import ClassFile

    path = draw(tmp_path, "PNG", picture(300, 400, bands=1))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with ClassFile(path) as file, pytest.raises(InputError, match="cannot read rows"):
        file.read(Box(0, 0, 300, 400))


# Row 12: what the file says of its bands.


@pytest.mark.parametrize("fourth", ["nir", "undefined", "gray"])
def test_row_12_infrared_beside_red_green_and_blue_is_left_out_with_a_note(tmp_path, fourth):
    path = write(tmp_path / "a.tif", picture(30, 40, bands=4), photometric="rgb", alpha="no")
    with rasterio.open(path, "r+") as file:
        names = ("red", "green", "blue", fourth)
        file.colorinterp = [rasterio.enums.ColorInterp[name] for name in names]
    view = view_of(path)
    assert view.bands == (1, 2, 3)
    assert f"band 4 ({fourth}) not used" in view.note
    assert not view.pieces[0].alpha


def test_row_12_four_bands_that_say_nothing_stay_refused(tmp_path):
    path = draw(tmp_path, "JP2OpenJPEG", picture(30, 40, bands=4))
    info = describe(path)
    assert set(info.color) == {"undefined"}
    with pytest.raises(InputError, match="--bands 1,2,3"):
        make_view(info, model_gsd_m=0.1)


@pytest.mark.parametrize("driver", ["GPKG", "MBTiles"])
def test_any_box_of_a_database_equals_the_whole(tmp_path, driver):
    path = draw(tmp_path, driver, picture(256, 512))
    whole, _ = read_all(path, resolution_m="native")
    with Source(view_of(path, resolution_m="native")) as source:
        assert np.array_equal(source.read(Box(10, 200, 130, 333))[0], whole[:, 10:130, 200:333])


def test_a_format_by_another_name_is_read_as_what_it_is(tmp_path):
    path = draw(tmp_path, "PNG", picture(30, 40), placed=False)
    path.rename(Path(tmp_path / "b.tif"))
    assert describe(tmp_path / "b.tif").driver == "PNG"


@pytest.mark.skipif(shutil.which("gdal_translate") is None, reason="needs gdal-bin")
@pytest.mark.parametrize(("driver", "ending"), [("PNG", "png"), ("JPEG", "jpg")])
def test_what_gdal_translate_writes_is_read_as_it_is(tmp_path, driver, ending):
    source = write(tmp_path / "a.tif", picture(40, 60), interleave="band", compress="deflate", **TILED)
    made = tmp_path / f"b.{ending}"
    subprocess.run(["gdal_translate", "-q", "-of", driver, "-co", "WORLDFILE=YES", source, made], check=True)
    assert "INTERLEAVE" in made.with_name(f"{made.name}.aux.xml").read_text()
    assert describe(made).geo == describe(source).geo

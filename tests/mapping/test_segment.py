"""The whole path, with predictors whose right answer is known."""

from __future__ import annotations

import hashlib
import pickle
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aerialseg
from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.block import BlockTask
from aerialseg.mapping.plan import Plan, make_plan
from aerialseg.mapping.segment import segment
from aerialseg.mapping.settings import MapSettings
from aerialseg.model.interface import Tile
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Box
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, Contextual, Flaky, Oracle, with_halo
from tests.raster.drawing import spoil

PIXEL_M2 = 0.01


def classes_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return file.read(1)


def read_layer(path: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(path, layer="landcover")


def burnt(layer: geopandas.GeoDataFrame, like: Path) -> np.ndarray:
    """The layer drawn back onto the raster's grid."""
    with rasterio.open(like) as file:
        shape, transform = file.shape, file.transform
    pairs = zip(layer.geometry, layer.class_id, strict=True)
    return rasterio.features.rasterize(pairs, out_shape=shape, transform=transform, fill=255, dtype="uint8")


def test_the_layer_says_what_the_predictor_said(tmp_path: Path, write_raster: WriteRaster) -> None:
    pixels = land_cover(200, 170)
    source = write_raster(pixels)
    result = segment(
        source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "classes.tif",
        confidence=tmp_path / "conf.tif", min_area_m2=0, simplify_m=0, block_px=64,
    )  # fmt: skip
    layer = read_layer(tmp_path / "map.gpkg")
    assert [path.name for path in result.paths] == ["map.gpkg", "classes.tif", "conf.tif", "conf.qml"]
    assert np.array_equal(classes_of(tmp_path / "classes.tif"), pixels[0])
    assert np.array_equal(classes_of(tmp_path / "conf.tif"), pixels[1])
    assert np.array_equal(burnt(layer, source), pixels[0])
    assert set(layer.columns) >= {"class_id", "class_name", "area_m2", "confidence", "geometry"}
    assert layer.crs.to_epsg() == 32633
    assert [CARD.legend[number].name for number in layer.class_id] == list(layer.class_name)
    assert result.polygons == len(layer)


def test_every_valid_pixel_is_covered_exactly_once(tmp_path: Path, write_raster: WriteRaster) -> None:
    mask = np.zeros((190, 210), bool)
    mask[20:170, 30:200] = True
    mask[60:90, 80:120] = False
    source = write_raster(land_cover(190, 210, cell=7), mask=mask)
    result = segment(source, tmp_path / "map.gpkg", model=Oracle(), min_area_m2=0.6, block_px=64)
    layer = read_layer(tmp_path / "map.gpkg")
    assert shapely.coverage_is_valid(layer.geometry.to_numpy())
    assert layer.geometry.is_valid.all()
    assert layer.area.sum() == pytest.approx(mask.sum() * PIXEL_M2, rel=1e-9)
    assert layer.area_m2.sum() == pytest.approx(mask.sum() * PIXEL_M2, rel=1e-9)
    assert result.valid_px == mask.sum()
    assert sum(line.share for line in result.classes) == pytest.approx(1)
    assert layer.confidence.between(0, 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("block_px", [32, 96, 4096])
def test_labels_do_not_depend_on_how_the_raster_was_cut(
    tmp_path: Path, write_raster: WriteRaster, block_px: int
) -> None:
    pixels = land_cover(201, 235)
    mask = np.random.default_rng(1).random((201, 235)) > 0.02
    source = write_raster(pixels, mask=mask)
    segment(source, tmp_path / "map.gpkg", model=Contextual(), raster=tmp_path / "classes.tif", block_px=block_px)
    whole = Box(0, 0, 224, 256)
    padded, valid = np.zeros((3, *whole.shape), np.uint8), np.zeros(whole.shape, bool)
    padded[:, :201, :235], valid[:201, :235] = pixels, mask
    expected = Contextual().predict(Tile(padded, valid, whole, Box(0, 0, 201, 235))).classes
    assert np.array_equal(classes_of(tmp_path / "classes.tif"), np.where(mask, expected, 255))


def test_a_halo_that_is_too_small_would_be_seen(tmp_path: Path, write_raster: WriteRaster) -> None:
    """The negative control of the test above."""
    source = write_raster(land_cover(201, 235))
    short = replace(Contextual(), card=with_halo(64))
    results = []

    class Lying(Contextual):
        """Claims to need half of what it needs."""

        def predict(self, tile: Tile):  # type: ignore[no-untyped-def]
            return short.predict(tile)

    for block_px in (64, 4096):
        output, raster = tmp_path / f"{block_px}.gpkg", tmp_path / f"{block_px}.tif"
        segment(source, output, model=Lying(with_halo(32)), raster=raster, block_px=block_px)
        results.append(classes_of(raster))
    assert not np.array_equal(*results)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 70), width=st.integers(1, 70))
def test_row_15_any_size_comes_out_at_its_size(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int
) -> None:
    check_size(tmp_path_factory.mktemp("size"), height, width)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(1, 1), (31, 33), (1, 97), (97, 1), (32, 32), (33, 65)])
def test_row_15_odd_sizes_come_out_at_their_size(tmp_path: Path, height: int, width: int) -> None:
    check_size(tmp_path, height, width)


def check_size(folder: Path, height: int, width: int) -> None:
    pixels = land_cover(height, width, cell=5)
    source = folder / "ortho.tif"
    place = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": place, "count": 3, "dtype": "uint8"}
    with rasterio.open(source, "w", height=height, width=width, **profile) as file:
        file.write(pixels)
    segment(
        source, folder / "map.gpkg", model=Oracle(), raster=folder / "c.tif", min_area_m2=0, simplify_m=0, block_px=32
    )
    assert np.array_equal(classes_of(folder / "c.tif"), pixels[0])
    assert np.array_equal(burnt(read_layer(folder / "map.gpkg"), source), pixels[0])


def test_row_14_a_raster_without_a_valid_pixel_gives_a_valid_empty_layer_and_asks_nothing(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(80, 80), mask=np.zeros((80, 80), bool))
    never = Flaky(tmp_path / "asked", dies_at=1)
    result = segment(source, tmp_path / "map.gpkg", model=never, raster=tmp_path / "classes.tif", block_px=32)
    layer = read_layer(tmp_path / "map.gpkg")
    assert len(layer) == result.polygons == result.valid_px == 0
    assert {"class_id", "class_name", "area_m2", "confidence"} <= set(layer.columns)
    assert (classes_of(tmp_path / "classes.tif") == 255).all()


def test_regions_below_the_minimum_mapping_unit_are_merged_not_dropped(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    pixels = land_cover(120, 120, cell=30)
    pixels[0, 50:53, 50:53] = (pixels[0, 50, 50] + 1) % 6
    source = write_raster(pixels)
    segment(source, tmp_path / "map.gpkg", model=Oracle(), min_area_m2=0.1, simplify_m=0)
    layer = read_layer(tmp_path / "map.gpkg")
    assert layer.area.min() >= 0.1
    assert layer.area.sum() == pytest.approx(120 * 120 * PIXEL_M2)


def plan_of(source: Path, **reading: object) -> Plan:
    return make_plan([describe(source)], Oracle(), MapSettings(**reading, block_px=64))  # type: ignore[arg-type]


def test_a_plan_knows_early_what_cannot_work(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    for reading, message in (({"max_pixels": 100}, "--max-pixels"), ({"bands": (1, 2)}, "the model wants 3")):
        with pytest.raises(InputError, match=message):
            plan_of(source, **reading)
    with pytest.raises(UsageError, match="--min-area is -1"):
        MapSettings(min_area_m2=-1)


def test_ground_units_become_pixels_of_the_class_raster(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    plan = make_plan([describe(source)], Oracle(), MapSettings(min_area_m2=0.25, simplify_m=0.3, block_px=64))
    assert plan.layer.min_pixels == 25
    assert plan.layer.tolerance_px == pytest.approx(3, rel=1e-2)


def test_tasks_travel_to_other_processes(tmp_path: Path, write_raster: WriteRaster) -> None:
    plan = plan_of(write_raster(land_cover(70, 70)))
    tasks = list(plan.tasks(Oracle(), tmp_path))
    assert pickle.loads(pickle.dumps(tasks)) == tasks
    assert all(isinstance(task, BlockTask) for task in tasks)
    assert len({task.path for task in tasks}) == len(tasks) == 4


@pytest.mark.slow
def test_the_door_holds_functions_whatever_was_imported_before() -> None:
    code = "import aerialseg.mapping.segment, aerialseg.cli, aerialseg; assert callable(aerialseg.segment)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        aerialseg.nonsense  # noqa: B018


def damaged(write_raster: WriteRaster) -> Path:
    """128 x 128 px in four DEFLATE tiles, the second of which cannot be decoded."""
    source = write_raster(land_cover(128, 128), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    spoil(source, 0, 1)
    return source


def test_row_04_a_damaged_tile_ends_the_run_and_leaves_no_output(tmp_path: Path, write_raster: WriteRaster) -> None:
    with pytest.raises(InputError, match=r"ortho\.tif"):
        segment(damaged(write_raster), tmp_path / "map.gpkg", model=Oracle(with_halo(0)), block_px=64)
    assert not (tmp_path / "map.gpkg").exists()


def test_row_04_a_damaged_tile_becomes_nodata_on_request_and_counts_once(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = damaged(write_raster)
    result = segment(source, tmp_path / "map.gpkg", model=Oracle(), on_read_error="nodata", block_px=32, min_area_m2=0)
    assert result.lost_px == 64 * 64
    assert result.valid_px == 128 * 128 - 64 * 64
    assert read_layer(tmp_path / "map.gpkg").area.sum() == pytest.approx(result.valid_px * PIXEL_M2)


def test_row_28_imagery_of_another_resolution_is_mapped_at_the_models(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(80, 90, cell=80), transform=Affine(0.2, 0, 500_000, 0, -0.2, 5_000_000))
    result = segment(source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "classes.tif")
    assert (result.plan.grid.height, result.plan.grid.width) == (160, 180)
    assert "resampled to the model's 10 cm" in result.plan.summary
    with rasterio.open(source) as given, rasterio.open(tmp_path / "classes.tif") as made:
        assert made.bounds == pytest.approx(given.bounds)
        assert made.res == pytest.approx((0.1, 0.1), rel=1e-3)
    assert read_layer(tmp_path / "map.gpkg").area.sum() == pytest.approx(80 * 90 * 0.04)


def test_a_turned_raster_gives_turned_polygons(tmp_path: Path, write_raster: WriteRaster) -> None:
    place = Affine.translation(500_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.1, -0.1)
    source = write_raster(land_cover(64, 96), transform=place)
    segment(source, tmp_path / "map.gpkg", model=Oracle(), min_area_m2=0, simplify_m=0)
    layer = read_layer(tmp_path / "map.gpkg")
    corners = shapely.Polygon([place @ corner for corner in ((0, 0), (96, 0), (96, 64), (0, 64))])
    covered = shapely.coverage_union_all(layer.geometry.to_numpy())
    assert covered.symmetric_difference(corners).area < 1e-6


def test_a_raster_without_crs_runs_in_pixels(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 96), crs=None)
    result = segment(source, tmp_path / "map.gpkg", model=Oracle())
    layer = read_layer(tmp_path / "map.gpkg")
    with sqlite3.connect(tmp_path / "map.gpkg") as database:
        (srs_id,) = database.execute("SELECT srs_id FROM gpkg_geometry_columns").fetchone()
    assert srs_id in (-1, 99999), "an undefined Cartesian system"
    assert layer.area_m2.sum() == 64 * 96
    assert "--pixel-size METRES" in result.plan.summary
    with pytest.raises(InputError, match="CRS"):
        segment(source, tmp_path / "m.gpkg", model=Oracle(), require_crs=True)


def test_row_05_provenance_tells_two_inputs_apart_that_look_alike(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    segment(source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif")
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.tags()["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()

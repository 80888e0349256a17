"""A map of an image of any format is that of the GeoTIFF of the same pixels, and resumes with its decoded copy."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.segment import segment
from aerialseg.mapping.settings import MapSettings
from aerialseg.raster.opening import without_georef_warnings
from tests.conftest import land_cover
from tests.fakes import Contextual, Flaky, Oracle
from tests.raster.drawing import TEN_CM, UTM
from tests.raster.formats import EXACT, draw, draw_mbtiles, edit_tile

SETTINGS = {"block_px": 64, "min_area_m2": 0, "simplify_m": 0}


def classes_of(source: Path, output: Path, **options: object) -> np.ndarray:
    segment(source, output.with_suffix(".gpkg"), raster=output.with_suffix(".tif"), **{**SETTINGS, **options})
    with rasterio.open(output.with_suffix(".tif")) as file:
        return file.read(1)


@pytest.mark.slow
@pytest.mark.parametrize("driver", EXACT)
def test_a_map_of_any_format_is_that_of_the_geotiff(tmp_path, driver):
    pixels = land_cover(200, 330)
    options = {"model": Contextual(), "crs": UTM}
    wanted = classes_of(draw(tmp_path, "GTiff", pixels, stem="whole"), tmp_path / "wanted", **options)
    found = classes_of(draw(tmp_path, driver, pixels), tmp_path / "found", **options)
    assert np.array_equal(found, wanted)
    assert not list(tmp_path.glob("*.run"))


def test_a_failed_run_resumes_with_the_copy_that_is_there(tmp_path):
    source, run = draw(tmp_path, "PNG", land_cover(200, 330)), tmp_path / "run"
    options = {"keep_run": run, "crs": UTM}
    wanted = classes_of(source, tmp_path / "wanted", model=Oracle(), crs=UTM)
    with pytest.raises(RuntimeError):
        classes_of(source, tmp_path / "a", model=Flaky(tmp_path / "calls", 6), **options)
    (copy,) = (run / "decoded").glob("*.tif")
    with (
        without_georef_warnings(),
        rasterio.open(copy, "r+") as file,
    ):  # now it shows where pixels are from
        file.write(np.zeros((3, 200, 330), np.uint8))
    found = classes_of(source, tmp_path / "a", model=Oracle(), **options)
    assert np.array_equal(found[:64, :64], wanted[:64, :64])
    assert not found[128:, 256:].any()
    assert not copy.parent.exists()


def test_row_03_pixels_lost_in_the_decoded_copy_are_in_the_report(tmp_path):
    source = draw_mbtiles(tmp_path / "a.mbtiles", land_cover(256, 512))
    edit_tile(source, lambda _: b"")
    kept = {"resolution_m": "native", "on_read_error": "nodata", "keep_run": tmp_path / "run"}
    result = segment(source, tmp_path / "a.gpkg", model=Oracle(), **kept)
    assert result.lost_px == 256 * 256
    assert result.valid_px == 256 * 256
    with pytest.raises(InputError, match="cannot read rows"):
        segment(source, tmp_path / "b.gpkg", model=Oracle(), resolution_m="native")
    assert not os.path.exists(tmp_path / "b.gpkg.run")
    with pytest.raises(InputError, match="cannot read rows"):  # blocks with holes are no answer to this
        segment(source, tmp_path / "b.gpkg", model=Oracle(), resolution_m="native", keep_run=tmp_path / "run")


@pytest.mark.slow
def test_row_03_what_a_copy_lacks_is_remembered_when_a_file_far_from_it_is_renewed(tmp_path):
    """No block that is computed again sees the damaged file, which would be decoded again with them."""
    (tmp_path / "t").mkdir()
    pixels, far = land_cover(300, 600), TEN_CM @ Affine.translation(900, 0)
    damaged = draw(tmp_path / "t", "GPKG", pixels[:, :, :300], stem="0", transform=TEN_CM)
    edit_tile(damaged, lambda _: b"")
    draw(tmp_path / "t", "GPKG", pixels[:, :, 300:], stem="1", transform=far)
    kept = {"on_read_error": "nodata", "keep_run": tmp_path / "run", "overwrite": True, "block_px": 64}
    paths = sorted((tmp_path / "t").glob("*.gpkg"))
    lost = segment(paths, tmp_path / "a.fgb", model=Oracle(), **kept).lost_px
    assert lost
    draw(tmp_path / "t", "GPKG", pixels[:, ::-1, 300:], stem="1", transform=far)
    assert segment(paths, tmp_path / "a.fgb", model=Oracle(), **kept).lost_px == lost


@pytest.mark.parametrize("crs", ["EPSG:1", "nonsense", "", "+proj=utm +zone=33", 5, True])
def test_a_crs_that_is_none_is_a_usage_error(crs):
    with pytest.raises(UsageError, match="EPSG:CODE"):
        MapSettings(crs=crs)

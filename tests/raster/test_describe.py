"""What describe finds, and how large a pixel is on the ground."""

from __future__ import annotations

import hashlib
import json
import math
import pickle

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine

from aerialseg.errors import InputError
from aerialseg.raster import opening
from aerialseg.raster.describe import describe, source_sha256
from aerialseg.raster.opening import without_georef_warnings
from tests.raster.drawing import TILED, picture, read_all, view_of, write


def test_facts_of_a_raster(tmp_path):
    path = write(tmp_path / "a.tif", picture(100, 200), compress="deflate", nodata=0, **TILED)
    info = describe(path)
    assert (info.path, info.geo.shape, info.count) == (str(path), (100, 200), 3)
    assert (info.dtypes, info.nodata, info.mask) == (("uint8",) * 3, 0.0, "nodata")
    assert (info.block_shape, info.compression, info.interleave) == ((64, 64), "deflate", "pixel")
    assert (info.geo.transform, info.georeferenced) == ((0.1, 0, 500_000, 0, -0.1, 5_000_000), True)
    assert info.geo.crs is not None
    assert info.gsd_m == pytest.approx((0.1 / 0.9996, 0.1 / 0.9996), rel=1e-5)


def test_info_travels_as_json_and_info_and_view_as_pickles(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((3, 30, 20), np.float32), nodata=math.nan)
    info, view = describe(path), view_of(path, scale=(0, 1), model_gsd_m=0.07)
    assert json.dumps(info.to_json(), allow_nan=False)
    assert {"height", "width", "transform", "crs"} < set(info.to_json())
    for value in (info, view):
        assert pickle.loads(pickle.dumps(value)) == value


def test_the_digest_changes_with_the_file(tmp_path):
    path = write(tmp_path / "a.tif", picture(20, 20))
    first = describe(path).digest
    assert describe(path).digest == first
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert describe(path).digest != first


def test_the_sha256_of_a_source_is_that_of_its_whole_file(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(np.random.default_rng(0).bytes(3_000_001))
    assert source_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "empty.tif").touch()
    assert source_sha256(str(tmp_path / "empty.tif")) == hashlib.sha256().hexdigest()


def test_a_source_that_cannot_be_hashed_is_an_input_error(tmp_path):
    for path in (tmp_path, tmp_path / "gone.tif"):
        with pytest.raises(InputError, match=f"cannot read .*{path.name}: "):
            source_sha256(path)


@pytest.mark.parametrize(
    ("profile", "mask", "expected"),
    [
        ({}, None, "none"),
        ({"nodata": 7}, None, "nodata"),
        ({}, np.ones((20, 20), bool), "internal"),
    ],
)
def test_what_marks_invalid_pixels(tmp_path, profile, mask, expected):
    assert describe(write(tmp_path / "a.tif", picture(20, 20), mask=mask, **profile)).mask == expected


def test_alpha_and_nodata_together_both_count(tmp_path):
    rgba = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [0, 0, 9, 9], [0, 255, 0, 255]], np.uint8).reshape(4, 1, 4)
    path = write(tmp_path / "a.tif", rgba, photometric="RGB", alpha="YES", nodata=0)
    assert describe(path).mask == "alpha+nodata"
    assert read_all(path)[1].tolist() == [[False, False, False, True]]


def test_alpha_and_internal_mask_together_both_count(tmp_path):
    rgba = np.concatenate([picture(1, 4), np.array([[[0, 255, 0, 255]]], np.uint8)])
    mask = np.array([[False, False, True, True]])
    path = write(tmp_path / "a.tif", rgba, mask=mask, photometric="RGB", alpha="YES")
    assert describe(path).mask == "alpha+internal"
    assert read_all(path)[1].tolist() == [[False, False, False, True]]


def test_degrees_make_square_working_pixels(tmp_path):
    path = write(tmp_path / "a.tif", picture(100, 200), crs="EPSG:4326", transform=Affine(1e-6, 0, 10, 0, -1e-6, 60))
    view = view_of(path, model_gsd_m=0.05)
    assert view.shape == (223, 223)
    assert view.gsd_m == pytest.approx((0.05, 0.05), rel=0.005)
    assert view.note == "5.58 cm x 11.1 cm per pixel, resampled to the model's 5 cm"


def test_what_lies_beside_a_raster_counts_in_a_crowded_folder_too(tmp_path, monkeypatch):
    with without_georef_warnings():
        path = write(tmp_path / "a.tif", picture(40, 50), transform=None, crs=None)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as file:
            file.write_mask(picture(40, 50, bands=1)[0] > 90)
    assert (tmp_path / "a.tif.msk").exists()
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n600000.25\n4999999.75\n")
    (tmp_path / "a.prj").write_text(pyproj.CRS.from_epsg(32633).to_wkt("WKT1_ESRI"))
    info, (pixels, valid) = describe(path), read_all(path, model_gsd_m=0.5)
    assert (info.geo.transform, info.mask) == ((0.5, 0, 600_000, 0, -0.5, 5_000_000), "internal")
    assert info.geo.crs is not None
    assert 0 < valid.sum() < valid.size
    monkeypatch.setattr(opening, "LISTED", 0)
    assert describe(path) == info
    assert all(
        np.array_equal(one, other) for one, other in zip(read_all(path, model_gsd_m=0.5), (pixels, valid), strict=True)
    )

"""At which ground sampling distance a raster is read."""

from __future__ import annotations

import pytest
from affine import Affine

from aerialseg.errors import InputError, UsageError
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.raster.view import make_view
from aerialseg.raster.working_grid import split_gsd
from tests.raster.drawing import describe, picture, view_of, write


@pytest.fixture
def plain(tmp_path):
    return write(tmp_path / "plain.tif", picture(100, 200), crs=None, transform=Affine(3, 0, 0, 0, -3, 0))


@pytest.fixture
def ortho(tmp_path):
    return write(tmp_path / "ortho.tif", picture(100, 200))


@pytest.mark.parametrize(
    ("model", "resampled"), [(0.1, False), (0.108, False), (0.092, False), (0.12, True), (0.08, True)]
)
def test_up_to_ten_per_cent_off_is_read_as_it_is(ortho, model, resampled):
    view = view_of(ortho, model_gsd_m=model)
    assert view.resampled == resampled
    assert ("resampled to the model's" in view.note) == resampled


def test_one_axis_is_enough_to_resample(tmp_path):
    path = write(tmp_path / "a.tif", picture(100, 200), transform=Affine(0.1, 0, 5e5, 0, -0.2, 5e6))
    assert view_of(path, model_gsd_m=0.1).shape == (200, 200)


def test_row_15_extent_stays_and_sizes_follow(ortho):
    view = view_of(ortho, model_gsd_m=0.03)
    assert view.shape == (334, 666)
    assert view.geo.at(666, 334) == pytest.approx((500_020, 4_999_990), abs=0.02)
    assert view.ratio == pytest.approx((0.3, 0.3), rel=1e-9)
    assert view.gsd_m == pytest.approx((0.03, 0.03), rel=2e-3)
    assert view.geo.transform[0] == 0.03
    assert all(abs(place / 0.03 - round(place / 0.03)) < 1e-6 for place in view.geo.at(0, 0))


def test_a_number_is_the_working_resolution(ortho):
    view = view_of(ortho, model_gsd_m=0.05, resolution_m=0.2)
    assert view.shape == (50, 100)
    assert view.note.startswith("10 cm per pixel, resampled to 20 cm")


def test_without_crs_the_pixel_size_is_what_was_given(plain):
    view = view_of(plain, model_gsd_m=0.05, pixel_size_m=0.02)
    assert (view.shape, view.geo.crs) == ((40, 80), None)
    assert view.gsd_m == pytest.approx((0.05, 0.05))
    assert view.geo.at(80, 40) == pytest.approx((600, -300))
    with pytest.raises(InputError, match="60 times coarser"):
        view_of(plain, model_gsd_m=0.05, pixel_size_m=3)


def test_without_crs_it_is_resampled_from_its_pixel_size_to_the_resolution(plain):
    view = view_of(plain, model_gsd_m=0.05, pixel_size_m=0.02, resolution_m=0.04)
    assert (view.shape, view.geo.crs) == ((50, 100), None)
    assert view.gsd_m == pytest.approx((0.04, 0.04))
    assert "2 cm per pixel, resampled to 4 cm, 1.25 times finer than the model's 5 cm" in view.note
    native = view_of(plain, model_gsd_m=0.05, pixel_size_m=0.02, resolution_m="native")
    assert (native.shape, native.gsd_m) == ((100, 200), (0.02, 0.02))


def test_a_resolution_alone_is_refused_where_the_pixel_size_is_not_known(plain):
    with pytest.raises(InputError, match=r"plain\.tif does not say .*--resolution 0\.04: give --pixel-size METRES"):
        view_of(plain, model_gsd_m=0.05, resolution_m=0.04)


def test_a_pixel_size_has_to_agree_with_what_the_raster_knows(ortho):
    view = view_of(ortho, model_gsd_m=0.1, pixel_size_m=0.1005)
    assert view.gsd_m == describe(ortho).gsd_m
    with pytest.raises(InputError, match=r"10 cm per pixel by its own georeference, and --pixel-size says 9\.8 cm"):
        view_of(ortho, model_gsd_m=0.1, pixel_size_m=0.098)


def test_metres_of_the_old_name_are_the_pixel_size_where_that_is_not_known(ortho, plain):
    known, unknown = [describe(ortho)], [describe(plain)]
    assert split_gsd(known, 0.02, None, None) == (0.02, None)
    assert split_gsd(unknown, 0.02, None, None) == (None, 0.02)
    assert split_gsd(unknown, "native", None, None) == ("native", None)
    assert split_gsd(unknown, None, 0.04, 0.02) == (0.04, 0.02)
    with pytest.raises(UsageError, match="in place of --gsd"):
        split_gsd(known, 0.02, 0.02, None)


def test_without_crs_and_number_it_is_read_as_it_is(plain):
    view = view_of(plain, model_gsd_m=0.05)
    assert (view.shape, view.gsd_m) == ((100, 200), None)
    assert "--pixel-size METRES" in view.note


@pytest.mark.parametrize("crs", [None, "EPSG:32633"])
@pytest.mark.parametrize(("stored", "down"), [(None, -1), (Affine.identity(), 1)])
def test_a_raster_without_any_place_lies_where_qgis_draws_it(tmp_path, crs, stored, down):
    with without_georef_warnings():
        path = write(tmp_path / "a.tif", picture(100, 200), crs=crs, transform=stored)
    assert not describe(path).georeferenced
    view = view_of(path)
    assert (view.geo.transform, view.geo.crs) == ((1, 0, 0, 0, down, 0), None)
    finer = view_of(path, model_gsd_m=0.05, pixel_size_m=0.1)
    assert (finer.shape, finer.geo.transform) == ((200, 400), (0.5, 0, 0, 0, 0.5 * down, 0))


def test_native_is_never_resampled(ortho, plain):
    assert view_of(ortho, model_gsd_m=5, resolution_m="native").shape == (100, 200)
    assert view_of(plain, model_gsd_m=5, resolution_m="native").shape == (100, 200)


def test_a_model_without_a_size_takes_everything_as_it_is(ortho):
    assert view_of(ortho, model_gsd_m=None).shape == (100, 200)


def test_a_thousand_pixels_do_not_become_one(ortho):
    with pytest.raises(InputError, match="at most 1000"):
        view_of(ortho, model_gsd_m=500)


def test_row_08_max_pixels_counts_working_pixels(ortho):
    info = describe(ortho)
    make_view(info, model_gsd_m=0.1, max_pixels=20_000)
    with pytest.raises(InputError, match=r"20,000 px to map \(100 x 200\), more than --max-pixels 19,999"):
        make_view(info, model_gsd_m=0.1, max_pixels=19_999)
    with pytest.raises(InputError, match="80,0"):
        make_view(info, model_gsd_m=0.05, max_pixels=70_000)

"""Bands beyond red, green and blue: found by what the file says of them, and brought to bytes."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

from aerialseg.errors import InputError, MisfitError, UsageError
from tests.raster.drawing import picture, read_all, view_of, write

FOUR = ("red", "green", "blue", "nir")


def four_bands(path, *, dtype=np.uint8, colours=None, descriptions=None):
    """Bands of the values 10, 20, 30, 40."""
    pixels = np.stack([np.full((4, 4), value, dtype) for value in (10, 20, 30, 40)])
    write(path, pixels)
    with rasterio.open(path, "r+") as file:
        if colours:
            file.colorinterp = [getattr(ColorInterp, name) for name in colours]
        for band, text in enumerate(descriptions or (), start=1):
            file.set_band_description(band, text)
    return path


def pixel(path, **options):
    values, valid = read_all(path, wanted=FOUR, **options)
    assert valid.all()
    return values[:, 0, 0].tolist()


def test_infrared_is_found_by_its_colour_interpretation_wherever_it_is(tmp_path):
    path = four_bands(tmp_path / "a.tif", colours=("nir", "red", "green", "blue"))
    assert pixel(path) == [20, 30, 40, 10]


@pytest.mark.parametrize("name", ["nir", "NIR", "Near-infrared", "near_infrared"])
def test_a_description_names_what_the_colour_interpretation_leaves_open(tmp_path, name):
    colours = ("red", "green", "blue", "undefined")
    assert pixel(four_bands(tmp_path / "a.tif", colours=colours, descriptions=("", "", "", name))) == [10, 20, 30, 40]
    by_name = ("blue", "green", "red", name)
    path = four_bands(tmp_path / "b.tif", colours=("gray", *["undefined"] * 3), descriptions=by_name)
    assert pixel(path) == [30, 20, 10, 40]


def test_without_names_the_order_counts_and_other_names_do_not_fit(tmp_path):
    path = four_bands(tmp_path / "a.tif", colours=("gray", *["undefined"] * 3))
    assert pixel(path) == [10, 20, 30, 40]
    with pytest.raises(MisfitError, match=r"4 band\(s\).*the model wants 4 .*nir.*--bands 1,2,3,4") as caught:
        pixel(four_bands(tmp_path / "b.tif", colours=("red", "green", "blue", "swir")))
    assert caught.value.bands == ("red", "green", "blue", "swir")
    assert pixel(tmp_path / "b.tif", bands=(4, 3, 2, 1)) == [40, 30, 20, 10]


def test_a_raster_without_the_bands_is_refused_with_what_it_has(tmp_path):
    with pytest.raises(MisfitError, match="the model wants 4") as caught:
        view_of(write(tmp_path / "rgb.tif", picture(10, 10), photometric="RGB"), wanted=FOUR)
    assert caught.value.bands == ("red", "green", "blue")
    assert caught.value.gsd_m == pytest.approx((0.1, 0.1), rel=1e-2)


def test_each_band_may_have_a_scale_of_its_own(tmp_path):
    path = four_bands(tmp_path / "a.tif", dtype=np.uint16, colours=FOUR)
    assert pixel(path, scale=(0, 255)) == [10, 20, 30, 40]
    assert pixel(path, scale=(0, 255, 0, 20, 0, 60, 30, 50)) == [10, 255, 128, 128]
    with pytest.raises(UsageError, match="one such pair for each of the 4"):
        pixel(path, scale=(0, 255, 0, 20))
    with pytest.raises(UsageError, match="two different finite values"):
        pixel(path, scale=(0, 255, 0, 20, 5, 5, 30, 50))


def test_the_models_scale_counts_where_none_is_given_and_the_raster_is_not_8_bit(tmp_path):
    path = four_bands(tmp_path / "a.tif", dtype=np.uint16, colours=FOUR)
    with pytest.raises(InputError, match="--scale LOW,HIGH"):
        pixel(path)
    assert pixel(path, usual_scale=(0, 510)) == [5, 10, 15, 20]
    assert pixel(path, usual_scale=(0, 510), scale=(0, 255)) == [10, 20, 30, 40]
    assert "0 to 510, as the model's card says" in view_of(path, wanted=FOUR, usual_scale=(0, 510)).note
    eight = four_bands(tmp_path / "b.tif", colours=FOUR)
    assert pixel(eight, usual_scale=(0, 510)) == [10, 20, 30, 40]
    assert "8 bit are read as they are" in view_of(eight, wanted=FOUR, usual_scale=(0, 510)).note

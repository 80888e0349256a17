"""Bands of rows: in order, and bounded in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from aerialseg.errors import InputError
from aerialseg.vector import bands
from aerialseg.vector.bands import ClassRaster
from tests.vector.drawn import noise, write


@pytest.mark.parametrize(
    ("wanted", "width", "block", "rows"),
    [
        (1024, 1000, 512, 1024),
        (1, 1000, 512, 1),
        (1024, 3000, 512, 512),
        (1024, 100_000, 512, 20),
        (1024, 1_000_000, 512, 2),
        (1024, 1 << 30, 1, 1),
    ],
)
def test_a_band_never_holds_more_than_fits(wanted: int, width: int, block: int, rows: int) -> None:
    assert bands._rows(wanted, width, block) == rows


def test_bands_are_the_raster_in_order(tmp_path: Path) -> None:
    drawn = noise(23, 31)
    with ClassRaster(write(tmp_path / "c.tif", drawn), band_rows=5) as raster:
        found = list(raster)
        assert next(iter(raster)).row == 0
    assert [band.row for band in found] == [0, 5, 10, 15, 20]
    assert np.array_equal(np.concatenate([band.classes for band in found]), drawn)


def test_a_raster_cut_off_in_the_middle_is_an_input_error(tmp_path: Path) -> None:
    path = write(tmp_path / "c.tif", noise(300, 300), compress="deflate")
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"c\.tif"), ClassRaster(path, band_rows=50) as raster:
        list(raster)


def test_only_class_ids_are_taken_for_class_ids(tmp_path: Path) -> None:
    path = tmp_path / "c.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=2,
        width=2,
        count=1,
        dtype="float32",
        crs="EPSG:32633",
        transform=rasterio.Affine(1, 0, 9, 0, -1, 9),
    ) as file:
        file.write(np.zeros((1, 2, 2), np.float32))
    with pytest.raises(InputError, match="float32"):
        ClassRaster(path)

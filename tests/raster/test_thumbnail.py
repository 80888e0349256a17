"""Small pictures of class rasters are whole PNG files in the legend's colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rasterio.io import MemoryFile

from aerialseg.errors import InputError
from aerialseg.legend import NODATA
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.image import class_thumbnail, write_classes
from aerialseg.raster.opening import without_georef_warnings
from tests.fakes import LEGEND


def picture(path: Path, classes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """(classes, alpha) of the picture of some classes."""
    write_classes(path, classes, GeoGrid(*classes.shape, (1, 0, 500_000, 0, -1, 5_000_000), "EPSG:32633"), LEGEND)
    png = class_thumbnail(path, LEGEND, side)
    with without_georef_warnings(), MemoryFile(png) as memory, memory.open() as file:
        values = file.read(1)
        alpha = np.array([file.colormap(1)[value][3] for value in values.flat]).reshape(values.shape)
    return values, alpha


def test_a_small_raster_is_shown_pixel_by_pixel_and_nodata_is_transparent(tmp_path: Path) -> None:
    classes = np.arange(24, dtype=np.uint8).reshape(4, 6) % len(LEGEND)
    classes[0, :2] = NODATA
    values, alpha = picture(tmp_path / "c.tif", classes, 96)
    assert np.array_equal(values, classes)
    assert np.array_equal(alpha == 0, classes == NODATA)


@pytest.mark.parametrize(("shape", "wanted"), [((500, 1000), (48, 96)), ((1000, 3), (96, 1)), ((96, 96), (96, 96))])
def test_a_large_raster_is_made_small_and_keeps_its_shape(
    tmp_path: Path, shape: tuple[int, int], wanted: tuple[int, int]
) -> None:
    values, alpha = picture(tmp_path / "c.tif", np.full(shape, 3, np.uint8), 96)
    assert values.shape == wanted
    assert (values == 3).all()
    assert (alpha == 255).all()


def test_nothing_but_nodata_is_a_picture(tmp_path: Path) -> None:
    assert (picture(tmp_path / "c.tif", np.full((9, 9), NODATA, np.uint8), 96)[1] == 0).all()


def test_what_cannot_be_read_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "c.tif").write_text("<html>")
    with pytest.raises(InputError):
        class_thumbnail(tmp_path / "c.tif", LEGEND, 96)

"""Small rasters written at once: whole, or what was there before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

from aerialseg.errors import OutputError
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.image import write_classes, write_rgb
from tests.fakes import LEGEND

PLACE = (0.1, 0.0, 5e5, 0.0, -0.1, 5e6), "EPSG:32633"


def test_what_is_written_reads_back_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    pixels = np.arange(3 * 20 * 30, dtype=np.uint8).reshape(3, 20, 30)
    valid = pixels[0] > 9
    write_rgb(tmp_path / "a.tif", pixels, valid, GeoGrid(20, 30, *PLACE))
    write_classes(tmp_path / "b.tif", pixels[0] % 6, GeoGrid(20, 30, *PLACE), LEGEND)
    with rasterio.open(tmp_path / "a.tif") as rgb, rasterio.open(tmp_path / "b.tif") as classes:
        assert (rgb.read() == pixels).all()
        assert ((rgb.dataset_mask() > 0) == valid).all()
        assert (classes.read(1) == pixels[0] % 6).all()
        assert classes.colormap(1)[2] == (*LEGEND[2].color, 255)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("last", ["write_mask", "write_colormap"])
def test_what_was_there_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    path, pixels = tmp_path / "a.tif", np.zeros((3, 9, 9), np.uint8)
    path.write_text("old")

    def fail(*_: object) -> None:
        assert path.read_text() == "old"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rasterio.io.DatasetWriter, last, fail)
    write = {
        "write_mask": lambda: write_rgb(path, pixels, pixels[0] == 0, GeoGrid(9, 9, *PLACE)),
        "write_colormap": lambda: write_classes(path, pixels[0], GeoGrid(9, 9, *PLACE), LEGEND),
    }
    with pytest.raises(OutputError, match=r"cannot write .*a\.tif: No space left"):
        write[last]()
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.tif", "old")]

"""The place of a GeoTIFF is the one that GDAL finds, whether GDAL was asked for this file or for one before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.control import GroundControlPoint

from aerialseg.raster import describe as describing
from aerialseg.raster import tiff_place
from aerialseg.raster.describe import RasterInfo, describe
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.opening import without_georef_warnings
from tests.raster.drawing import picture, write

CORNER = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_place, "_known", {})


def asked_anew(path: Path) -> RasterInfo:
    tiff_place._known.clear()
    return describe(path)


FILES: dict[str, dict[str, Any]] = {
    "another corner": {"transform": Affine(0.1, 0, 700_123.4, 0, -0.1, 5_100_000.7)},
    "another size of pixels": {"transform": Affine(0.3, 0, 500_000, 0, -0.2, 5_000_000)},
    "another CRS": {"crs": "EPSG:25832"},
    "no code": {"crs": "+proj=tmerc +lon_0=11.5 +ellps=bessel"},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-6, 0, 10, 0, -1e-6, 50)},
    "turned": {"transform": CORNER @ Affine.rotation(30)},
    "rows count up": {"transform": Affine(0.1, 0, 500_000, 0, 0.1, 5_000_000)},
    "another datum": {"crs": "EPSG:31468"},
    "no CRS": {"crs": None},
    "BigTIFF": {"bigtiff": "YES"},
    "other order of bytes": {"endianness": "BIG"},
    "GDAL's own metadata": {"nodata": 7},
}


@pytest.mark.parametrize("name", FILES)
def test_the_place_is_that_of_gdal_whatever_was_opened_before(tmp_path: Path, name: str) -> None:
    plain = write(tmp_path / "plain.tif", picture(20, 30), transform=CORNER)
    other = write(tmp_path / "other.tif", picture(20, 30), **{"transform": CORNER, **FILES[name]})
    fresh = asked_anew(other)
    assert asked_anew(plain).geo.transform == tuple(CORNER)[:6]
    assert [describe(other) for _ in range(2)] == [fresh] * 2


def test_a_pixel_that_is_a_point_a_file_beside_it_and_control_points_stay_gdals_business(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.tif", picture(20, 30), transform=CORNER)
    point = write(tmp_path / "point.tif", picture(20, 30), transform=CORNER)
    with rasterio.open(point, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    moved = write(tmp_path / "moved.tif", picture(20, 30), transform=CORNER)
    place = "<GeoTransform>600000, 0.5, 0, 5000000, 0, -0.5</GeoTransform>"
    (tmp_path / "moved.tif.aux.xml").write_text(f"<PAMDataset>{place}</PAMDataset>")
    fresh = [asked_anew(path) for path in (point, moved)]
    describe(plain)
    assert [describe(path) for path in (point, moved) for _ in range(2)] == [one for one in fresh for _ in range(2)]
    assert [one.geo.transform[2] for one in fresh] == [500_000, 600_000]
    controlled = tmp_path / "controlled.tif"
    points = [GroundControlPoint(row, col, 500_000 + col, 5_000_000 - row) for row, col in ((0, 0), (0, 9), (9, 0))]
    profile = {"driver": "GTiff", "height": 20, "width": 30, "count": 3, "dtype": "uint8"}
    with without_georef_warnings(), rasterio.open(controlled, "w", **profile) as file:
        file.gcps = points, rasterio.crs.CRS.from_epsg(32633)
        file.write(picture(20, 30))
    assert tiff_place.read_place(controlled) is None


@settings(deadline=None, max_examples=30)
@given(
    x=st.floats(-1e7, 1e7),
    y=st.floats(-1e7, 1e7),
    width=st.floats(1e-3, 1e3),
    height=st.floats(1e-3, 1e3),
)
def test_the_numbers_are_gdals_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, width: float, height: float
) -> None:
    path = write(tmp_path_factory.mktemp("a") / "a.tif", picture(2, 2), transform=Affine(width, 0, x, 0, -height, y))
    found = tiff_place.read_place(path)
    with rasterio.open(path) as file:
        assert found is not None
        assert found.transform == tuple(file.transform)[:6]


def test_gdal_is_asked_once_for_many_tiles_of_one_crs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    found = describing.geogrid_of

    def geogrid_of(dataset: Any) -> GeoGrid:
        asked.append(dataset.name)
        return found(dataset)

    monkeypatch.setattr(describing, "geogrid_of", geogrid_of)
    paths = [
        write(tmp_path / f"{col}.tif", np.ones((3, 8, 8), np.uint8), transform=CORNER @ Affine.translation(8 * col, 0))
        for col in range(5)
    ]
    assert len({describe(path).geo.crs for path in paths}) == 1
    assert asked == [str(paths[0])]

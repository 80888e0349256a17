"""What other tools got wrong where they cut the raster, as tests that we pass, and a very large neighbourhood."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio.features
import shapely

from aerialseg.executor import TaskPool
from aerialseg.legend import NODATA
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.regions import find_regions
from tests.vector.drawn import assert_tiles, islands, noise, polygons_of, write


@pytest.mark.parametrize("strip_rows", [1, 2, 3])
def test_diagonal_neighbours_across_block_corners(strip_rows: int) -> None:
    """xarray-spatial #2172: squares that touch in a corner of blocks came out otherwise than those inside of one."""
    for drawn in (np.array([[1, 0], [0, 1]]), np.indices((4, 4)).sum(axis=0) % 2, np.indices((6, 6)).sum(axis=0) % 2):
        polygons, _ = polygons_of(drawn.astype(np.uint8), strip_rows=strip_rows)
        assert len(polygons) == drawn.size
        assert_tiles(polygons, drawn.astype(np.uint8))


@pytest.mark.parametrize("strip_rows", [1, 2])
def test_a_chain_through_blocks_is_one_region_with_one_class(strip_rows: int) -> None:
    """xarray-spatial #2583: the class of pieces in several blocks was taken from whoever had a similar one."""
    drawn = np.array([[1, 2, 1, 2], [1, 2, 1, 2], [1, 1, 1, 2], [0, 0, 2, 2], [2, 2, 2, 0]], np.uint8)
    polygons, classes = polygons_of(drawn, strip_rows=strip_rows)
    found = sorted(zip(classes.tolist(), shapely.area(polygons).tolist(), strict=True))
    assert found == [(0, 1), (0, 2), (1, 7), (2, 2), (2, 8)]
    assert_tiles(polygons, drawn)


@pytest.mark.parametrize("strip_rows", [1, 2, 4])
def test_a_diagonal_notch_on_a_seam_is_not_filled(strip_rows: int) -> None:
    """xarray-spatial #2606: the notch was filled, and the areas summed up to more than the raster."""
    drawn = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 1]], np.uint8)
    polygons, _ = polygons_of(drawn, strip_rows=strip_rows)
    assert_tiles(polygons, drawn)
    assert shapely.area(polygons).sum() == 16


@pytest.mark.parametrize("strip_rows", [1, 2, 4])
def test_rings_that_touch_themselves_are_valid_and_turn_the_right_way(strip_rows: int) -> None:
    """GDAL #7344, #7369, #1158: two-arm chains gave rings through one point twice, and shells that ran clockwise."""
    cases = [
        [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]],  # 8-connected ring, for which GDAL's is not valid
        [[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]],  # two holes that touch in a point (rasterio #2244)
        [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 1]],  # a hole that touches the shell
    ]
    for case in cases:
        drawn = np.array(case, np.uint8)
        polygons, _ = polygons_of(drawn, strip_rows=strip_rows, transform=rasterio.Affine(1, 0, 0, 0, -1, 0))
        assert shapely.is_valid(polygons).all()
        assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
        assert not shapely.is_ccw([ring for one in polygons for ring in one.interiors]).any()
        assert_tiles(polygons, drawn)


def test_a_region_over_the_corner_of_four_blocks_is_one_polygon(tmp_path: Path) -> None:
    """rasterio #630: features of rasters larger than memory, cut where they are read."""
    drawn = np.zeros((64, 64), np.uint8)
    drawn[28:36, 28:36] = 1
    path = write(tmp_path / "c.tif", drawn, tiled=True, blockxsize=32, blockysize=32)
    regions, _ = find_regions(ClassRaster(path, strip_rows=8), contacts=False)
    assert regions.pixels.tolist() == [64 * 64 - 64, 64]


def test_nothing_of_the_raster_is_held_but_strips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rasterio #630: at no time is there more of the raster in memory than the tasks that are handed out hold."""
    monkeypatch.setattr("aerialseg.raster.classes.TASK_PX", 64 * 64)
    drawn = noise(640, 64)
    raster = ClassRaster(write(tmp_path / "c.tif", drawn, blockysize=16), strip_rows=16)
    rows = [(task.box.top, task.box.height) for task in raster.tasks()]
    assert rows == [(row, 64) for row in range(0, 640, 64)]
    with TaskPool(2) as pool:
        regions, _ = find_regions(raster, contacts=False, pool=pool)
    assert regions.pixels.sum() == (drawn != NODATA).sum()


@pytest.mark.slow
def test_a_region_may_surround_100_000_others() -> None:
    drawn = islands(100_000)
    for smooth in (0, 1):
        polygons, classes = polygons_of(drawn, 1.5, smooth=smooth, strip_rows=100, workers=2)
        assert shapely.get_num_interior_rings(polygons[0]) == len(polygons) - 1 >= 100_000
        assert shapely.is_valid(polygons).all()
        assert shapely.area(polygons).sum() == drawn.size
    assert (classes[1:] == 1).all()
    merged, classes = polygons_of(drawn, min_pixels=2, workers=2)
    assert classes.tolist() == [0]
    assert shapely.area(merged[0]) == drawn.size


@pytest.mark.slow
def test_a_long_spiral_is_one_line() -> None:
    from tests.vector.drawn import spiral

    drawn = spiral(501)
    whole, _ = polygons_of(drawn, 1.5)
    assert_tiles(whole, drawn)
    for one, other in pairwise([whole, polygons_of(drawn, 1.5, strip_rows=7, workers=4)[0]]):
        assert [polygon.wkb for polygon in one] == [polygon.wkb for polygon in other]

"""Every valid pixel in exactly one polygon: before and after simplification, however the raster is cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from aerialseg.errors import InputError
from aerialseg.legend import NODATA
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.arcs import find_arcs
from aerialseg.vector.regions import find_regions
from tests.raster.drawing import write
from tests.vector.drawn import ADVERSARIES, PIXELS, assert_tiles, blobs, islands, noise, polygons_of, rasters

NAMES = sorted(ADVERSARIES)


def burnt(polygons: np.ndarray, classes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if not len(polygons):
        return np.full(shape, NODATA, np.uint8)
    pairs = zip(polygons, classes.tolist(), strict=True)
    return rasterio.features.rasterize(pairs, out_shape=shape, fill=NODATA, transform=PIXELS, dtype=np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tolerance_px", [0, 0.8, 1.5, 4])
def test_polygons_tile_the_valid_pixels(name: str, tolerance_px: float) -> None:
    drawn = ADVERSARIES[name]
    polygons, _ = polygons_of(drawn, tolerance_px)
    assert_tiles(polygons, drawn)


@given(rasters(), st.sampled_from([0, 1.0, 1.5, 3.0, 20.0]))
def test_polygons_of_any_raster_tile_it(drawn: np.ndarray, tolerance_px: float) -> None:
    polygons, _ = polygons_of(drawn, tolerance_px)
    assert_tiles(polygons, drawn)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tolerance_px", "smooth"), [(0, 1), (0, 3), (1.5, 2), (4, 3)])
def test_smoothed_polygons_tile_the_valid_pixels(name: str, tolerance_px: float, smooth: int) -> None:
    drawn = ADVERSARIES[name]
    polygons, _ = polygons_of(drawn, tolerance_px, smooth=smooth)
    assert_tiles(polygons, drawn)


@given(rasters(), st.sampled_from([0, 1.5, 20.0]), st.integers(1, 3))
def test_smoothed_polygons_of_any_raster_tile_it(drawn: np.ndarray, tolerance_px: float, smooth: int) -> None:
    polygons, _ = polygons_of(drawn, tolerance_px, smooth=smooth)
    assert_tiles(polygons, drawn)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tolerance_px", [1.5, 2.5, 10.0])
def test_slanted_borders_with_specks_tile(seed: int, tolerance_px: float) -> None:
    drawn = blobs(150, 170, seed=seed, specks=0.02)
    polygons, _ = polygons_of(drawn, tolerance_px)
    assert_tiles(polygons, drawn)


@given(rasters())
def test_polygons_on_the_lattice_burn_back_to_the_raster(drawn: np.ndarray) -> None:
    assert np.array_equal(burnt(*polygons_of(drawn), drawn.shape), drawn)


@pytest.mark.parametrize("name", NAMES)
def test_adversaries_burn_back_to_the_raster(name: str) -> None:
    assert np.array_equal(burnt(*polygons_of(ADVERSARIES[name]), ADVERSARIES[name].shape), ADVERSARIES[name])


@given(rasters())
def test_regions_are_those_of_gdal(drawn: np.ndarray) -> None:
    polygons, classes = polygons_of(drawn)
    ours = Counter(zip(classes.tolist(), shapely.area(polygons).tolist(), strict=True))
    found = rasterio.features.shapes(drawn, mask=drawn != NODATA, connectivity=4)
    theirs = Counter((int(value), shapely.area(shapely.geometry.shape(ring))) for ring, value in found)
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tolerance_px", "min_pixels"), [(0, 0), (1.5, 0), (1.5, 6)])
def test_how_the_raster_is_cut_changes_no_byte(name: str, tolerance_px: float, min_pixels: int) -> None:
    drawn = ADVERSARIES[name]
    whole, classes = polygons_of(drawn, tolerance_px, min_pixels=min_pixels)
    for strip_rows in (1, 7, 64):
        polygons, same = polygons_of(drawn, tolerance_px, min_pixels=min_pixels, strip_rows=strip_rows)
        assert np.array_equal(classes, same)
        assert [one.wkb for one in polygons] == [one.wkb for one in whole]


@pytest.mark.slow
@given(rasters(), st.integers(1, 30), st.integers(0, 9), st.sampled_from([0, 2]))
def test_how_any_raster_is_cut_changes_no_byte(
    drawn: np.ndarray, strip_rows: int, min_pixels: int, smooth: int
) -> None:
    whole, _ = polygons_of(drawn, 1.5, smooth=smooth, min_pixels=min_pixels)
    cut, _ = polygons_of(drawn, 1.5, smooth=smooth, min_pixels=min_pixels, strip_rows=strip_rows)
    assert [one.wkb for one in whole] == [one.wkb for one in cut]


@pytest.mark.slow
@pytest.mark.parametrize("smooth", [0, 2])
@pytest.mark.parametrize("drawn", [noise(230, 190), blobs(230, 190)], ids=["noise", "blobs"])
def test_neither_blocks_nor_workers_change_a_byte(drawn: np.ndarray, smooth: int) -> None:
    whole, classes = polygons_of(drawn, 1.5, smooth=smooth, min_pixels=5, strip_rows=230)
    for strip_rows in (7, 64, 100, 230):
        for workers in (1, 4):
            made, same = polygons_of(drawn, 1.5, smooth=smooth, min_pixels=5, strip_rows=strip_rows, workers=workers)
            assert np.array_equal(classes, same)
            assert [one.wkb for one in made] == [one.wkb for one in whole]


def test_polygons_come_in_the_order_of_their_first_pixels() -> None:
    drawn = noise(30, 40)
    polygons, _ = polygons_of(drawn)
    first = rasterio.features.rasterize(
        ((one, number) for number, one in enumerate(polygons, 1)), out_shape=drawn.shape, fill=0, dtype=np.int32
    ).ravel()
    _, position = np.unique(first[first > 0], return_index=True)
    assert (np.diff(position) > 0).all()


@pytest.mark.slow
def test_a_region_with_many_islands_is_one_polygon_with_holes() -> None:
    drawn = islands(1000)
    polygons, _ = polygons_of(drawn, 1.5)
    assert_tiles(polygons, drawn)
    assert shapely.get_num_interior_rings(polygons[0]) == len(polygons) - 1 >= 1000


def test_no_island_changes_sides() -> None:
    drawn = ADVERSARIES["islands beside a border"]
    before, _ = polygons_of(drawn)
    after, _ = polygons_of(drawn, 3.0)
    touching = [
        {frozenset(pair) for pair in shapely.STRtree(p).query(p, "touches").T.tolist()} for p in (before, after)
    ]
    assert touching[0] == touching[1]


@pytest.mark.parametrize("tolerance_px", [1.0, 1.5, 4.0])
def test_no_border_moves_further_than_the_tolerance(tolerance_px: float) -> None:
    drawn = blobs(120, 120, seed=3)
    before, _ = polygons_of(drawn)
    after, _ = polygons_of(drawn, tolerance_px)
    moved = shapely.hausdorff_distance(shapely.boundary(before), shapely.boundary(after))
    assert moved.max() <= tolerance_px + 1e-9
    assert shapely.get_num_coordinates(after).sum() < 0.7 * shapely.get_num_coordinates(before).sum()


def test_the_outline_of_the_valid_area_is_kept_as_it_is() -> None:
    drawn = blobs(80, 90)
    exact = shapely.union_all(polygons_of(np.where(drawn == NODATA, drawn, 1))[0])
    simple, _ = polygons_of(drawn, 3.0)
    assert shapely.equals(shapely.coverage_union_all(simple), exact)


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param((0.05, 0, 500_000, 0, -0.05, 5_000_000), id="north-up"),
        pytest.param((0.05, 0, 500_000, 0, 0.05, 5_000_000), id="south-up"),
        pytest.param((0.03, 0.04, 500_000, 0.04, -0.03, 5_000_000), id="rotated"),
        pytest.param((1e-7, 2e-8, 13.1, 3e-8, -1e-7, 52.2), id="sheared degrees"),
    ],
)
def test_any_transform_gives_a_valid_coverage_with_counter_clockwise_shells(transform: tuple[float, ...]) -> None:
    drawn = blobs(100, 80, seed=1, specks=0.03)
    for tolerance_px in (0, 1.5):
        polygons, _ = polygons_of(drawn, tolerance_px, transform=rasterio.Affine(*transform))
        assert shapely.is_valid(polygons).all()
        assert shapely.coverage_is_valid(polygons)
        assert shapely.is_ccw(shapely.get_exterior_ring(polygons)).all()
        holes = shapely.get_rings(polygons[shapely.get_num_interior_rings(polygons) > 0])
        assert not shapely.is_ccw(holes).all()
        area = abs(np.linalg.det(np.reshape(transform, (2, 3))[:, :2]))
        assert shapely.area(polygons).sum() == pytest.approx((drawn != NODATA).sum() * area, rel=1e-4)


def test_labels_are_those_of_scipy() -> None:
    drawn = noise(60, 70, classes=3)
    count = sum(ndimage.label(drawn == one)[1] for one in range(3))
    assert len(polygons_of(drawn, strip_rows=7)[0]) == count


@pytest.mark.long
@pytest.mark.slow
def test_a_raster_too_wide_for_small_integers_tiles_too() -> None:
    drawn = noise(1, 66_000)
    polygons, classes = polygons_of(drawn)
    assert_tiles(polygons, drawn)
    assert np.array_equal(burnt(polygons, classes, drawn.shape), drawn)


@pytest.mark.parametrize("column", [2, 4])
def test_a_raster_that_changes_between_its_two_readings_is_refused(tmp_path, column):
    halves = np.zeros((1, 16, 6), np.uint8)
    halves[:, :, 3:] = 1
    raster = ClassRaster(write(tmp_path / "a.tif", halves))
    raster.task_rows = 8
    regions, _ = find_regions(raster, contacts=False)
    find_arcs(raster, regions)
    halves[:, :8] = np.arange(6) >= column
    write(tmp_path / "a.tif", halves)
    with pytest.raises(InputError, match=r"a\.tif had other pixels when it was read again"):
        find_arcs(raster, regions)


def test_a_raster_with_more_regions_at_its_second_reading_is_refused(tmp_path):
    raster = ClassRaster(write(tmp_path / "a.tif", np.zeros((1, 8, 8), np.uint8)))
    regions, _ = find_regions(raster, contacts=False)
    write(tmp_path / "a.tif", np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    with pytest.raises(InputError, match=r"a\.tif had other pixels when it was read again"):
        find_arcs(raster, regions)

"""Smoothing: corners are rounded where there is room, nothing else moves, and the areas stay exact."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.legend import NODATA
from aerialseg.vector import smooth as smoothing
from aerialseg.vector.arcs import Arcs
from aerialseg.vector.corners import REACH_PX
from aerialseg.vector.layers import make_lines
from aerialseg.vector.polygons import make_polygons
from aerialseg.vector.smooth import find_round, smoothed
from tests.vector.drawn import ADVERSARIES, PIXEL_GRID, assert_tiles, blobs, noise, polygons_of, rasters, shapes_of


def chaikin(points: np.ndarray, steps: int) -> np.ndarray:
    """Corner cutting of a closed line as the book has it: each edge is cut at a quarter and at three quarters."""
    for _ in range(steps):
        ahead = np.roll(points, -1, axis=0)
        points = np.stack([0.75 * points + 0.25 * ahead, 0.25 * points + 0.75 * ahead], axis=1).reshape(-1, 2)
    return points


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_island_becomes_what_chaikin_makes_of_it(steps: int) -> None:
    drawn = np.zeros((12, 14), np.uint8)
    drawn[3:9, 4:11] = 1
    made, _ = polygons_of(drawn, smooth=steps)
    corners = np.array([(4, 3), (11, 3), (11, 9), (4, 9)], float)
    assert shapely.equals(made[1], shapely.Polygon(chaikin(corners, steps)))
    assert shapely.get_num_coordinates(made[1]) == 4 * 2**steps + 1


def test_a_large_square_keeps_its_shape() -> None:
    """Rounding begins at most REACH_PX from a corner, however long the edges are."""
    drawn = np.zeros((300, 300), np.uint8)
    drawn[50:250, 50:250] = 1
    made, _ = polygons_of(drawn, smooth=2)
    corner = shapely.distance(made[1], shapely.Point(50, 50))
    assert 0 < corner <= REACH_PX / 2
    assert shapely.contains(made[1], shapely.box(50 + REACH_PX, 50, 250 - REACH_PX, 250))


@pytest.mark.parametrize("tolerance_px", [0, 1.5])
def test_no_line_moves_by_more_than_half_the_reach(tolerance_px: float) -> None:
    drawn = blobs(120, 120, seed=3)
    before, _ = polygons_of(drawn, tolerance_px)
    after, _ = polygons_of(drawn, tolerance_px, smooth=3)
    moved = shapely.hausdorff_distance(shapely.boundary(before), shapely.boundary(after))
    assert 0 < moved.max() <= REACH_PX / 2


@given(rasters(), st.sampled_from([0, 1.5]), st.integers(1, 3))
def test_areas_are_exactly_those_of_the_polygons(drawn: np.ndarray, tolerance_px: float, steps: int) -> None:
    shapes = shapes_of(drawn)
    lines = make_lines(shapes, tolerance_px, steps, PIXEL_GRID)
    areas = lines.double_areas(len(shapes.regions)) / 2
    made = [batch.polygons for batch in make_polygons(lines, shapes.rings, PIXEL_GRID)]
    assert areas.sum() == (drawn != NODATA).sum()
    assert np.allclose(areas, shapely.area(np.concatenate([np.array([], object), *made])), rtol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_slanted_borders_with_specks_tile_and_nothing_is_left_to_mend(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = blobs(150, 170, seed=seed, specks=0.03) if seed < 3 else noise(80, 80)
    for tolerance_px in (0, 1.5, 4.0):
        shapes = shapes_of(drawn)
        flat = make_lines(shapes, tolerance_px, 0, PIXEL_GRID)
        lines = smoothed(flat, shapes.rings, PIXEL_GRID, 2)
        assert np.array_equal(lines.rounded, find_round(flat))  # or polygons were wrong, and corners given up
        assert_tiles(np.concatenate([b.polygons for b in make_polygons(lines, shapes.rings, PIXEL_GRID)]), drawn)


def test_polygons_find_and_mend_what_a_careless_rounding_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(arcs: Arcs, *, pool: object = None) -> np.ndarray:
        rounded = np.ones(len(arcs.vertices), np.uint8)
        rounded[arcs.offsets[:-1]] = rounded[arcs.offsets[1:] - 1] = 0
        rounded[np.repeat((arcs.left < 0) | (arcs.right < 0), np.diff(arcs.offsets))] = 0
        return rounded

    drawn = ADVERSARIES["islands beside a border"]
    monkeypatch.setattr(smoothing, "find_round", careless)
    made, _ = polygons_of(drawn, 3.0, smooth=2)
    assert_tiles(made, drawn)


def test_the_outline_of_the_valid_area_is_kept_as_it_is() -> None:
    drawn = blobs(80, 90)
    exact = shapely.union_all(polygons_of(np.where(drawn == NODATA, drawn, 1))[0])
    for tolerance_px in (0, 3.0):
        made, _ = polygons_of(drawn, tolerance_px, smooth=2)
        assert shapely.equals(shapely.coverage_union_all(made), exact)


def test_most_corners_are_rounded() -> None:
    shapes = shapes_of(blobs(200, 200, specks=0.0))
    flat = make_lines(shapes, 1.5, 0, PIXEL_GRID)
    inner = (flat.left >= 0) & (flat.right >= 0)
    corners = (np.diff(flat.offsets) - 2)[inner].sum()
    assert find_round(flat).sum() > 0.9 * corners > 100


def test_no_smoothing_is_the_exact_lattice() -> None:
    drawn = blobs(60, 70)
    made, _ = polygons_of(drawn, smooth=0)
    points = shapely.get_coordinates(made)
    assert np.array_equal(points, np.round(points))

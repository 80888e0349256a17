"""What keeps simplified lines from changing sides, and that it is needed."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from aerialseg.vector import simplify as simplifying
from aerialseg.vector.arcs import Arcs
from aerialseg.vector.layers import Shapes
from aerialseg.vector.polygons import make_polygons, settle_polygons
from aerialseg.vector.simplify import douglas_peucker, grid, refine, simplify
from tests.vector.drawn import ADVERSARIES, PIXEL_GRID, assert_tiles, blobs, noise, shapes_of


def unchecked(arcs: Arcs, tolerance_px: float) -> np.ndarray:
    """Douglas-Peucker alone."""
    keep = np.zeros(len(arcs.vertices), np.uint8)
    douglas_peucker(arcs.vertices, arcs.offsets, (arcs.left < 0) | (arcs.right < 0), 0, len(arcs), tolerance_px, keep)
    return keep


def polygons(shapes: Shapes, arcs: Arcs) -> np.ndarray:
    return np.concatenate([batch.polygons for batch in make_polygons(arcs, shapes.rings, PIXEL_GRID)])


@pytest.mark.parametrize("name", ["islands beside a border", "blobs", "noise", "concentric rings, one pixel"])
def test_without_the_check_polygons_do_not_tile(name: str) -> None:
    shapes = shapes_of(ADVERSARIES[name])
    made = polygons(shapes, shapes.arcs.only(unchecked(shapes.arcs, 3.0)))
    assert not (shapely.is_valid(made).all() and shapely.coverage_is_valid(made))


@pytest.mark.parametrize("name", ["islands beside a border", "blobs", "noise", "checkerboard", "concentric rings"])
def test_polygons_alone_find_and_mend_what_is_wrong(name: str) -> None:
    """The second line of defence: valid polygons, whatever the lines were to begin with."""
    shapes = shapes_of(ADVERSARIES[name])
    keep = unchecked(shapes.arcs, 5.0)
    assert_tiles(polygons(shapes, settle_polygons(shapes.arcs, keep, shapes.rings, PIXEL_GRID)), ADVERSARIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("tolerance_px", [1.0, 1.5, 3.0, 10.0])
@pytest.mark.parametrize("seed", range(8))
def test_the_check_on_lines_leaves_nothing_to_mend(
    tolerance_px: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So large polygons are never refined as a whole."""
    drawn = blobs(120, 130, seed=seed, specks=0.03) if seed < 5 else noise(60, 60, seed=seed)
    shapes = shapes_of(drawn)
    keep = simplify(shapes.arcs, tolerance_px)
    before = keep.copy()
    settle_polygons(shapes.arcs, keep, shapes.rings, PIXEL_GRID)
    assert np.array_equal(keep, before)


def test_refining_ends_at_the_lattice() -> None:
    arcs = shapes_of(blobs(60, 60)).arcs
    keep = unchecked(arcs, 20.0)
    for _ in range(12):
        refine(arcs, keep, np.arange(len(arcs)))
    assert keep.all()


def test_a_single_pixel_stays_a_square() -> None:
    drawn = np.zeros((5, 5), np.uint8)
    drawn[2, 2] = 1
    shapes = shapes_of(drawn)
    made = polygons(shapes, shapes.arcs.only(simplify(shapes.arcs, 1.5)))
    assert shapely.area(made).tolist() == [24, 1]


def test_a_slanted_border_becomes_a_straight_line() -> None:
    row, col = np.mgrid[:100, :100]
    shapes = shapes_of((col > row / 2 + 10).astype(np.uint8))
    made = polygons(shapes, shapes.arcs.only(simplify(shapes.arcs, 1.5)))
    assert shapely.get_num_coordinates(made).max() <= 8


def test_a_long_staircase_takes_no_quadratic_time() -> None:
    steps = np.arange(200_000)
    vertices = np.column_stack([(steps + 1) // 2, steps // 2]).astype(np.int32)
    arcs = Arcs(vertices, np.array([0, len(steps)]), np.array([0], np.int32), np.array([1], np.int32))
    keep = np.zeros(len(steps), np.uint8)
    douglas_peucker(arcs.vertices, arcs.offsets, np.array([False]), 0, 1, 0.4, keep)
    assert keep.sum() > 100_000


def test_the_grid_of_a_few_vertices_reaches_as_far_as_all_do() -> None:
    """Sections far from those vertices are looked up in it too: beyond the grid lies other memory."""
    vertices = np.array([(0, 0), (10, 20), (900, 40), (30, 700)], np.uint16)
    size, columns, starts, members = grid(vertices, np.array([0, 1]))
    assert len(starts) > 900 // size * columns + 700 // size + 1
    assert sorted(members.tolist()) == [0, 1]


def test_the_grid_misses_no_vertex(monkeypatch: pytest.MonkeyPatch) -> None:
    arcs = shapes_of(blobs(140, 100, specks=0.05)).arcs
    fine = simplify(arcs, 2.0)

    def one_cell(vertices: np.ndarray, which: np.ndarray) -> tuple[int, int, np.ndarray, np.ndarray]:
        return 1000, 1, np.array([0, len(which)]), which

    monkeypatch.setattr(simplifying, "grid", one_cell)
    assert np.array_equal(fine, simplify(arcs, 2.0))


def test_the_grid_reaches_as_far_as_all_vertices_and_not_only_those_sorted_into_it() -> None:
    """Sections are looked up in it that go beyond the vertices that count: a smaller grid was read out of bounds."""
    vertices = np.array([[0, 0], [3, 5], [900, 40], [12, 700]], np.int16)
    size, columns, starts, members = grid(vertices, np.array([0, 1]))
    row, col = vertices.max(axis=0) // size
    assert col < columns
    assert row * columns + col + 1 < len(starts)
    assert sorted(members) == [0, 1]

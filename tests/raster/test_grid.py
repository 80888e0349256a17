"""Boxes and grids: pure arithmetic, so the properties are stated over all sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.raster.grid import Box, Grid

sizes = st.integers(1, 400)
boxes = st.builds(
    lambda top, left, height, width: Box(top, left, top + height, left + width),
    st.integers(-200, 200),
    st.integers(-200, 200),
    st.integers(0, 300),
    st.integers(0, 300),
)
grids = st.builds(
    lambda height, width, blocks, halos, stride: Grid(height, width, blocks * stride, halos * stride, stride),
    sizes,
    sizes,
    st.integers(1, 6),
    st.integers(0, 6),
    st.sampled_from([16, 32]),
)


@given(boxes, boxes)
def test_intersection_is_what_both_cover(one: Box, other: Box) -> None:
    both = one & other
    expected = {
        (row, col)
        for row in range(max(one.top, other.top), min(one.bottom, other.bottom))
        for col in (max(one.left, other.left), min(one.right, other.right) - 1)
        if max(one.left, other.left) < min(one.right, other.right)
    }
    assert bool(both) == bool(expected)
    if both:
        assert both in one
        assert both in other
        assert both.area == (min(one.bottom, other.bottom) - both.top) * (min(one.right, other.right) - both.left)


@given(boxes, st.integers(1, 64))
def test_aligning_gives_the_smallest_box_on_the_lattice(box: Box, step: int) -> None:
    aligned = box.align(step)
    assert box in aligned
    assert not any(edge % step for edge in (aligned.top, aligned.left, aligned.bottom, aligned.right))
    assert box.top - aligned.top < step
    assert aligned.right - box.right < step
    assert aligned.scale_down(step).height * step == aligned.height


@given(grids)
def test_cores_cover_every_pixel_exactly_once(grid: Grid) -> None:
    assert sum(core.area for core in grid) == grid.raster.area
    assert all(core and core in grid.raster for core in grid)
    rows = {(core.top, core.bottom) for core in grid}
    assert sorted(top for top, _ in rows)[1:] == sorted(bottom for _, bottom in rows)[:-1]


@given(grids)
def test_windows_start_on_the_lattice_and_are_never_pulled_back(grid: Grid) -> None:
    for core in grid:
        window = grid.window(core)
        assert core in window
        assert window in grid.canvas
        assert window == window.align(grid.stride)
        for near, far, edge in (
            (core.top - window.top, grid.halo, window.top == 0),
            (core.left - window.left, grid.halo, window.left == 0),
            (window.bottom - core.bottom, grid.halo, window.bottom == grid.canvas.bottom),
            (window.right - core.right, grid.halo, window.right == grid.canvas.right),
        ):
            assert near >= far or edge


@pytest.mark.parametrize(("block", "halo"), [(33, 0), (32, 16), (0, 0)])
def test_blocks_and_halos_off_the_lattice_are_refused(block: int, halo: int) -> None:
    with pytest.raises(ValueError, match=r"multiple of the stride|wanted"):
        Grid(100, 100, block, halo)


def test_a_box_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it starts"):
        Box(5, 0, 4, 1)


def test_scaling_down_needs_the_lattice() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        Box(0, 1, 32, 64).scale_down(32)

"""The minimum mapping unit: nothing too small is left that has a neighbour, and nothing depends on the cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.legend import NODATA
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.layers import find_shapes
from tests.vector.drawn import ADVERSARIES, LEGEND, islands, noise, polygons_of, rasters, write


def labelled(classes: np.ndarray) -> np.ndarray:
    """4-connected regions by flooding, numbered by first pixel; the plainest way there is."""
    labels = np.full(classes.shape, -1)
    count = 0
    for start in zip(*np.nonzero(classes != NODATA), strict=True):
        if labels[start] >= 0:
            continue
        todo = [start]
        labels[start] = count
        while todo:
            row, col = todo.pop()
            for near in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                inside = 0 <= near[0] < classes.shape[0] and 0 <= near[1] < classes.shape[1]
                if inside and labels[near] < 0 and classes[near] == classes[start]:
                    labels[near] = count
                    todo.append(near)
        count += 1
    return labels


def shared_edges(labels: np.ndarray, one: int) -> dict[int, int]:
    edges: dict[int, int] = {}
    for a, b in ((labels[:-1], labels[1:]), (labels[:, :-1], labels[:, 1:])):
        for here, there in ((a, b), (b, a)):
            for other in there[(here == one) & (there != one) & (there >= 0)].tolist():
                edges[other] = edges.get(other, 0) + 1
    return edges


def merged_by_hand(classes: np.ndarray, min_pixels: int) -> np.ndarray:
    """The rule as it is written: one merger at a time, everything found anew from the pixels after each."""
    classes = classes.copy()
    while True:
        labels = labelled(classes)
        pixels = np.bincount(labels[labels >= 0]) if (labels >= 0).any() else np.zeros(0, int)
        small = sorted((int(n), one) for one, n in enumerate(pixels) if n < min_pixels and shared_edges(labels, one))
        if not small:
            return classes
        one = small[0][1]
        target = max(shared_edges(labels, one).items(), key=lambda pair: (pair[1], pixels[pair[0]], -pair[0]))[0]
        classes[labels == one] = classes[labels == target][0]


def merged(folder, classes: np.ndarray, min_pixels: int, strip_rows: int = 1024) -> np.ndarray:  # type: ignore[no-untyped-def]
    raster = ClassRaster(write(folder / "classes.tif", classes), strip_rows=strip_rows)
    shapes = find_shapes(raster, LEGEND, min_pixels)
    table = np.append(shapes.regions.classes, np.uint16(NODATA))
    return np.concatenate([table[shapes.regions.label(strip)] for strip in raster])


@given(rasters(9), st.integers(0, 30))
def test_merging_follows_the_rule_pixel_by_pixel(tmp_path_factory, drawn: np.ndarray, min_pixels: int) -> None:  # type: ignore[no-untyped-def]
    result = merged(tmp_path_factory.mktemp("merge"), drawn, min_pixels)
    assert np.array_equal(result, merged_by_hand(drawn, min_pixels))


@given(rasters(), st.integers(2, 60), st.integers(1, 20))
def test_nothing_too_small_is_left_unless_it_is_alone(
    tmp_path_factory,
    drawn: np.ndarray,
    min_pixels: int,
    strip_rows: int,  # type: ignore[no-untyped-def]
) -> None:
    result = merged(tmp_path_factory.mktemp("merge"), drawn, min_pixels, strip_rows)
    labels = labelled(result)
    assert np.array_equal(result == NODATA, drawn == NODATA)
    for one, pixels in enumerate(np.bincount(labels[labels >= 0]).tolist() if (labels >= 0).any() else []):
        assert pixels >= min_pixels or not shared_edges(labels, one)


@pytest.mark.slow
@given(rasters(), st.integers(2, 30))
def test_polygons_after_merging_are_the_regions_of_the_merged_raster(
    tmp_path_factory,
    drawn: np.ndarray,
    min_pixels: int,  # type: ignore[no-untyped-def]
) -> None:
    """So no two polygons of one class share an edge."""
    result = merged(tmp_path_factory.mktemp("merge"), drawn, min_pixels)
    ours, _ = polygons_of(drawn, min_pixels=min_pixels)
    anew, _ = polygons_of(result)
    assert [one.wkb for one in ours] == [one.wkb for one in anew]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ADVERSARIES))
def test_adversaries_merge_by_the_rule(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = ADVERSARIES[name][:25, :25]
    assert np.array_equal(merged(tmp_path, drawn, 5), merged_by_hand(drawn, 5))


def test_the_longest_edge_decides_then_the_area_then_the_first_pixel(tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = np.array([[0, 0, 0, 0], [1, 3, 2, 2], [1, 1, 2, 2]], np.uint8)
    assert merged(tmp_path, drawn, 2)[1, 1] == 1  # 1: two edges; 0 and 2: one each
    drawn = np.array([[0, 0, 0, 0, 0], [1, 1, 3, 2, 2], [255, 255, 255, 255, 255]], np.uint8)
    assert merged(tmp_path, drawn, 2)[1, 2] == 0  # one edge each: 0 is the largest
    for first, last in ((1, 2), (2, 1)):
        drawn = np.array([[first, first, 3, last, last]], np.uint8)
        assert merged(tmp_path, drawn, 2)[0, 2] == first  # one edge and two pixels each


def test_a_region_without_neighbour_stays(tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = np.full((5, 5), NODATA, np.uint8)
    drawn[2, 2] = 4
    assert np.array_equal(merged(tmp_path, drawn, 100), drawn)


def test_a_minimum_larger_than_the_raster_leaves_one_region(tmp_path) -> None:  # type: ignore[no-untyped-def]
    drawn = noise(30, 30, nodata=0)
    assert len(np.unique(merged(tmp_path, drawn, 10**9))) == 1


def test_islands_vanish_into_what_surrounds_them(tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert (merged(tmp_path, islands(400), 2) == 0).all()

"""`GeoGrid`: where pixels lie, on grids of any kind, and back again."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict

import numpy as np
import pyproj
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from aerialseg.raster.georef import GeoGrid, Transform, lonlat_outline
from aerialseg.raster.grid import Box

UTM = pyproj.CRS.from_epsg(32633).to_wkt()
TRANSFORMS: dict[str, Transform] = {
    "north-up": (2.0, 0.0, 100.0, 0.0, -2.0, 50.0),
    "south-up": (2.0, 0.0, 100.0, 0.0, 2.0, 50.0),
    "rotated": (0.8, 0.6, 100.0, 0.6, -0.8, 50.0),
    "sheared": (2.0, 0.5, 100.0, 0.0, -1.0, 50.0),
    "a quarter turned": (0.0, 2.0, 100.0, 1.0, 0.0, 50.0),
}
NORTH_UP, SOUTH_UP, ROTATED, SHEARED, TURNED = (GeoGrid(3, 4, numbers, UTM) for numbers in TRANSFORMS.values())

whole = st.integers(-1000, 1000)
scale = st.floats(0.01, 100)
grids = st.builds(
    lambda shape, place, sizes, angles, crs: GeoGrid(
        *shape,
        tuple(Affine.translation(*place) @ Affine.rotation(angles[0]) @ Affine.shear(angles[1]) @ Affine.scale(*sizes))[
            :6
        ],  # type: ignore[arg-type]
        crs,
    ),
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    st.tuples(scale, scale.map(lambda size: -size)) | st.tuples(scale, scale),
    st.tuples(st.floats(0, 360), st.floats(-45, 45)),
    st.sampled_from(["EPSG:32633", None]),
)
boxes = st.builds(
    lambda top, left, height, width: Box(top, left, top + height, left + width),
    whole,
    whole,
    st.integers(1, 500),
    st.integers(1, 500),
)


def close(one: object, other: object, geo: GeoGrid) -> bool:
    """To a millionth of a pixel."""
    return bool(np.allclose(one, other, rtol=1e-12, atol=1e-6 * min(geo.resolution)))  # type: ignore[arg-type]


def test_corners_and_centres_of_pixels_lie_where_one_sees_them() -> None:
    assert NORTH_UP.at(0, 0) == (100, 50)
    assert NORTH_UP.at(3 + 0.5, 2 + 0.5) == (107, 45)  # the last pixel's centre
    assert SOUTH_UP.at(3 + 0.5, 2 + 0.5) == (107, 55)
    assert SHEARED.at(1, 2) == (103, 48)
    assert TURNED.at(1, 2) == (104, 51)


def test_an_array_of_places_is_each_place() -> None:
    cols, rows = np.arange(4.0), np.arange(4.0)[::-1].copy()
    found = np.transpose(ROTATED.at(cols, rows)).tolist()
    assert found == [list(ROTATED.at(col, row)) for col, row in zip(cols.tolist(), rows.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("geo", "bounds", "resolution", "determinant"),
    [
        (NORTH_UP, (100, 44, 108, 50), (2, 2), -4),
        (SOUTH_UP, (100, 50, 108, 56), (2, 2), 4),
        (ROTATED, (100, 47.6, 105, 52.4), (1, 1), -1),
        (SHEARED, (100, 47, 109.5, 50), (2, np.hypot(0.5, 1)), -2),
        (TURNED, (100, 50, 106, 54), (1, 2), -2),
    ],
    ids=TRANSFORMS,
)
def test_bounds_and_sizes_of_grids_of_each_kind(
    geo: GeoGrid, bounds: tuple[float, ...], resolution: tuple[float, float], determinant: float
) -> None:
    assert geo.bounds == pytest.approx(bounds)
    assert geo.resolution == pytest.approx(resolution)
    assert geo.determinant == pytest.approx(determinant)
    left, bottom, right, top = bounds
    assert geo.span(*geo.shape) == pytest.approx((right - left, top - bottom))
    assert abs(geo.determinant) * 12 == pytest.approx(Polygon(geo.corners).area)


@given(grids, st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_to_pixels_undoes_at(geo: GeoGrid, col: float, row: float) -> None:
    assert geo.to_pixels(*geo.at(col, row)) == pytest.approx((col, row), rel=1e-6, abs=1e-4)


@given(grids)
def test_bounds_hold_the_corners_and_touch_them_on_all_sides(geo: GeoGrid) -> None:
    xs, ys = geo.at(*np.array([(0, 0), (geo.width, 0), (geo.width, geo.height), (0, geo.height)], float).T)
    assert geo.bounds == (xs.min(), ys.min(), xs.max(), ys.max())


@given(grids, boxes, boxes)
def test_a_part_of_a_part_is_a_part(geo: GeoGrid, outer: Box, inner: Box) -> None:
    found, wanted = geo.part(outer).part(inner.relative_to(outer)), geo.part(inner)
    assert (found.shape, found.crs) == (inner.shape, geo.crs) == (wanted.shape, wanted.crs)
    assert close(found.transform, wanted.transform, geo)


@given(grids, boxes)
def test_a_pixel_of_a_part_lies_where_it_did(geo: GeoGrid, box: Box) -> None:
    assert geo.part(Box(0, 0, *geo.shape)) == geo
    assert close(geo.part(box).at(2.5, 7.5), geo.at(box.left + 2.5, box.top + 7.5), geo)


@given(grids, boxes)
def test_a_part_is_of_the_same_lattice_at_its_offset(geo: GeoGrid, box: Box) -> None:
    assert geo.offset_of(geo.part(box)) == (box.top, box.left)


@pytest.mark.parametrize(
    "other",
    [
        (2.001, 0.0, 100.0, 0.0, -2.0, 50.0),
        (2.0, 0.0, 100.8, 0.0, -2.0, 50.0),
        (2.0, 0.01, 100.0, 0.0, -2.0, 50.0),
        (0.0, 2.0, 100.0, -2.0, 0.0, 50.0),
    ],
    ids=["larger pixels", "between pixels", "sheared", "transposed"],
)
def test_other_pixels_are_not_of_the_lattice(other: Transform) -> None:
    square = GeoGrid(40, 40, TRANSFORMS["north-up"], None)
    assert square.offset_of(square) == (0, 0)
    assert square.offset_of(GeoGrid(40, 40, other, None)) is None


def test_the_same_numbers_in_another_crs_are_another_lattice() -> None:
    assert NORTH_UP.offset_of(GeoGrid(3, 4, NORTH_UP.transform, None)) is None


@pytest.mark.parametrize("geo", [NORTH_UP, TURNED])
def test_a_grid_travels_as_json_and_pickle(geo: GeoGrid) -> None:
    values = json.loads(json.dumps(asdict(geo)))
    assert GeoGrid(**{**values, "transform": tuple(values["transform"])}) == geo
    assert pickle.loads(pickle.dumps(geo)) == geo


@pytest.mark.parametrize(
    ("crs", "transform", "expected"),
    [
        ("EPSG:32633", (0.05, 0, 500000, 0, -0.05, 5e6), (0.05002, 0.05002)),
        ("EPSG:4326", (1e-6, 0, 10, 0, -1e-6, 60), (0.0558, 0.1114)),
        ("EPSG:3857", (0.1, 0, 1113194.9, 0, -0.1, 8399737.9), (0.05, 0.05)),  # 60 degrees north: half
        ("EPSG:2263", (1, 0, 983000, 0, -1, 200000), (0.3048, 0.3048)),  # US survey feet
        ("EPSG:32633", (0, 0.2, 500000, 0.1, 0, 5e6), (0.1, 0.2)),  # columns run north, rows east
        ('LOCAL_CS["site",UNIT["foot",0.3048]]', (0.5, 0, 0, 0, -0.5, 0), (0.1524, 0.1524)),
    ],
)
def test_pixel_size_is_measured_on_the_ground(crs: str, transform: Transform, expected: tuple[float, float]) -> None:
    assert GeoGrid(10, 10, transform, crs).pixel_size_m == pytest.approx(expected, rel=3e-3)


@pytest.mark.slow
@pytest.mark.parametrize("crs", ["no wkt", None])
def test_without_a_known_place_a_pixel_has_no_size_in_metres_and_the_raster_no_outline(crs: str | None) -> None:
    nowhere = GeoGrid(10, 10, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), crs)
    assert nowhere.pixel_size_m is None
    assert lonlat_outline(nowhere) is None


def test_the_outline_runs_around_the_raster() -> None:
    outline = GeoGrid(16, 8, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None).outline()
    assert outline[:9] == [(0, -row) for row in range(0, 17, 2)]
    assert outline[9:] == [
        *((col, -16) for col in range(1, 9)),
        *((8, -row) for row in range(14, -1, -2)),
        *((col, 0) for col in range(7, 0, -1)),
    ]


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
def test_an_outline_is_a_closed_ring_that_turns_left_whatever_the_raster_does(transform: Transform) -> None:
    a, b, _, d, e, _ = transform
    ring = lonlat_outline(GeoGrid(700, 300, (a, b, 500_000.0, d, e, 5_000_000.0), UTM))
    assert ring is not None
    assert ring[0] == ring[-1]
    assert len(set(ring)) == 32
    assert Polygon(ring).is_valid
    assert Polygon(ring).exterior.is_ccw
    assert Polygon(ring).centroid.distance(Point(15.0, 45.153)) < 0.02

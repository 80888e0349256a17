"""Tiles of one grid find each other, wherever the grid lies and however it is turned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.errors import InputError, UsageError
from aerialseg.raster.georef import GeoGrid, Transform
from aerialseg.raster.grid import Box
from aerialseg.raster.mosaic import SourceTile, patchworks, read_tile
from tests.conftest import WriteRaster

offsets = st.lists(st.tuples(st.integers(-5000, 5000), st.integers(-5000, 5000)), min_size=1, max_size=6)
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
TRANSFORMS: list[Transform] = [
    (0.1, 0.0, 500_000.0, 0.0, -0.1, 5_000_000.0),
    (0.03512345, 0.0, 412_345.678, 0.0, -0.03512345, 5_412_345.678),
    (0.08, 0.06, 500_000.0, 0.06, -0.08, 5_000_000.0),
    (0.05, 0.0, 500_000.0, 0.0, 0.05, 5_000_000.0),
    (1e-6, 0.0, 13.7, 0.0, -1e-6, 51.05),
]


def tile(transform: Transform, row: int, col: int, size: tuple[int, int], crs: str | None = None) -> SourceTile:
    geo = GeoGrid(1, 1, transform, crs).part(Box(row, col, row + size[0], col + size[1]))
    return SourceTile(Path(f"{row}_{col}.tif"), geo)


@pytest.mark.parametrize("transform", TRANSFORMS)
@given(places=offsets, size=sizes)
def test_tiles_of_one_grid_keep_their_offsets(
    transform: Transform, places: list[tuple[int, int]], size: tuple[int, int]
) -> None:
    [found] = patchworks([tile(transform, row, col, size) for row, col in places])
    top, left = min(row for row, _ in places), min(col for _, col in places)
    assert [(box.top + top, box.left + left) for _, box in found.tiles] == places
    assert all(box.shape == size for _, box in found.tiles)
    assert found.geo.shape == (
        max(row for row, _ in places) - top + size[0],
        max(col for _, col in places) - left + size[1],
    )
    first = tile(transform, top, left, size).geo.transform
    assert np.allclose(found.geo.transform, first, rtol=0, atol=1e-3 * max(abs(value) for value in transform[:2]))


def test_another_pixel_size_place_or_system_is_another_grid() -> None:
    a, b, c, d, e, f = TRANSFORMS[0]
    others = [(a * 1.001, b, c, d, e, f), (a, b, c + 0.4 * a, d, e, f), (a, 0.001, c, d, e, f)]
    tiles = [tile(transform, 0, 0, (100, 100)) for transform in (TRANSFORMS[0], *others)]
    tiles += [tile(TRANSFORMS[0], 0, 0, (100, 100), "EPSG:25832")]
    assert len(patchworks(tiles)) == 5


def test_tiles_too_far_apart_are_named() -> None:
    with pytest.raises(UsageError, match="spread over 2,000,010 x 10 px"):
        patchworks([tile(TRANSFORMS[0], 0, col, (10, 10)) for col in (0, 2_000_000)])


def test_what_is_no_class_raster_is_named(write_raster: WriteRaster) -> None:
    with pytest.raises(InputError, match="3 bands: wanted a class raster"):
        read_tile(write_raster(np.zeros((3, 8, 8), np.uint8)))
    with pytest.raises(InputError, match="holds uint16: wanted uint8"):
        read_tile(write_raster(np.zeros((1, 8, 8), np.uint16)))

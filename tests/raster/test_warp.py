"""Where working pixels lie on a raster of another coordinate system."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.warp import Warp

MOST_PX = 1e-4
"""0.1 mm at 1 m a pixel."""


@pytest.mark.parametrize(
    ("here", "there", "x", "y"),
    [("EPSG:25833", "EPSG:25832", 250_000.0, 5_500_000.0), ("EPSG:3035", "EPSG:25832", 4_500_000.0, 3_000_000.0)],
)
def test_positions_between_nodes_are_those_of_the_projection(here: str, there: str, x: float, y: float) -> None:
    lattice = GeoGrid(0, 0, (1.0, 0.0, x, 0.0, -1.0, y), here)
    source = GeoGrid(4000, 4000, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0), there)
    rows, cols = Warp(source, lattice).positions(Box(5, 7, 205, 257))
    down, right = np.mgrid[5:205, 7:257] + 0.5
    exact = pyproj.Transformer.from_crs(here, there, always_xy=True).transform(*lattice.at(right, down))
    wanted_cols, wanted_rows = source.to_pixels(*exact)
    assert np.abs(rows - wanted_rows).max() < MOST_PX
    assert np.abs(cols - wanted_cols).max() < MOST_PX

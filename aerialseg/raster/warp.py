"""Where working pixels lie on a raster of another coordinate system.

Each pixel is placed by itself, so it is the same in every window; GDAL's warper takes the width of its kernel from the
window that it is given. Positions are exact at every `NODE_PX`-th pixel of the lattice and linear in between: at 1 m a
pixel, projections bend by less than 0.1 mm on that length.
"""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from pyproj.transformer import TransformerGroup

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.bounds import name_of_crs
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.lattice import Layout

Floats = NDArray[np.float64]

NODE_PX = 32
EDGE_STEPS = 1024
"""Places along each edge of a raster that are looked up to find its box; fewer where it has fewer pixels."""
PHASE_STEPS = 1024
"""The lattice's origin is taken to 1/1024 of a pixel, so that what floats lose changes nothing."""
SAME_SIZE = 1.05
"""Pixels that differ by less than this are of one size: a sample for each is enough."""


@dataclass(frozen=True, slots=True)
class Warp:
    """source: the raster's own grid. lattice: that of the working grid, whose pixel (0, 0) is the lattice's origin.
    steps: samples along each axis that make up a working pixel."""

    source: GeoGrid
    lattice: GeoGrid
    steps: int = 1

    def content(self) -> list[Any]:
        """JSON-ready: what decides the pixels, beside the raster's own."""
        return [self.source.shape, self.source.transform, self.source.crs, self.lattice.transform, self.lattice.crs]

    def positions(self, box: Box, down: float = 0.5, right: float = 0.5) -> tuple[Floats, Floats]:
        """(rows, columns), each (h, w), in pixels of the source, of the place so far down and right in each working
        pixel of a box that counts from the lattice's origin; not finite where the source's CRS has no such place."""
        rows, row_nodes = _nodes(box.top + down, box.height)
        cols, col_nodes = _nodes(box.left + right, box.width)
        x, y = self.lattice.at(*np.meshgrid(col_nodes, row_nodes))
        found = _transformer(self.lattice.crs, self.source.crs).transform(x, y)
        col, row = self.source.to_pixels(*found)
        return _between(row, rows, cols), _between(col, rows, cols)


def warp_onto(layout: Layout, source: GeoGrid, name: str) -> tuple[Warp, Box]:
    """How the raster of that name is read on the working grid, and its box there. Raises InputError."""
    warp = Warp(source, _lattice_of(layout))
    box = _box_on(warp, name)
    row, col = box.top + box.height // 2, box.left + box.width // 2
    rows, cols = warp.positions(Box(row, col, row + 2, col + 2))
    times = max(math.hypot(*(ends[place] - ends[0, 0] for ends in (rows, cols))) for place in ((0, 1), (1, 0)))
    return Warp(source, warp.lattice, max(1, math.ceil(times / SAME_SIZE))), box


def missing_grid(source: str | None, target: str | None) -> str:
    """A note where the best way between two CRSs needs a file that is not installed; else empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it is so
        group = TransformerGroup(_flat(source), _flat(target), always_xy=True, allow_ballpark=False)
    if group.best_available or not group.unavailable_operations:
        return ""
    name = next(iter(group.unavailable_operations[0].grids)).short_name
    off_m = group.transformers[0].accuracy if group.transformers else 0
    how_far = f"up to {off_m:g} m" if off_m > 0 else "some metres"
    return (
        f"{name_of_crs(source)} may lie {how_far} off: a better shift needs PROJ's grid {name} (projsync --file {name})"
    )


def check_way(name: str, source: GeoGrid, target: str | None) -> None:
    """Raise InputError where nobody knows where the raster of that name lies in the other CRS."""
    with suppress(ProjError):
        xs, ys = zip(*source.corners, strict=True)
        x, y = _transformer(source.crs, target).transform(xs, ys)
        if np.isfinite(x).all() and np.isfinite(y).all():
            return
    raise InputError(
        f"{printable(name)} is in {name_of_crs(source.crs)}, and no way is known from there to the coordinate system "
        f"of most ({name_of_crs(target)}): leave it out, or map it in a run of its own"
    )


def _lattice_of(layout: Layout) -> GeoGrid:
    (a, _), (_, e) = layout.geo.linear
    x, y = layout.geo.at(0.0, 0.0)
    col, row = (
        round((place - count) * PHASE_STEPS) / PHASE_STEPS
        for place, count in ((x / a, layout.box.left), (y / e, layout.box.top))
    )
    return GeoGrid(0, 0, (a, 0.0, col * a, 0.0, e, row * e), layout.geo.crs)


def _box_on(warp: Warp, name: str) -> Box:
    """The working pixels whose centres the raster's edges enclose, counted from the lattice's origin."""
    height, width = warp.source.shape
    down = np.linspace(0, height, min(height, EDGE_STEPS) + 1)
    along = np.linspace(0, width, min(width, EDGE_STEPS) + 1)
    rows = np.concatenate([down, down, 0 * along, 0 * along + height])
    cols = np.concatenate([0 * down, 0 * down + width, along, along])
    x, y = _transformer(warp.source.crs, warp.lattice.crs).transform(*warp.source.at(cols, rows))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError(
            f"{printable(name)} ({name_of_crs(warp.source.crs)}) lies partly beyond the world of "
            f"{name_of_crs(warp.lattice.crs)}: leave it out, or map it in a run of its own"
        )
    col, row = warp.lattice.to_pixels(x, y)
    top, left = math.ceil(row.min() - 0.5), math.ceil(col.min() - 0.5)
    return Box(top, left, max(top, math.ceil(row.max() - 0.5)), max(left, math.ceil(col.max() - 0.5)))


def _nodes(first: float, count: int) -> tuple[tuple[NDArray[np.int64], Floats], Floats]:
    """Of ``count`` places a pixel apart: the node before each, counted from the first one, and how far on it lies;
    and the nodes."""
    steps = (first + np.arange(count)) / NODE_PX
    whole = np.floor(steps)
    nodes = np.arange(whole[0], whole[-1] + 2) * NODE_PX
    return ((whole - whole[0]).astype(np.int64), steps - whole), nodes


def _between(nodes: Floats, rows: tuple[NDArray[np.int64], Floats], cols: tuple[NDArray[np.int64], Floats]) -> Floats:
    (top, down), (left, right) = rows, cols
    lines = nodes[top] * (1 - down)[:, None] + nodes[top + 1] * down[:, None]
    found: Floats = lines[:, left] * (1 - right) + lines[:, left + 1] * right
    return found


@lru_cache(maxsize=64)
def _transformer(source: str | None, target: str | None) -> pyproj.Transformer:
    return pyproj.Transformer.from_crs(_flat(source), _flat(target), always_xy=True, allow_ballpark=False)


def _flat(crs: str | None) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(crs).to_2d()

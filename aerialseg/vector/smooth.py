"""Smooth arcs: corners are rounded where nothing is in the way, each once, so that both neighbours get the same line.

A rounded corner (corners.py) stays in the triangle of its vertex and the two points where rounding begins. No other
vertex lies in that triangle, or the corner stays as it is. So no two lines cross: an edge that entered the triangle of
another corner could not leave it again across the edges of that corner, which it does not cross, nor by the one side
that it came in, so it would end in it; and of two triangles that overlap one holds a vertex of the other. What this
should miss, polygons.py finds.

Arcs beside nodata or the outside are not rounded, nor are nodes: the outline of the valid area stays as it is.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aerialseg.executor import TaskPool, single_thread
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.kernel import kernel
from aerialseg.vector.arcs import Arcs, point_keys
from aerialseg.vector.corners import edges
from aerialseg.vector.polygons import find_wrong
from aerialseg.vector.regions import Corners, Int64s
from aerialseg.vector.rings import Rings
from aerialseg.vector.simplify import grid

logger = logging.getLogger(__name__)

MAX_STEPS = 3
"""Eight vertices for a corner of at most 4 pixels: more could not be seen."""


def smoothed(arcs: Arcs, rings: Rings, geo: GeoGrid, steps: int, *, pool: TaskPool | None = None) -> Arcs:
    """The arcs with rounded corners, fewer of them if that is what it takes until all polygons are valid."""
    rounded = find_round(arcs, pool=pool)
    lines = replace(arcs, rounded=rounded, steps=steps)
    wrong = find_wrong(lines, rings, geo, pool=pool)
    while len(wrong):
        bad = np.isin(arcs.left, wrong) | np.isin(arcs.right, wrong)
        logger.info("%d polygons were not valid: %d arcs stay as they were", len(wrong), int(bad.sum()))
        had = rounded.any()
        rounded[np.repeat(bad, np.diff(arcs.offsets))] = 0
        if not had:
            raise AssertionError(f"polygon {wrong[0]} is not valid: this is a bug in aerialseg, please report it")
        touched = np.unique(np.concatenate([wrong, arcs.left[bad], arcs.right[bad]]))
        wrong = find_wrong(lines, rings, geo, touched[touched >= 0], pool=pool)
    return lines


def find_round(arcs: Arcs, *, pool: TaskPool | None = None) -> NDArray[np.uint8]:
    """Which vertices can be rounded (not 0): corners with nothing in their triangle."""
    rounded = np.zeros(len(arcs.vertices), np.uint8)
    if not len(arcs):
        return rounded
    fixed = (arcs.left < 0) | (arcs.right < 0)
    islands = _islands(arcs)
    cells = grid(arcs.vertices, np.arange(len(arcs.vertices)))

    def part(start: int, stop: int) -> None:
        mark_round(arcs.vertices, arcs.offsets, fixed, islands, start, stop, *cells, rounded)

    single_thread(pool).ranges(part, arcs.offsets)
    return rounded


def _islands(arcs: Arcs) -> NDArray[np.bool_]:
    """Closed arcs that meet no other one: their start is a vertex like the others."""
    start = point_keys(arcs.vertices[arcs.offsets[:-1]])
    end = point_keys(arcs.vertices[arcs.offsets[1:] - 1])
    _, number, count = np.unique(np.concatenate([start, end]), return_inverse=True, return_counts=True)
    return (start == end) & (count[number[: len(start)]] == 2)


@kernel
def mark_round(
    vertices: Corners,
    offsets: Int64s,
    fixed: NDArray[np.bool_],
    islands: NDArray[np.bool_],
    start: int,
    stop: int,
    size: int,
    columns: int,
    starts: Int64s,
    members: Int64s,
    rounded: NDArray[np.uint8],
) -> None:
    for arc in range(start, stop):
        low, high = offsets[arc], offsets[arc + 1]
        if fixed[arc]:
            continue
        for v in range(low if islands[arc] else low + 1, high - 1):
            rounded[v] = free(vertices, low, high, v, size, columns, starts, members)
        if islands[arc]:
            rounded[high - 1] = rounded[low]


@kernel
def free(
    vertices: Corners, low: int, high: int, v: int, size: int, columns: int, starts: Int64s, members: Int64s
) -> bool:
    """Whether v is a corner with no vertex of the grid in its triangle, edges included."""
    r0, c0, r1, c1 = edges(vertices, low, high, v)
    area = c1 * r0 - c0 * r1
    if area == 0:
        return False
    sign = 1.0 if area > 0 else -1.0
    r, c = float(vertices[v, 0]), float(vertices[v, 1])
    top, bottom = min(r, r + r0, r + r1), max(r, r + r0, r + r1)
    first, last = min(c, c + c0, c + c1), max(c, c + c0, c + c1)
    for i in range(int(top) // size, int(bottom) // size + 1):
        for j in range(int(first) // size, int(last) // size + 1):
            for m in range(starts[i * columns + j], starts[i * columns + j + 1]):
                other_r, other_c = vertices[members[m], 0] - r, vertices[members[m], 1] - c
                ahead = sign * (other_c * r0 - c0 * other_r)  # along the two edges, times the area
                back = sign * (c1 * other_r - other_c * r1)
                if back >= 0 and ahead >= 0 and 0 < back + ahead <= sign * area:
                    return False
    return True

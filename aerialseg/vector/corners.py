"""Round corners: where a vertex of an arc is rounded, what is drawn instead of it.

From a point on the edge before the vertex v to a point on the edge after it runs the parabola that touches both
edges; it is drawn by ``2 ** steps`` vertices, those of Chaikin's corner cutting after so many steps. The two points lie
half an edge from v, or a quarter, an eighth, ... so that they are never more than REACH_PX from it: the corners of
large straight shapes stay corners, and no line moves by more than half of REACH_PX.

All coordinates are integers divided by powers of two, small enough to be exact as floats: both neighbours of an arc
draw the same vertices, in either direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.kernel import kernel
from aerialseg.vector.survey import Int64s

REACH_PX = 4.0

Vertices = NDArray[np.integer]


@kernel
def cut(dr: float, dc: float) -> float:
    """The share of the edge (dr, dc) from a vertex that rounding cuts off: 1/2, 1/4, 1/8, ..."""
    share = 0.5
    while share * share * (dr * dr + dc * dc) > REACH_PX * REACH_PX:
        share *= 0.5
    return share


@kernel
def edges(vertices: Vertices, low: int, high: int, v: int) -> tuple[float, float, float, float]:
    """What is cut off at v of the arc ``low`` to ``high - 1``: row, column from v backwards, row, column forwards."""
    before = v - 1 if v > low else high - 2
    after = v + 1 if v < high - 1 else low + 1
    r, c = float(vertices[v, 0]), float(vertices[v, 1])
    r0, c0 = vertices[before, 0] - r, vertices[before, 1] - c
    r1, c1 = vertices[after, 0] - r, vertices[after, 1] - c
    share0, share1 = cut(r0, c0), cut(r1, c1)
    return r0 * share0, c0 * share0, r1 * share1, c1 * share1


@kernel
def corner(vertices: Vertices, low: int, high: int, v: int, number: int, count: int) -> tuple[float, float]:
    """(row, column) of one of the ``count`` vertices that are drawn for the rounded vertex v."""
    r0, c0, r1, c1 = edges(vertices, low, high, v)
    back = (count - number) * (count - number - 1) / (count * count)
    ahead = number * (number + 1) / (count * count)
    return vertices[v, 0] + back * r0 + ahead * r1, vertices[v, 1] + back * c0 + ahead * c1


@kernel
def corner_sums(
    vertices: Vertices, offsets: Int64s, rounded: NDArray[np.uint8], steps: int, total: NDArray[np.float64]
) -> None:
    """What rounding adds to the cross products of each arc (join.cross_sums)."""
    count = 1 << steps
    share = 0.0  # of the triangle at the corner, that is cut off
    for number in range(count - 1):
        back = (count - number) * (count - number - 1) / count**2
        ahead = number * (number + 1) / count**2
        next_back = (count - number - 1) * (count - number - 2) / count**2
        next_ahead = (number + 1) * (number + 2) / count**2
        share += back * next_ahead - ahead * next_back
    for arc in range(len(total)):
        for v in range(offsets[arc], offsets[arc + 1] - 1):
            if rounded[v]:
                r0, c0, r1, c1 = edges(vertices, offsets[arc], offsets[arc + 1], v)
                total[arc] += share * (c1 * r0 - c0 * r1)

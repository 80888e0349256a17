"""Rings: each region's arcs, chained with the region on the left.

A half-arc is an arc in one direction: 2k is arc k forwards, 2k + 1 backwards. At a lattice point where a region touches
itself diagonally there are two ways to go on; turning right keeps the same outer neighbour on the right, so that shell
and hole are separate rings that touch in a point, as OGC validity wants (regions are 4-connected: the two pixels belong
together elsewhere, and the closed curve through them parts the two neighbours; no ring passes such a point twice).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.kernel import kernel
from aerialseg.vector.arcs import Arcs, directions, point_keys
from aerialseg.vector.regions import Int32s, Int64s


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings in the order of regions; of a region first the shell, then the holes by their first half-arc."""

    halves: Int32s
    """Half-arcs of all rings, each ring from its lowest half-arc on."""
    offsets: Int64s
    """Ring k has the half-arcs ``offsets[k]`` to ``offsets[k + 1] - 1``."""
    first: Int64s
    """Region r has the rings ``first[r]`` (its shell) to ``first[r + 1] - 1``."""

    def signed_double_areas(self, arcs: Arcs) -> NDArray[Any]:
        """Twice the area of each ring, in pixels: positive for shells, negative for holes, if none is turned over."""
        if not len(self.halves):
            return np.zeros(0, np.int64)
        cross = arcs.cross_sums()[self.halves >> 1]
        return np.add.reduceat(np.where(self.halves & 1, -cross, cross), self.offsets[:-1])

    def vertex_counts(self, arcs: Arcs) -> Int64s:
        """Vertices of each ring, the closing one included."""
        if not len(self.halves):
            return np.zeros(0, np.int64)
        return np.add.reduceat(arcs.counts()[self.halves >> 1] - 1, self.offsets[:-1]) + 1


def find_rings(arcs: Arcs, count: int) -> Rings:
    """The rings of the regions 0 to ``count - 1``, from their arcs on the lattice (not yet simplified)."""
    inside = np.empty(2 * len(arcs), np.int32)
    inside[0::2], inside[1::2] = arcs.left, arcs.right
    following = _following(arcs, inside)
    halves = np.empty(np.count_nonzero(inside >= 0), np.int32)
    offsets = np.zeros(len(halves) + 1, np.int64)
    number = walk(following, inside, halves, offsets)
    offsets = offsets[: number + 1].copy()
    rings = Rings(halves, offsets, np.zeros(0, np.int64))
    region = inside[halves[offsets[:-1]]]
    hole = rings.signed_double_areas(arcs) < 0
    if (np.bincount(region[~hole], minlength=count) != 1).any():
        raise AssertionError("a region without exactly one shell: this is a bug in aerialseg, please report it")
    order = np.lexsort([halves[offsets[:-1]], hole, region])
    return _in_order(rings, order, np.searchsorted(region[order], np.arange(count + 1)))


def _following(arcs: Arcs, inside: Int32s) -> Int32s:
    """The half-arc that comes after each one in its ring."""
    start, end = arcs.offsets[:-1], arcs.offsets[1:] - 1
    keys, leaving = np.empty(2 * len(arcs), np.int64), np.empty(2 * len(arcs), np.int8)
    keys[0::2], keys[1::2] = point_keys(arcs.vertices[start]), point_keys(arcs.vertices[end])
    leaving[0::2], leaving[1::2] = directions(arcs)
    points, point = np.unique(keys, return_inverse=True)
    out = np.full((len(points), 4), -1, np.int32)
    out[point, leaving] = np.arange(len(keys))
    following = np.full(len(keys), -1, np.int32)
    chain(inside, point, leaving, out, following)
    return following


def _in_order(rings: Rings, order: Int64s, first: Int64s) -> Rings:
    lengths = np.diff(rings.offsets)[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    index = np.arange(len(rings.halves)) + np.repeat(rings.offsets[:-1][order] - offsets[:-1], lengths)
    return Rings(rings.halves[index], offsets, first)


@kernel
def chain(inside: Int32s, point: Int64s, leaving: NDArray[np.int8], out: Int32s, following: Int32s) -> None:
    for half in range(len(inside)):
        if inside[half] < 0:
            continue
        heading = leaving[half ^ 1] + 2
        for turn in (1, 0, 3):
            other = out[point[half ^ 1], (heading + turn) & 3]
            if other >= 0 and inside[other] == inside[half]:
                following[half] = other
                break


@kernel
def walk(following: Int32s, inside: Int32s, halves: Int32s, offsets: Int64s) -> int:
    """List the cycles of half-arcs with a region inside, by their lowest half-arc; how many. ``following`` is spent."""
    rings = 0
    n = 0
    for first in range(len(following)):
        if inside[first] < 0 or following[first] < 0:
            continue
        half = first
        while following[half] >= 0:
            halves[n] = half
            n += 1
            after = following[half]
            following[half] = -1
            half = after
        rings += 1
        offsets[rings] = n
    return rings

"""Arcs: the lines between regions on the lattice of pixel corners, the same however the raster is cut.

A lattice edge lies where the regions of two neighbouring pixels differ (outside the raster and nodata are region -1).
Lattice points with other than two such edges are nodes; the chains between nodes are arcs. Each strip is traced alone
into pieces, which end at nodes and where a vertical edge meets a seam of strips. A point at which exactly two ends of
pieces meet is no node: the pieces are joined there, by exact integer coordinates.

Canonical form: an arc starts at its smaller end (row, column; if both ends are one node, with the smaller second
vertex); a closed arc without node starts at its first point in row-major order and goes right. Arcs are in the order of
first point and direction. Vertices are (row, column) of lattice points where the direction changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.executor import TaskPool, single_thread
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.corners import corner_sums
from aerialseg.vector.join import cross_sums, gather, join
from aerialseg.vector.regions import Corners, Int32s, Int64s, Regions
from aerialseg.vector.trace import Pieces, Sheet, trace_task


@dataclass(frozen=True, slots=True)
class Arcs:
    """Lines with the regions on both sides (-1: none), seen along the line with rows growing downwards."""

    vertices: Corners
    """(vertices, 2): row, column."""
    offsets: Int64s
    """Arc k has the vertices ``offsets[k]`` to ``offsets[k + 1] - 1``."""
    left: Int32s
    right: Int32s
    rounded: NDArray[np.uint8] = field(default_factory=lambda: np.zeros(0, np.uint8))
    """Not 0: the vertex is a corner to be rounded when the arc is drawn (smooth.py). Of size 0: there is none."""
    steps: int = 0
    """How finely: each rounded corner is drawn as ``2 ** steps`` vertices."""

    def __len__(self) -> int:
        return len(self.left)

    def only(self, keep: NDArray[np.uint8]) -> Arcs:
        """The same arcs with some of their vertices: those where ``keep`` is not 0."""
        kept = np.flatnonzero(keep)
        return Arcs(self.vertices[kept], np.searchsorted(kept, self.offsets), self.left, self.right)

    def counts(self) -> Int64s:
        """Vertices of each arc as it is drawn."""
        counts = np.diff(self.offsets)
        if len(self.rounded):
            before = np.concatenate([[0], np.cumsum(self.rounded != 0)])
            corners = before[self.offsets[1:] - 1] - before[self.offsets[:-1]]  # a closed arc's start counts once
            counts += ((1 << self.steps) - 1) * corners
        return counts

    def cross_sums(self) -> NDArray[Any]:
        """Twice the signed area that each arc contributes to a ring: positive where its left side is inside.

        Exact: integers, or floats that hold them and the multiples of powers of two that round corners bring.
        """
        total = np.zeros(len(self), np.int64)
        cross_sums(self.vertices, self.offsets, total)
        if not len(self.rounded):
            return total
        rounding = np.zeros(len(self), np.float64)
        corner_sums(self.vertices, self.offsets, self.rounded, self.steps, rounding)
        return total + rounding

    def double_areas(self, count: int) -> NDArray[Any]:
        """Twice the area of each of the regions 0 to ``count - 1``, in pixels."""
        cross = self.cross_sums()
        total = np.zeros(count + 1, cross.dtype)
        np.add.at(total, self.left, cross)
        np.subtract.at(total, self.right, cross)
        return total[:count]


def find_arcs(
    raster: ClassRaster,
    regions: Regions,
    *,
    pool: TaskPool | None = None,
    progress: Callable[[float], None] | None = None,
) -> Arcs:
    """All arcs between the regions. Raises InputError if the raster cannot be read."""
    pieces = _Pieces(corner_type(*raster.geo.shape))
    traced = single_thread(pool).spread(trace_task, _sheets(raster, regions))
    for task, strips in zip(raster.tasks(), traced, strict=True):
        for strip in strips:
            pieces.add(strip)
        if progress:
            progress(task.box.bottom / raster.geo.height)
    return _sorted(_joined(pieces.take()))


def _sheets(raster: ClassRaster, regions: Regions) -> Iterator[Sheet]:
    """What is needed to trace the strips of each task."""
    corner = corner_type(*raster.geo.shape)
    for task in raster.tasks():
        top, bottom = task.box.top, task.box.bottom
        ids = slice(regions.first_ids[top], regions.first_ids[bottom])
        above, last_row = (regions.row_above(row, raster.geo.width) for row in (top, bottom))
        yield Sheet(task, bottom == raster.geo.height, above, last_row, regions.region_of[ids], np.dtype(corner).name)


def directions(arcs: Arcs) -> tuple[Int64s, Int64s]:
    """Lattice direction (0 right, 1 down, 2 left, 3 up) in which each arc leaves its start, and its end backwards."""
    start, end = arcs.offsets[:-1], arcs.offsets[1:] - 1
    return _direction(arcs.vertices, start, start + 1), _direction(arcs.vertices, end, end - 1)


def point_keys(vertices: Corners) -> Int64s:
    """One integer for each (row, column), in row-major order."""
    return vertices[:, 0].astype(np.int64) << 32 | vertices[:, 1]


def _direction(vertices: Corners, one: Int64s, other: Int64s) -> Int64s:
    row, col = (vertices[other].astype(np.int64) - vertices[one]).T
    return np.where(row == 0, np.where(col > 0, 0, 2), np.where(row > 0, 1, 3))


def corner_type(height: int, width: int) -> type[np.integer[Any]]:
    """The type for lattice points of such a raster: arcs are what a large layer keeps in memory."""
    return np.uint16 if max(height, width) <= np.iinfo(np.uint16).max else np.int32


class _Pieces:
    """Pieces of all strips in arrays that grow in place: a list of strips' arrays would be all of them twice."""

    def __init__(self, corner: type[np.integer[Any]]) -> None:
        self.type = corner
        self._vertices = np.empty((1 << 10, 2), corner)
        self._used = 0
        self._parts: list[tuple[Int64s, Int32s, Int32s]] = []

    def add(self, part: Pieces) -> None:
        used = self._used + len(part.vertices)
        if used > len(self._vertices):
            self._vertices.resize((max(used, len(self._vertices) * 5 // 4), 2), refcheck=False)
        self._vertices[self._used : used] = part.vertices
        self._parts.append((part.offsets[1:] + self._used, part.left, part.right))
        self._used = used

    def take(self) -> Arcs:
        """All of them; there are none left."""
        ends, left, right = (np.concatenate(arrays) for arrays in zip(*self._parts, strict=True))
        vertices, self._vertices, self._parts = self._vertices[: self._used], np.empty((0, 2), self.type), []
        return Arcs(vertices, np.concatenate([[0], ends]).astype(np.int64), left, right)


def _joined(pieces: Arcs) -> Arcs:
    """Whole arcs in canonical form, not yet sorted."""
    ends = np.empty(2 * len(pieces), np.int64)
    ends[0::2], ends[1::2] = pieces.offsets[:-1], pieces.offsets[1:] - 1
    keys = point_keys(pieces.vertices[ends])
    order = np.argsort(keys, kind="stable")
    _, first, count = np.unique(keys[order], return_index=True, return_counts=True)
    one, other = order[first[count == 2]], order[first[count == 2] + 1]
    partner = np.full(len(ends), -1, np.int64)
    partner[one], partner[other] = other, one
    vertices = np.empty_like(pieces.vertices)
    offsets = np.zeros(len(pieces) + 1, np.int64)
    sides = np.empty((len(pieces), 2), np.int32)
    number = join(pieces.vertices, pieces.offsets, pieces.left, pieces.right, partner, vertices, offsets, sides)
    vertices = vertices[: offsets[number]]
    return Arcs(vertices, offsets[: number + 1].copy(), sides[:number, 0].copy(), sides[:number, 1].copy())


def _sorted(arcs: Arcs) -> Arcs:
    if not len(arcs):
        return arcs
    order = np.lexsort([directions(arcs)[0], point_keys(arcs.vertices[arcs.offsets[:-1]])])
    lengths = np.diff(arcs.offsets)[order]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    vertices = np.empty_like(arcs.vertices)
    gather(arcs.vertices, arcs.offsets, order, vertices)
    return Arcs(vertices, offsets, arcs.left[order], arcs.right[order])

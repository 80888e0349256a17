"""Arcs: the lines between regions on the lattice of pixel corners, the same however the raster is cut.

A lattice edge lies where the regions of two neighbouring pixels differ (outside the raster and nodata are region -1).
Lattice points with other than two such edges are nodes; the chains between nodes are arcs. Each band of rows is traced
alone into pieces, which end at nodes and where a vertical edge meets a seam of bands. A point at which exactly two ends
of pieces meet is no node: the pieces are joined there, by exact integer coordinates.

Canonical form: an arc starts at its smaller end (row, column; if both ends are one node, with the smaller second
vertex); a closed arc without node starts at its first point in row-major order and goes right. Arcs are in the order of
first point and direction. Vertices are (row, column) of lattice points where the direction changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aerialseg.vector.bands import ClassRaster
from aerialseg.vector.join import cross_sums, gather, join
from aerialseg.vector.regions import Int32s, Int64s, Regions
from aerialseg.vector.trace import mark_edges, trace


@dataclass(frozen=True, slots=True)
class Arcs:
    """Lines with the regions on both sides (-1: none), seen along the line with rows growing downwards."""

    vertices: Int32s
    """(vertices, 2): row, column."""
    offsets: Int64s
    """Arc k has the vertices ``offsets[k]`` to ``offsets[k + 1] - 1``."""
    left: Int32s
    right: Int32s

    def __len__(self) -> int:
        return len(self.left)

    def only(self, keep: NDArray[np.uint8]) -> Arcs:
        """The same arcs with some of their vertices: those where ``keep`` is not 0."""
        before = np.concatenate([[0], np.cumsum(keep != 0)])
        return Arcs(self.vertices[keep != 0], before[self.offsets], self.left, self.right)

    def cross_sums(self) -> Int64s:
        """Twice the signed area that each arc contributes to a ring: positive where its left side is inside."""
        total = np.zeros(len(self), np.int64)
        cross_sums(self.vertices, self.offsets, total)
        return total

    def double_areas(self, count: int) -> Int64s:
        """Twice the area of each of the regions 0 to ``count - 1``, in pixels."""
        total, cross = np.zeros(count + 1, np.int64), self.cross_sums()
        np.add.at(total, self.left, cross)
        np.subtract.at(total, self.right, cross)
        return total[:count]


def find_arcs(
    raster: ClassRaster,
    regions: Regions,
    *,
    merged_band: Callable[[int, NDArray[np.uint8]], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Arcs:
    """All arcs between the regions; ``merged_band`` is handed each band's (first row, classes after merging)."""
    classes = np.append(regions.classes, np.uint8(255))
    pieces = []
    above = np.full(raster.width, -1, np.int32)
    for band in raster:
        height, width = band.classes.shape
        padded = np.full((height + 2, width + 2), -1, np.int32)
        padded[0, 1:-1] = above
        padded[1:-1, 1:-1] = regions.label(band)
        above = padded[-2, 1:-1].copy()
        pieces.append(_trace_band(padded, band.row, band.row + height == raster.height))
        if merged_band:
            merged_band(band.row, classes[padded[1:-1, 1:-1]])
        if progress:
            progress((band.row + height) / raster.height)
    return _sorted(_joined(_concatenated(pieces)))


def directions(arcs: Arcs) -> tuple[Int64s, Int64s]:
    """Lattice direction (0 right, 1 down, 2 left, 3 up) in which each arc leaves its start, and its end backwards."""
    start, end = arcs.offsets[:-1], arcs.offsets[1:] - 1
    return _direction(arcs.vertices, start, start + 1), _direction(arcs.vertices, end, end - 1)


def point_keys(vertices: Int32s) -> Int64s:
    """One integer for each (row, column), in row-major order."""
    return vertices[:, 0].astype(np.int64) << 32 | vertices[:, 1]


def _direction(vertices: Int32s, one: Int64s, other: Int64s) -> Int64s:
    row, col = (vertices[other].astype(np.int64) - vertices[one]).T
    return np.where(row == 0, np.where(col > 0, 0, 2), np.where(row > 0, 1, 3))


def _trace_band(padded: Int32s, row: int, last: bool) -> Arcs:
    marks = np.empty((padded.shape[0] - 1, padded.shape[1] - 1), np.uint8)
    most_pieces, most_vertices = mark_edges(padded, last, marks)
    vertices = np.empty((most_vertices, 2), np.int32)
    offsets = np.zeros(most_pieces + 1, np.int64)
    sides = np.empty((most_pieces, 2), np.int32)
    count = trace(padded, marks, row, vertices, offsets, sides)
    used = offsets[count]
    return Arcs(vertices[:used].copy(), offsets[: count + 1].copy(), sides[:count, 0].copy(), sides[:count, 1].copy())


def _concatenated(parts: list[Arcs]) -> Arcs:
    vertices = np.concatenate([part.vertices for part in parts])
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    left = np.concatenate([part.left for part in parts])
    parts_right = np.concatenate([part.right for part in parts])
    parts.clear()
    return Arcs(vertices, offsets, left, parts_right)


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

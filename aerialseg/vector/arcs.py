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
from aerialseg.vector.kernel import kernel
from aerialseg.vector.regions import Int32s, Int64s, Regions

RIGHT, DOWN, END = 1, 2, 4


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
        row, col = self.vertices.astype(np.int64).T
        cross = np.zeros(len(row), np.int64)
        cross[:-1] = col[1:] * row[:-1] - col[:-1] * row[1:]
        cross[self.offsets[1:] - 1] = 0
        return np.add.reduceat(cross, self.offsets[:-1]) if len(self) else cross

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


@kernel
def gather(vertices: Int32s, offsets: Int64s, order: Int64s, out: Int32s) -> None:
    n = 0
    for arc in order:
        for k in range(offsets[arc], offsets[arc + 1]):
            out[n, 0] = vertices[k, 0]
            out[n, 1] = vertices[k, 1]
            n += 1


@kernel
def mark_edges(padded: Int32s, last: bool, marks: NDArray[np.uint8]) -> tuple[int, int]:
    """Mark each lattice point's edges to the right and down and whether pieces end there; bounds on pieces, vertices.

    ``padded``: regions of the band with one row and column around it. The row above belongs to the band before, and so
    do the edges in it; below the last row nothing is known, unless this is the last band.
    """
    height, width = marks.shape
    pieces = 0
    vertices = 0
    for i in range(height):
        known = last or i < height - 1
        for j in range(width):
            nw, ne, sw, se = padded[i, j], padded[i, j + 1], padded[i + 1, j], padded[i + 1, j + 1]
            up = nw != ne
            right = known and ne != se
            down = known and sw != se
            left = known and nw != sw
            degree = int(up) + int(right) + int(down) + int(left)
            end = degree > 2 or (up and (i == 0 or not known))
            marks[i, j] = RIGHT * right + DOWN * down + END * end
            if end:
                pieces += degree
                vertices += degree
            elif right and down:
                pieces += 1
                vertices += 2
            elif degree == 2 and not (left and right) and not (up and down):
                vertices += 1
    return pieces, vertices


@kernel
def take(marks: NDArray[np.uint8], i: int, j: int, direction: int) -> bool:
    """Whether there is an edge not yet traced from (i, j) in that direction; from now on it is traced."""
    if direction == 2:
        j -= 1
    if direction == 3:
        i -= 1
    bit = RIGHT if direction & 1 == 0 else DOWN
    if i < 0 or j < 0 or marks[i, j] & bit == 0:
        return False
    marks[i, j] ^= bit
    return True


@kernel
def trace(padded: Int32s, marks: NDArray[np.uint8], row: int, vertices: Int32s, offsets: Int64s, sides: Int32s) -> int:
    """Trace all pieces of a band: first those that start where pieces end, then closed ones; how many."""
    count = 0
    for closed in range(2):
        for i in range(marks.shape[0]):
            for j in range(marks.shape[1]):
                if closed == 0 and marks[i, j] & END:
                    for direction in range(4):
                        if take(marks, i, j, direction):
                            follow(padded, marks, row, i, j, direction, vertices, offsets, sides, count)
                            count += 1
                elif closed == 1 and take(marks, i, j, 0):
                    follow(padded, marks, row, i, j, 0, vertices, offsets, sides, count)
                    count += 1
    return count


@kernel
def follow(
    padded: Int32s,
    marks: NDArray[np.uint8],
    row: int,
    i: int,
    j: int,
    direction: int,
    vertices: Int32s,
    offsets: Int64s,
    sides: Int32s,
    piece: int,
) -> None:
    """Trace one piece, whose first edge is taken, until pieces end or it is back at its start."""
    east, south = direction == 0, direction == 1
    west, north = direction == 2, direction == 3
    sides[piece, 0] = padded[i + (south or west), j + (east or south)]
    sides[piece, 1] = padded[i + (east or south), j + (east or north)]
    n = offsets[piece]
    start_i, start_j = i, j
    vertices[n, 0], vertices[n, 1] = row + i, j
    n += 1
    while True:
        i += (direction == 1) - (direction == 3)
        j += (direction == 0) - (direction == 2)
        if marks[i, j] & END or (i == start_i and j == start_j):
            break
        if not take(marks, i, j, direction):
            vertices[n, 0], vertices[n, 1] = row + i, j
            n += 1
            direction = (direction + 1) & 3
            if not take(marks, i, j, direction):
                direction ^= 2
                take(marks, i, j, direction)
    vertices[n, 0], vertices[n, 1] = row + i, j
    offsets[piece + 1] = n + 1


@kernel
def join(
    vertices: Int32s,
    offsets: Int64s,
    left: Int32s,
    right: Int32s,
    partner: Int64s,
    out: Int32s,
    out_offsets: Int64s,
    sides: Int32s,
) -> int:
    """Chain the pieces into arcs in canonical form; how many. End 2k is the start of piece k, 2k + 1 its last point.

    ``partner``: the other end that is joined to each end, or -1.
    """
    used = np.zeros(len(left), np.uint8)
    count = 0
    for closed in range(2):
        for first in range(len(partner)):
            if used[first >> 1] or (closed == 0 and partner[first] >= 0):
                continue
            low = out_offsets[count]
            high = low
            end = first
            while end >= 0 and not used[end >> 1]:
                used[end >> 1] = 1
                high = append_piece(vertices, offsets[end >> 1], offsets[(end >> 1) + 1], end & 1, out, low, high)
                end = partner[end ^ 1]
            flip = first & 1
            if closed:
                high = drop_straight_start(out, low, high)
                flip ^= turn_closed(out, low, high)
            else:
                flip ^= turn_open(out, low, high)
            sides[count, flip] = left[first >> 1]
            sides[count, 1 - flip] = right[first >> 1]
            count += 1
            out_offsets[count] = high
    return count


@kernel
def append_piece(vertices: Int32s, start: int, stop: int, backwards: int, out: Int32s, low: int, high: int) -> int:
    """Append a piece to out[low:high], which ends where it starts; a joint without a change of direction is dropped."""
    for k in range(stop - start):
        source = stop - 1 - k if backwards else start + k
        if k == 0 and high > low:
            continue
        if k == 1 and high - low >= 2:
            for axis in range(2):
                if vertices[source, axis] == out[high - 1, axis] == out[high - 2, axis]:
                    high -= 1
                    break
        out[high, 0] = vertices[source, 0]
        out[high, 1] = vertices[source, 1]
        high += 1
    return high


@kernel
def drop_straight_start(out: Int32s, low: int, high: int) -> int:
    """If the direction does not change at the start of a closed line, start at the last vertex before it."""
    for axis in range(2):
        if out[high - 2, axis] == out[low, axis] == out[low + 1, axis]:
            out[low, 0] = out[high - 2, 0]
            out[low, 1] = out[high - 2, 1]
            return high - 1
    return high


@kernel
def reverse(out: Int32s, low: int, high: int) -> None:
    high -= 1
    while low < high:
        for axis in range(2):
            out[low, axis], out[high, axis] = out[high, axis], out[low, axis]
        low += 1
        high -= 1


@kernel
def before(out: Int32s, one: int, other: int) -> bool:
    """Whether vertex one comes before the other in row-major order."""
    if out[one, 0] != out[other, 0]:
        return out[one, 0] < out[other, 0]
    return out[one, 1] < out[other, 1]


@kernel
def turn_open(out: Int32s, low: int, high: int) -> int:
    """Let the line start at its smaller end (or with the smaller second vertex); 1 if it was reversed."""
    same = not before(out, low, high - 1) and not before(out, high - 1, low)
    if before(out, high - 2, low + 1) if same else before(out, high - 1, low):
        reverse(out, low, high)
        return 1
    return 0


@kernel
def turn_closed(out: Int32s, low: int, high: int) -> int:
    """Let the closed line start at its first point in row-major order and go right; 1 if it was reversed."""
    first = low
    for k in range(low, high - 1):
        if before(out, k, first):
            first = k
    reverse(out, low, first)
    reverse(out, first, high - 1)
    reverse(out, low, high - 1)
    flipped = out[low + 1, 0] != out[low, 0]
    if flipped:
        reverse(out, low + 1, high - 1)
    out[high - 1, 0] = out[low, 0]
    out[high - 1, 1] = out[low, 1]
    return int(flipped)

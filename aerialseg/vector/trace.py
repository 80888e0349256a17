"""Tracing the lines between regions in the strips of one task, on the lattice of pixel corners (see arcs.py).

`trace_task` is a pure function of names, numbers and small arrays that returns arrays, so it may run anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.classes import StripTask
from aerialseg.raster.kernel import kernel
from aerialseg.vector.regions import Corners, Int32s, Int64s
from aerialseg.vector.survey import label

RIGHT, DOWN, END = 1, 2, 4
"""Marks of a lattice point: an edge to the right, an edge down, pieces end here."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is needed to trace a task: whether it is the ``last`` one, the regions in the row ``above`` it and in its
    last row, ``bottom`` (-1: none), the regions of its labels, one strip after the other, and the type of ``corner``
    coordinates."""

    task: StripTask
    last: bool
    above: Int32s
    bottom: Int32s
    region_of: Int32s
    corner: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """Lines of a strip: piece k has ``vertices[offsets[k]:offsets[k + 1]]`` and the regions ``left`` and ``right``."""

    vertices: Corners
    offsets: Int64s
    left: Int32s
    right: Int32s


def trace_task(sheet: Sheet) -> list[Pieces]:
    """The pieces of each strip of the task. Raises InputError if it cannot be read."""
    above, used, found = sheet.above, 0, []
    for strip in sheet.task.strips():
        labels, count = label(strip)
        if used + count > len(sheet.region_of):
            raise differs(sheet.task.classes)
        height, width = labels.shape
        padded = np.full((height + 2, width + 2), -1, np.int32)
        padded[0, 1:-1] = above
        paint(labels, sheet.region_of[used : used + count], padded)
        used += count
        above = padded[-2, 1:-1].copy()
        last = sheet.last and strip.row + height == sheet.task.box.bottom
        found.append(_trace_strip(padded, strip.row, last, np.dtype(sheet.corner)))
    if not sheet.last and (above != sheet.bottom).any():
        raise differs(sheet.task.classes)
    return found


def differs(path: Path) -> InputError:
    """The error to raise when a class raster, which is read twice, is not the same both times."""
    return InputError(
        f"{printable(path)} had other pixels when it was read again: it was changed meanwhile, or is damaged; make or "
        "fetch it again"
    )


def _trace_strip(padded: Int32s, row: int, last: bool, corner: np.dtype[np.generic]) -> Pieces:
    marks = np.empty((padded.shape[0] - 1, padded.shape[1] - 1), np.uint8)
    most_pieces, most_vertices = mark_edges(padded, last, marks)
    vertices = np.empty((most_vertices, 2), corner)
    offsets = np.zeros(most_pieces + 1, np.int64)
    sides = np.empty((most_pieces, 2), np.int32)
    count = trace(padded, marks, row, vertices, offsets, sides)
    used = offsets[count]
    return Pieces(vertices[:used].copy(), offsets[: count + 1].copy(), sides[:count, 0].copy(), sides[:count, 1].copy())


@kernel
def paint(labels: Int32s, region_of: Int32s, padded: Int32s) -> None:
    """Fill the inside of ``padded`` with the regions of the labels, -1 where there is none."""
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            padded[i + 1, j + 1] = region_of[labels[i, j]] if labels[i, j] >= 0 else -1


@kernel
def mark_edges(padded: Int32s, last: bool, marks: NDArray[np.uint8]) -> tuple[int, int]:
    """Mark each lattice point's edges to the right and down and whether pieces end there; bounds on pieces, vertices.

    ``padded``: regions of the strip with one row and column around it. The row above belongs to the strip before, and
    so do the edges in it; below the last row nothing is known, unless this is the last strip.
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
def trace(padded: Int32s, marks: NDArray[np.uint8], row: int, vertices: Corners, offsets: Int64s, sides: Int32s) -> int:
    """Trace all pieces of a strip: first those that start where pieces end, then closed ones; how many."""
    count = 0
    for closed in range(2):
        for i in range(marks.shape[0]):
            for j in range(marks.shape[1]):
                if closed or marks[i, j] & END:
                    for direction in range(1 if closed else 4):
                        if take(marks, i, j, direction):
                            follow(padded, marks, row, i, j, direction, vertices, offsets, sides, count)
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
    vertices: Corners,
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

"""Simplify arcs, each ONCE, so that both of its neighbours get the same line and nothing changes sides.

Douglas-Peucker drops vertices of each arc alone. A *chord* is a straight piece between two kept vertices, its *section*
the part of the arc that it stands for. Then every kept vertex, of whatever arc, that lies on a chord or that the closed
curve of section and chord winds around is a conflict: the chord jumped over it. Such chords are split at the vertex of
their section that is farthest from them, all in one step, again and again until there is no conflict. No two chords
can cross then: section and section do not cross, and the number of (signed) crossings changes between section and chord
only by the winding numbers around the other chord's ends, which are 0 (cf. Saalfeld 1999; de Berg, van Kreveld and
Schirra 1998). Chords with the same two ends (what is between them would vanish) are split as well. All is integers and
all happens in rounds, so the result depends on nothing but the arcs. What this should miss, polygons.py finds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aerialseg.executor import TaskPool, single_thread
from aerialseg.raster.kernel import kernel
from aerialseg.vector.arcs import Arcs, point_keys
from aerialseg.vector.regions import Corners, Int64s

KEPT, NEW = 1, 2
PER_CELL = 4
"""Vertices in a cell of the grid in which conflicts are looked for."""

Keep = NDArray[np.uint8]


def simplify(arcs: Arcs, tolerance_px: float, *, pool: TaskPool | None = None) -> Keep:
    """Which vertices to keep (not 0): all of arcs beside nodata or the outside, as few as may be of the others."""
    if tolerance_px <= 0 or not len(arcs):
        return np.ones(len(arcs.vertices), np.uint8)
    keep = np.zeros(len(arcs.vertices), np.uint8)
    fixed = (arcs.left < 0) | (arcs.right < 0)

    def part(start: int, stop: int) -> None:
        douglas_peucker(arcs.vertices, arcs.offsets, fixed, start, stop, float(tolerance_px), keep)

    single_thread(pool).ranges(part, arcs.offsets)
    settle(arcs, keep, everything=True, pool=pool)
    return keep


def settle(arcs: Arcs, keep: Keep, *, everything: bool = False, pool: TaskPool | None = None) -> None:
    """Split chords until there is no conflict; unless ``everything``, only vertices marked NEW can be in conflict."""
    doubled = _doubled(arcs, keep)  # once: to split chords makes no new ones
    while everything or len(doubled) or (keep == NEW).any():
        marks = np.zeros(len(keep), np.uint8)
        kept = np.flatnonzero(keep)
        new = np.flatnonzero(keep == NEW)
        if everything:
            _find_conflicts(arcs, keep, kept, kept, False, marks, pool)
        elif len(new):
            _find_conflicts(arcs, keep, kept, new, False, marks, pool)
            _find_conflicts(arcs, keep, kept, kept, True, marks, pool)
        split_chords(arcs.vertices, arcs.offsets, doubled, keep, marks)
        keep[new] = KEPT
        keep[marks != 0] = NEW
        everything, doubled = False, doubled[:0]


def refine(arcs: Arcs, keep: Keep, which: Int64s) -> None:
    """Split all chords of some arcs, then settle."""
    marks = np.zeros(len(keep), np.uint8)
    split_chords(arcs.vertices, arcs.offsets, which, keep, marks)
    keep[marks != 0] = NEW
    settle(arcs, keep)


def _find_conflicts(
    arcs: Arcs, keep: Keep, kept: Int64s, others: Int64s, only_new: bool, marks: Keep, pool: TaskPool | None
) -> None:
    """Mark the farthest vertices of sections whose chords jump over one of the ``others``."""
    cells = grid(arcs.vertices, others)

    def part(start: int, stop: int) -> None:
        find_conflicts(arcs.vertices, keep, kept[start : stop + 1], only_new, *cells, marks)

    single_thread(pool).ranges(part, kept)


def _doubled(arcs: Arcs, keep: Keep) -> Int64s:
    """Arcs that are one chord from a to b, where another one is too, and closed arcs of two chords."""
    chords = arcs.only(keep)
    number = np.diff(chords.offsets) - 1
    start = point_keys(chords.vertices[chords.offsets[:-1]])
    end = point_keys(chords.vertices[chords.offsets[1:] - 1])
    single = np.flatnonzero(number == 1)
    order = single[np.lexsort([end[single], start[single]])]
    same = (start[order][1:] == start[order][:-1]) & (end[order][1:] == end[order][:-1])
    twice = np.zeros(len(order), bool)
    twice[1:] |= same
    twice[:-1] |= same
    return np.concatenate([order[twice], np.flatnonzero((number == 2) & (start == end))])


def grid(vertices: Corners, which: Int64s) -> tuple[int, int, Int64s, Int64s]:
    """(cell size, columns, starts, members): the given vertices sorted into square cells of the lattice.

    The cells reach as far as all vertices do: sections that are looked up there may go beyond the given ones.
    """
    rows, cols = (int(most) + 1 for most in largest(vertices))
    size = max(16, int((PER_CELL * rows * cols / max(len(which), 1)) ** 0.5))
    columns = cols // size + 1
    starts = np.zeros((rows // size + 1) * columns + 1, np.int64)
    members = np.empty(len(which), np.int64)
    sort_into_cells(vertices, which, size, columns, starts, members)
    return size, columns, starts, members


@kernel
def largest(vertices: Corners) -> tuple[np.int64, np.int64]:
    """Largest row and column."""
    row, col = np.int64(0), np.int64(0)
    for v in range(len(vertices)):
        row, col = max(row, np.int64(vertices[v, 0])), max(col, np.int64(vertices[v, 1]))
    return row, col


@kernel
def sort_into_cells(vertices: Corners, which: Int64s, size: int, columns: int, starts: Int64s, members: Int64s) -> None:
    """Fill ``members`` cell by cell, and ``starts`` (all 0) with where each cell's begin, and one more: the end."""
    for v in which:
        starts[vertices[v, 0] // size * columns + vertices[v, 1] // size] += 1
    total = 0
    for cell in range(len(starts)):
        total += starts[cell]
        starts[cell] = total
    for k in range(len(which) - 1, -1, -1):
        cell = vertices[which[k], 0] // size * columns + vertices[which[k], 1] // size
        starts[cell] -= 1
        members[starts[cell]] = which[k]


@kernel
def farthest(vertices: Corners, low: int, high: int) -> tuple[int, float]:
    """The vertex between two that is farthest from the segment between them (ties: the one nearest the middle, so that
    a long staircase is halved), and its squared distance."""
    dr = np.int64(vertices[high, 0]) - vertices[low, 0]
    dc = np.int64(vertices[high, 1]) - vertices[low, 1]
    length2 = dr * dr + dc * dc
    best, most = low, -1.0
    for k in range(low + 1, high):
        r = np.int64(vertices[k, 0]) - vertices[low, 0]
        c = np.int64(vertices[k, 1]) - vertices[low, 1]
        along = r * dr + c * dc
        if along <= 0:
            distance2 = float(r * r + c * c)
        elif along >= length2:
            distance2 = float((r - dr) * (r - dr) + (c - dc) * (c - dc))
        else:
            cross = float(r * dc - c * dr)
            distance2 = cross * cross / length2
        if distance2 > most or (distance2 == most and abs(2 * k - low - high) < abs(2 * best - low - high)):
            best, most = k, distance2
    return best, most


@kernel
def douglas_peucker(
    vertices: Corners,
    offsets: Int64s,
    fixed: NDArray[np.bool_],
    start: int,
    stop: int,
    tolerance: float,
    keep: Keep,
) -> None:
    """Mark what to keep of arcs ``start`` to ``stop - 1``. Closed arcs keep the vertex farthest from their start."""
    stack = [(0, 0)]
    for arc in range(start, stop):
        low, high = offsets[arc], offsets[arc + 1] - 1
        keep[low] = keep[high] = KEPT
        if fixed[arc]:
            keep[low:high] = KEPT
            continue
        stack.append((low, high))
        while len(stack) > 1:
            low, high = stack.pop()
            if high - low < 2:
                continue
            middle, distance2 = farthest(vertices, low, high)
            closed = vertices[low, 0] == vertices[high, 0] and vertices[low, 1] == vertices[high, 1]
            if closed or distance2 > tolerance * tolerance:
                keep[middle] = KEPT
                stack.append((low, middle))
                stack.append((middle, high))


@kernel
def split_chords(vertices: Corners, offsets: Int64s, which: Int64s, keep: Keep, marks: Keep) -> None:
    """Mark the farthest vertex of each section of some arcs."""
    for arc in which:
        low = offsets[arc]
        for k in range(low + 1, offsets[arc + 1]):
            if keep[k]:
                if k - low > 1:
                    marks[farthest(vertices, low, k)[0]] = 1
                low = k


@kernel
def find_conflicts(
    vertices: Corners,
    keep: Keep,
    kept: Int64s,
    only_new: bool,
    size: int,
    columns: int,
    starts: Int64s,
    members: Int64s,
    marks: Keep,
) -> None:
    """Mark the farthest vertex of each section whose chord jumps over a vertex of the grid.

    With ``only_new`` look at chords with an end that is NEW only.
    """
    for k in range(len(kept) - 1):
        low, high = kept[k], kept[k + 1]
        if high - low < 2 or (only_new and keep[low] != NEW and keep[high] != NEW):
            continue
        middle, distance2 = farthest(vertices, low, high)
        top = bottom = vertices[low, 0]
        first = last = vertices[low, 1]
        for v in range(low + 1, high + 1):
            top, bottom = min(top, vertices[v, 0]), max(bottom, vertices[v, 0])
            first, last = min(first, vertices[v, 1]), max(last, vertices[v, 1])
        if jumps(vertices, low, high, distance2, top, bottom, first, last, size, columns, starts, members):
            marks[middle] = 1


@kernel
def jumps(
    vertices: Corners,
    low: int,
    high: int,
    distance2: float,
    top: int,
    bottom: int,
    first: int,
    last: int,
    size: int,
    columns: int,
    starts: Int64s,
    members: Int64s,
) -> bool:
    """Whether a vertex of the grid is between the chord low-high and its section, which reaches as far as given."""
    r0, c0 = float(vertices[low, 0]), float(vertices[low, 1])
    dr, dc = vertices[high, 0] - r0, vertices[high, 1] - c0
    length = (dr * dr + dc * dc) ** 0.5
    reach = distance2**0.5 + 1e-6
    for i in range(top // size, bottom // size + 1):
        for j in range(first // size, last // size + 1):
            away = abs(((i + 0.5) * size - r0) * dc - ((j + 0.5) * size - c0) * dr)
            if away > (reach + size) * length:
                continue
            for m in range(starts[i * columns + j], starts[i * columns + j + 1]):
                r, c = vertices[members[m], 0], vertices[members[m], 1]
                near = abs((r - r0) * dc - (c - c0) * dr) <= reach * length
                if near and top <= r <= bottom and first <= c <= last and encloses(vertices, low, high, r, c):
                    return True
    return False


@kernel
def encloses(vertices: Corners, low: int, high: int, r: int, c: int) -> bool:
    """Whether (r, c) is on the chord (but not its end) or the closed curve of section and chord winds around it."""
    winding = 0
    r0, c0 = np.int64(vertices[high, 0]), np.int64(vertices[high, 1])
    for k in range(low, high + 1):
        r1, c1 = np.int64(vertices[k, 0]), np.int64(vertices[k, 1])
        cross = (c1 - c0) * (r - r0) - (c - c0) * (r1 - r0)
        if k == low:
            if (r == r0 and c == c0) or (r == r1 and c == c1):
                return False
            if cross == 0 and min(r0, r1) <= r <= max(r0, r1) and min(c0, c1) <= c <= max(c0, c1):
                return True
        if r0 <= r:
            if r1 > r and cross > 0:
                winding += 1
        elif r1 <= r and cross < 0:
            winding -= 1
        r0, c0 = r1, c1
    return winding != 0

"""Joining the pieces of all strips into arcs in canonical form (see arcs.py)."""

from __future__ import annotations

import numpy as np

from aerialseg.raster.kernel import kernel
from aerialseg.vector.regions import Corners, Int32s, Int64s


@kernel
def join(
    vertices: Corners,
    offsets: Int64s,
    left: Int32s,
    right: Int32s,
    partner: Int64s,
    out: Corners,
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
def append_piece(vertices: Corners, start: int, stop: int, backwards: int, out: Corners, low: int, high: int) -> int:
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
def drop_straight_start(out: Corners, low: int, high: int) -> int:
    """If the direction does not change at the start of a closed line, start at the last vertex before it."""
    for axis in range(2):
        if out[high - 2, axis] == out[low, axis] == out[low + 1, axis]:
            out[low, 0] = out[high - 2, 0]
            out[low, 1] = out[high - 2, 1]
            return high - 1
    return high


@kernel
def reverse(out: Corners, low: int, high: int) -> None:
    high -= 1
    while low < high:
        for axis in range(2):
            out[low, axis], out[high, axis] = out[high, axis], out[low, axis]
        low += 1
        high -= 1


@kernel
def before(out: Corners, one: int, other: int) -> bool:
    """Whether vertex one comes before the other in row-major order."""
    if out[one, 0] != out[other, 0]:
        return out[one, 0] < out[other, 0]
    return out[one, 1] < out[other, 1]


@kernel
def turn_open(out: Corners, low: int, high: int) -> int:
    """Let the line start at its smaller end (or with the smaller second vertex); 1 if it was reversed."""
    same = not before(out, low, high - 1) and not before(out, high - 1, low)
    if before(out, high - 2, low + 1) if same else before(out, high - 1, low):
        reverse(out, low, high)
        return 1
    return 0


@kernel
def turn_closed(out: Corners, low: int, high: int) -> int:
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


@kernel
def gather(vertices: Corners, offsets: Int64s, order: Int64s, out: Corners) -> None:
    n = 0
    for arc in order:
        for k in range(offsets[arc], offsets[arc + 1]):
            out[n, 0] = vertices[k, 0]
            out[n, 1] = vertices[k, 1]
            n += 1


@kernel
def cross_sums(vertices: Corners, offsets: Int64s, total: Int64s) -> None:
    """Sum of the cross products of the vertices of each arc, x being the column and y minus the row."""
    for arc in range(len(total)):
        for k in range(offsets[arc], offsets[arc + 1] - 1):
            total[arc] += np.int64(vertices[k + 1, 1]) * vertices[k, 0] - np.int64(vertices[k, 1]) * vertices[k + 1, 0]

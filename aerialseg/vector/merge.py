"""The minimum mapping unit: regions that are too small become part of a neighbour.

The smallest region (order: pixels, then number) is merged into the neighbour with which it shares the longest edge
(ties: more pixels, then lower number), and takes its class; it also unites with its other neighbours of that class, for
else two touching polygons would have one class. This goes on until no region is too small or those that are have no
neighbour. Nodata is no neighbour. Regions with fixed pixels are never too small, so that these keep their class. The
order is global, so the result does not depend on how the raster was cut.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.kernel import kernel
from aerialseg.vector.regions import Contacts, Int32s, Int64s, Regions
from aerialseg.vector.survey import Ids, find_root


def merge_small(
    regions: Regions, contacts: Contacts, min_pixels: int, fixed: NDArray[np.bool_] | None = None
) -> Regions:
    """The regions after merging: none has fewer than ``min_pixels`` unless it has no neighbour or is ``fixed``."""
    if min_pixels <= 1 or not len(contacts.a):
        return regions
    root = np.arange(len(regions))
    classes, pixels = regions.classes.copy(), regions.pixels.copy()
    least = min(min_pixels, int(pixels.sum()) + 1)
    stays = np.zeros(len(regions), np.bool_) if fixed is None else fixed.copy()
    merge(root, classes, pixels, stays, contacts.a, contacts.b, contacts.length, least)
    return regions.united(root, classes)


@kernel
def merge(
    root: Int64s,
    classes: Ids,
    pixels: Int64s,
    stays: NDArray[np.bool_],
    a: Int32s,
    b: Int32s,
    length: Int64s,
    least: int,
) -> None:
    """Merge in place; afterwards ``root[region]`` is the lowest region of its group and ``classes[root]`` its class.

    stays: regions that are never too small.

    Neighbours are linked lists of half-edges (2e from a to b, 2e + 1 back). Uniting two regions joins their lists in
    constant time, and only lists of regions that are too small are ever walked: those are short.
    """
    count = len(root)
    head, tail, follow = _link(count, a, b)
    weight = np.zeros(count, np.int64)
    touched = np.empty(count, np.int64)
    heap = [pixels[one] * count + one for one in range(count) if pixels[one] < least and not stays[one]]
    heapify(heap)
    while heap:
        key = heappop(heap)
        one = key % count
        if root[one] != one or pixels[one] != key // count:
            continue
        found = 0
        edge = head[one]
        while edge >= 0:
            other = find_root(root, b[edge >> 1] if edge & 1 == 0 else a[edge >> 1])
            if other != one:
                if weight[other] == 0:
                    touched[found] = other
                    found += 1
                weight[other] += length[edge >> 1]
            edge = follow[edge]
        if found == 0:
            continue
        best = longest(touched[:found], weight, pixels)
        target_class = classes[best]
        for k in range(found):
            other = touched[k]
            weight[other] = 0
            if other == best or classes[other] == target_class:
                low, high = min(one, other), max(one, other)
                root[high] = low
                pixels[low] += pixels[high]
                stays[low] |= stays[high]
                follow[tail[low]] = head[high]
                tail[low] = tail[high]
                one = low
        classes[one] = target_class
        if pixels[one] < least and not stays[one]:
            heappush(heap, pixels[one] * count + one)
    for k in range(count):
        root[k] = root[root[k]]


@kernel
def longest(touched: Int64s, weight: Int64s, pixels: Int64s) -> int:
    """The neighbour with the longest shared edge; ties: more pixels, then lower number."""
    best = touched[0]
    for other in touched[1:]:
        more = weight[other] - weight[best]
        if more == 0:
            more = pixels[other] - pixels[best]
        if more > 0 or (more == 0 and other < best):
            best = other
    return best


@kernel
def _link(count: int, a: Int32s, b: Int32s) -> tuple[Int64s, Int64s, Int64s]:
    head = np.full(count, -1, np.int64)
    tail = np.full(count, -1, np.int64)
    follow = np.full(2 * len(a), -1, np.int64)
    for edge in range(2 * len(a)):
        one = a[edge >> 1] if edge & 1 == 0 else b[edge >> 1]
        if head[one] < 0:
            tail[one] = edge
        follow[edge] = head[one]
        head[one] = edge
    return head, tail, follow

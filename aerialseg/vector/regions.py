"""4-connected regions of a class raster, found band by band, the same however the raster is cut.

Each band is labelled alone; its labels, in row-major order of their first pixels, plus the number of labels before the
band are *provisional ids*. Union-find joins those that touch across a seam of bands. Regions are then numbered by their
first pixel in row-major order, which is the order of their lowest provisional id. Labelling a band again gives the same
provisional ids, so no raster of labels is kept: ``region_of`` (provisional id -> region) and the band are enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import ResourceError
from aerialseg.legend import NODATA
from aerialseg.raster.kernel import kernel
from aerialseg.vector.bands import Band, ClassRaster

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Corners = NDArray[np.signedinteger[Any]]
"""(row, column) of lattice points, in the smallest type that holds them: `corner_type`."""


@dataclass(frozen=True, slots=True)
class Contacts:
    """Pairs of regions ``a < b`` that share ``length`` pixel edges; sorted, each pair once."""

    a: Int64s
    b: Int64s
    length: Int64s


@dataclass(frozen=True, slots=True)
class Regions:
    """Tables by region, in row-major order of first pixels, and the way from a band's labels to regions."""

    classes: NDArray[np.uint8]
    pixels: Int64s
    percent: Int64s
    """Sum of the confidence over the pixels that have one."""
    rated: Int64s
    """Pixels that have a confidence."""
    region_of: Int32s
    """Provisional id -> region."""
    first_ids: dict[int, int]
    """First row of a band -> first provisional id of the band."""

    def __len__(self) -> int:
        return len(self.classes)

    def united(self, root: Int64s, classes: NDArray[np.uint8]) -> Regions:
        """The tables after regions became one: ``root[region]`` is the lowest region of its group."""
        target, count = ranks(root)
        kept = root == np.arange(len(root))
        return Regions(
            classes[kept],
            sums(self.pixels, target, count),
            sums(self.percent, target, count),
            sums(self.rated, target, count),
            target[self.region_of],
            self.first_ids,
        )

    def label(self, band: Band) -> Int32s:
        """Region of each pixel of the band, -1 where there is none."""
        labels = np.empty(band.classes.shape, np.int32)
        count = label_band(band.classes, labels)
        first = self.first_ids[band.row]
        table = np.append(self.region_of[first : first + count], np.int32(-1))
        return table[labels]


def find_regions(
    raster: ClassRaster, *, contacts: bool, progress: Callable[[float], None] | None = None
) -> tuple[Regions, Contacts]:
    """All regions of the raster, and their contacts (none unless asked for)."""
    tables: list[tuple[NDArray[np.uint8], Int64s, Int64s, Int64s]] = []
    seams, touching, first_ids, total = [], [], {}, 0
    above = np.full(raster.width, -1, np.int64)
    classes_above = np.full(raster.width, NODATA, np.uint8)
    for band in raster:
        labels = np.empty(band.classes.shape, np.int32)
        count = label_band(band.classes, labels)
        tables.append(_tabulate(band, labels, count))
        first_ids[band.row] = total
        seams.append(_seam(classes_above, above, band.classes[0], labels[0], total))
        if contacts:
            touching.append(_band_contacts(above, labels, total, count))
        classes_above = band.classes[-1].copy()
        above = np.where(labels[-1] >= 0, labels[-1] + np.int64(total), -1)
        total += count
        if progress:
            progress((band.row + len(labels)) / raster.height)
    if total >= np.iinfo(np.int32).max:
        raise ResourceError(f"the class raster has {total} regions: at most 2147483646 fit; cut it into parts")
    root = np.arange(total)
    unite(root, np.concatenate(seams))
    classes, pixels, percent, rated = (np.concatenate(column) for column in zip(*tables, strict=True))
    loose = Regions(classes, pixels, percent, rated, np.arange(total, dtype=np.int32), first_ids)
    regions = loose.united(root, classes)
    return regions, _contacts(touching, regions)


def ranks(root: Int64s) -> tuple[Int32s, int]:
    """Number of each one's group, groups in the order of their roots (``root[i] <= i``), and how many groups."""
    is_root = root == np.arange(len(root))
    number = np.cumsum(is_root, dtype=np.int64) - 1
    return number[root].astype(np.int32), int(is_root.sum())


def sums(values: Int64s, group: Int32s, count: int) -> Int64s:
    """Sum of the values in each of the groups ``0 <= group < count``."""
    total = np.zeros(count, np.int64)
    np.add.at(total, group, values)
    return total


def iter_merged_bands(raster: ClassRaster, regions: Regions) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """(first row, class ids) of each band, each pixel with the class of its region (after merging)."""
    classes = np.append(regions.classes, np.uint8(NODATA))
    for band in raster:
        yield band.row, classes[regions.label(band)]


def _tabulate(band: Band, labels: Int32s, count: int) -> tuple[NDArray[np.uint8], Int64s, Int64s, Int64s]:
    classes = np.empty(count, np.uint8)
    pixels, percent, rated = np.zeros((3, count), np.int64)
    tabulate(band.classes, band.confidence, labels, classes, pixels, percent, rated)
    return classes, pixels, percent, rated


def _seam(
    classes_above: NDArray[np.uint8], above: Int64s, classes: NDArray[np.uint8], labels: Int32s, first: int
) -> Int64s:
    """Pairs (id above, id below) of pixels of one class on both sides of a seam, each once: shape (n, 2)."""
    same = (classes_above == classes) & (classes != NODATA)
    pairs = np.column_stack([above[same], labels[same] + np.int64(first)])
    changed = np.ones(len(pairs), bool)
    changed[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return pairs[changed]


def _band_contacts(above: Int64s, labels: Int32s, first: int, count: int) -> Contacts:
    """Contacts of provisional ids inside the band and with the row above it."""
    low = int(above[above >= 0].min(initial=first))
    span = first + count - low
    keys = np.empty(labels.size // 8 + 1024, np.int64)
    found = list_contacts(above, labels, first, low, span, keys)
    if found > len(keys):
        keys = np.empty(found, np.int64)
        list_contacts(above, labels, first, low, span, keys)
    unique, length = np.unique(keys[:found], return_counts=True)
    return Contacts(low + unique // max(span, 1), low + unique % max(span, 1), length.astype(np.int64))


def _contacts(bands: list[Contacts], regions: Regions) -> Contacts:
    """Contacts of regions: those of all bands, with regions for provisional ids, summed."""
    if not bands:
        return Contacts(*np.zeros((3, 0), np.int64))
    a = regions.region_of[np.concatenate([band.a for band in bands])].astype(np.int64)
    b = regions.region_of[np.concatenate([band.b for band in bands])].astype(np.int64)
    length = np.concatenate([band.length for band in bands])
    keep = a != b
    key = np.minimum(a, b)[keep] * len(regions) + np.maximum(a, b)[keep]
    order = np.argsort(key)
    key, length = key[order], length[keep][order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    total = np.add.reduceat(length, first) if len(first) else length
    key = key[first]
    return Contacts(key // max(len(regions), 1), key % max(len(regions), 1), total)


@kernel
def find_root(parent: NDArray[np.signedinteger], one: int) -> int:
    while parent[one] != one:
        parent[one] = parent[parent[one]]
        one = parent[one]
    return one


@kernel
def unite(parent: Int64s, pairs: Int64s) -> None:
    """Join the pairs, then let ``parent`` hold each one's root, the lowest of its group."""
    for k in range(len(pairs)):
        a = find_root(parent, pairs[k, 0])
        b = find_root(parent, pairs[k, 1])
        parent[max(a, b)] = min(a, b)
    for k in range(len(parent)):
        parent[k] = parent[parent[k]]


@kernel
def label_band(classes: NDArray[np.uint8], labels: Int32s) -> int:
    """Fill ``labels`` with 4-connected components in the order of their first pixels, -1 for nodata; how many.

    Two passes; the first one keeps a union-find forest of pixel indices in ``labels`` itself.
    """
    height, width = classes.shape
    forest = labels.reshape(-1)
    for i in range(height):
        for j in range(width):
            value = classes[i, j]
            here = i * width + j
            north = i > 0 and classes[i - 1, j] == value
            if value == NODATA:
                forest[here] = -1
            elif j > 0 and classes[i, j - 1] == value:
                forest[here] = forest[here - 1]
                if north and classes[i - 1, j - 1] != value:
                    a = find_root(forest, here - 1)
                    b = find_root(forest, here - width)
                    forest[max(a, b)] = min(a, b)
                    forest[here] = min(a, b)
            else:
                forest[here] = find_root(forest, here - width) if north else here
    count = 0
    for here in range(height * width):
        parent = forest[here]
        if parent == here:
            forest[here] = count
            count += 1
        elif parent >= 0:
            forest[here] = forest[parent]
    return count


@kernel
def tabulate(
    classes: NDArray[np.uint8],
    confidence: NDArray[np.uint8],
    labels: Int32s,
    class_of: NDArray[np.uint8],
    pixels: Int64s,
    percent: Int64s,
    rated: Int64s,
) -> None:
    height, width = labels.shape
    for i in range(height):
        for j in range(width):
            label = labels[i, j]
            if label >= 0:
                class_of[label] = classes[i, j]
                pixels[label] += 1
                if confidence.size > 0 and confidence[i, j] != NODATA:
                    percent[label] += confidence[i, j]
                    rated[label] += 1


@kernel
def list_contacts(above: Int64s, labels: Int32s, first: int, low: int, span: int, keys: Int64s) -> int:
    """One key ``(a - low) * span + (b - low)`` for each pixel edge between provisional ids a < b; how many.

    Counts on when ``keys`` is full, so that the caller can come back with a larger one.
    """
    height, width = labels.shape
    count = 0
    for i in range(height):
        for j in range(width):
            if labels[i, j] < 0:
                continue
            here = first + labels[i, j]
            for side in range(2):
                other = -1
                if side == 0 and j > 0 and labels[i, j - 1] >= 0:
                    other = first + labels[i, j - 1]
                elif side == 1 and i > 0 and labels[i - 1, j] >= 0:
                    other = first + labels[i - 1, j]
                elif side == 1 and i == 0:
                    other = above[j]
                if other >= 0 and other != here:
                    if count < len(keys):
                        keys[count] = (min(here, other) - low) * span + max(here, other) - low
                    count += 1
    return count

"""4-connected regions of a class raster, found strip by strip, the same however the raster is cut.

Each strip is labelled alone (survey.py); its labels, in row-major order of their first pixels, plus the number of
labels before the strip are *provisional ids*. Union-find joins those that touch across a seam of strips. Regions are
then numbered by their first pixel in row-major order, which is the order of their lowest provisional id. Labelling a
strip again gives the same provisional ids, so no raster of labels is kept: ``region_of`` (provisional id -> region) and
the strip are enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import ResourceError
from aerialseg.executor import TaskPool, single_thread
from aerialseg.legend import NODATA
from aerialseg.raster.classes import ClassRaster, Strip
from aerialseg.raster.grid import Box
from aerialseg.raster.kernel import kernel
from aerialseg.vector.survey import Ids, StripSurvey, Tables, find_root, label, survey
from aerialseg.vector.survey import Int32s as Int32s
from aerialseg.vector.survey import Int64s as Int64s

Corners = NDArray[np.integer[Any]]
"""(row, column) of lattice points, in the smallest type that holds them: `corner_type`."""

Fixed = Callable[[Box], NDArray[np.bool_] | None]
"""Which pixels of a box keep their class; None: none of them."""


@dataclass(frozen=True, slots=True)
class Contacts:
    """Pairs of regions ``a < b`` that share ``length`` pixel edges; sorted, each pair once."""

    a: Int32s
    b: Int32s
    length: Int64s


@dataclass(frozen=True, slots=True)
class Regions(Tables):
    """Tables by region, in row-major order of first pixels, and the way from a strip's labels to regions."""

    region_of: Int32s
    """Provisional id -> region."""
    first_ids: dict[int, int]
    """First row of a strip -> first provisional id of the strip; the raster's height -> how many there are."""
    above: dict[int, tuple[Int32s, Int32s]]
    """First row of a task -> provisional ids in the row above it, as runs: first columns, ids (-1: none)."""

    def __len__(self) -> int:
        return len(self.classes)

    def united(self, root: Int64s, classes: Ids) -> Regions:
        """The tables after regions became one: ``root[region]`` is the lowest region of its group."""
        target, count = ranks(root)
        lowest = np.full(count, NODATA, np.uint8)
        np.minimum.at(lowest, target, self.lowest)
        return Regions(
            classes[root == np.arange(len(root))],
            sums(self.pixels, target, count),
            sums(self.percent, target, count),
            sums(self.rated, target, count),
            lowest,
            target[self.region_of],
            self.first_ids,
            self.above,
        )

    def label(self, strip: Strip) -> Int32s:
        """Region of each pixel of the strip, -1 where there is none."""
        labels, count = label(strip)
        first = self.first_ids[strip.row]
        table = np.append(self.region_of[first : first + count], np.int32(-1))
        return table[labels]

    def row_above(self, row: int, width: int) -> Int32s:
        """Regions in the row above a task, -1 where there is none."""
        if row not in self.above:
            return np.full(width, -1, np.int32)
        starts, ids = self.above[row]
        return np.repeat(np.append(self.region_of, np.int32(-1))[ids], np.diff(starts, append=width))


def find_regions(
    raster: ClassRaster,
    *,
    contacts: bool,
    pool: TaskPool | None = None,
    progress: Callable[[float], None] | None = None,
) -> tuple[Regions, Contacts]:
    """All regions of the raster, and their contacts (none unless asked for). Raises InputError, ResourceError."""
    joints = _Joints(raster, contacts)
    surveyed = single_thread(pool).spread(survey, raster.tasks())
    for task, strips in zip(raster.tasks(), surveyed, strict=True):
        for number, strip in enumerate(strips):
            joints.add(strip, number == 0)
        if progress:
            progress(task.box.bottom / raster.geo.height)
    return joints.joined()


def regions_with(raster: ClassRaster, regions: Regions, fixed: Fixed) -> NDArray[np.bool_]:
    """Which regions have a pixel that keeps its class. Raises InputError."""
    found = np.zeros(len(regions) + 1, np.bool_)
    for task in raster.tasks():
        if fixed(task.box) is None:
            continue
        for strip in task.strips():
            height, width = strip.classes.shape
            inside = fixed(Box(strip.row, 0, strip.row + height, width))
            if inside is not None:
                found[regions.label(strip)[inside]] = True  # -1, no region, is the last place
    return found[:-1]


class _Joints:
    """Surveys of strips, from top to bottom, and what joins them."""

    def __init__(self, raster: ClassRaster, contacts: bool) -> None:
        self._wanted = contacts
        self._height = raster.geo.height
        self._tables: list[Tables] = []
        self._seams: list[Int32s] = []
        self._touching: list[tuple[int, Int32s, Int32s]] = []
        self._first_ids: dict[int, int] = {}
        self._above: dict[int, tuple[Int32s, Int32s]] = {}
        self._bottom = np.full(raster.geo.width, -1, np.int32)
        self._bottom_classes = np.zeros(raster.geo.width, np.uint16)
        self._total = 0

    def add(self, strip: StripSurvey, opens_task: bool) -> None:
        count = len(strip.tables.classes)
        if self._total + count >= np.iinfo(np.int32).max:
            raise ResourceError("the class raster has more than 2147483646 regions: cut it into parts")
        if opens_task and strip.row:
            starts = np.flatnonzero(np.diff(self._bottom, prepend=-2)).astype(np.int32)
            self._above[strip.row] = (starts, self._bottom[starts])
        self._first_ids[strip.row] = self._total
        top = np.where(strip.top >= 0, strip.top + np.int32(self._total), np.int32(-1))
        top_classes = strip.tables.classes[strip.top] if count else self._bottom_classes
        both = (top >= 0) & (self._bottom >= 0)
        same = top_classes == self._bottom_classes
        self._seams.append(_runs(self._bottom[both & same], top[both & same])[0])
        if self._wanted:
            pairs, length = _runs(self._bottom[both & ~same], top[both & ~same])
            self._touching.append((0, pairs, length))
            self._touching.append((self._total, strip.pairs, strip.length))
        bottom = strip.bottom
        self._bottom = np.where(bottom >= 0, bottom + np.int32(self._total), np.int32(-1))
        self._bottom_classes = strip.tables.classes[bottom] if count else self._bottom_classes
        self._tables.append(strip.tables)
        self._total += count

    def joined(self) -> tuple[Regions, Contacts]:
        root = np.arange(self._total)
        unite(root, np.concatenate(self._seams))
        tables = Tables.concatenated(self._tables)
        self._tables.clear()
        self._first_ids[self._height] = self._total
        regions = Regions(
            tables.classes,
            tables.pixels,
            tables.percent,
            tables.rated,
            tables.lowest,
            np.arange(self._total, dtype=np.int32),
            self._first_ids,
            self._above,
        )
        regions = regions.united(root, regions.classes)
        return regions, _contacts(self._touching, regions)


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


def _runs(one: Int32s, other: Int32s) -> tuple[Int32s, Int32s]:
    """Pairs that follow each other, (n, 2), and how often each was repeated."""
    pairs = np.column_stack([one, other])
    changed = np.ones(len(pairs), bool)
    changed[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    starts = np.flatnonzero(changed)
    return pairs[starts], np.diff(starts, append=len(pairs)).astype(np.int32)


def _contacts(touching: list[tuple[int, Int32s, Int32s]], regions: Regions) -> Contacts:
    """Contacts of regions, each pair once. ``touching`` (what to add to labels, pairs of labels, edges) is spent."""
    keys = np.empty(sum(len(length) for _, _, length in touching), np.int64)
    lengths = np.empty(len(keys), np.int32)
    used = 0
    for first, pairs, length in touching:
        a, b = regions.region_of[pairs[:, 0] + first], regions.region_of[pairs[:, 1] + first]
        part = slice(used, used + len(pairs))
        keys[part] = np.minimum(a, b).astype(np.int64) << 32 | np.maximum(a, b)
        lengths[part] = length
        used += len(pairs)
    touching.clear()
    order = np.argsort(keys)
    keys, lengths = keys[order], lengths[order]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    total = np.add.reduceat(lengths, starts, dtype=np.int64) if len(starts) else lengths.astype(np.int64)
    keys = keys[starts]
    return Contacts((keys >> 32).astype(np.int32), (keys & 0x7FFFFFFF).astype(np.int32), total)


@kernel
def unite(parent: Int64s, pairs: Int32s) -> None:
    """Join the pairs, then let ``parent`` hold each one's root, the lowest of its group."""
    for k in range(len(pairs)):
        a = find_root(parent, pairs[k, 0])
        b = find_root(parent, pairs[k, 1])
        parent[max(a, b)] = min(a, b)
    for k in range(len(parent)):
        parent[k] = parent[parent[k]]

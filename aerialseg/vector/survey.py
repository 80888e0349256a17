"""What a task's strips say about their regions: labels, tables and contacts of each one.

`survey` is a pure function of a task (names and numbers) that returns small arrays, so it may run anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import NO_CLASS, NODATA
from aerialseg.raster.classes import ClassIds, Strip, StripTask
from aerialseg.raster.kernel import kernel

Int32s = NDArray[np.int32]
Int64s = NDArray[np.int64]
Ids = NDArray[np.uint16]
"""Class ids of labels or regions, each of which has one."""


@dataclass(frozen=True, slots=True)
class Tables:
    """By label or region: class, pixels, and of the confidence the sum, the number and the least."""

    classes: Ids
    pixels: Int64s
    percent: Int64s
    """Sum of the confidence over the pixels that have one."""
    rated: Int64s
    """Pixels that have a confidence."""
    lowest: NDArray[np.uint8]
    """Lowest confidence of a pixel; 255 where no pixel has one."""

    @staticmethod
    def empty(count: int) -> Tables:
        pixels, percent, rated = np.zeros((3, count), np.int64)
        return Tables(np.zeros(count, np.uint16), pixels, percent, rated, np.full(count, NODATA, np.uint8))

    @staticmethod
    def concatenated(tables: list[Tables]) -> Tables:
        return Tables(*(np.concatenate([getattr(table, entry.name) for table in tables]) for entry in fields(Tables)))


@dataclass(frozen=True, slots=True)
class StripSurvey:
    """One strip: its labels in row-major order of their first pixels, -1 for none, and what is known of them."""

    row: int
    tables: Tables
    top: Int32s
    """Labels of the first row; ``bottom``: of the last one."""
    bottom: Int32s
    pairs: Int32s
    """(n, 2): labels that share pixel edges; ``length``: how many."""
    length: Int32s


def survey(task: StripTask) -> list[StripSurvey]:
    """What is in each strip of the task. Raises InputError if it cannot be read."""
    return [_survey_strip(strip) for strip in task.strips()]


def label(strip: Strip) -> tuple[Int32s, int]:
    """Label of each pixel of the strip, -1 where there is no class, and how many labels there are."""
    labels = np.empty(strip.classes.shape, np.int32)
    return labels, label_strip(strip.classes, labels)


def _survey_strip(strip: Strip) -> StripSurvey:
    labels, count = label(strip)
    tables = Tables.empty(count)
    tabulate(strip.classes, strip.confidence, labels, *_columns(tables))
    keys = np.full(_slots(count, labels.size), -1, np.int64)
    lengths = np.zeros(len(keys), np.int32)
    count_contacts(labels, keys, lengths)
    used = np.flatnonzero(lengths)
    pairs = np.column_stack([keys[used] >> 32, keys[used] & 0x7FFFFFFF]).astype(np.int32)
    return StripSurvey(strip.row, tables, labels[0].copy(), labels[-1].copy(), pairs, lengths[used])


def _columns(tables: Tables) -> tuple[Ids, Int64s, Int64s, Int64s, NDArray[np.uint8]]:
    return tables.classes, tables.pixels, tables.percent, tables.rated, tables.lowest


def _slots(count: int, pixels: int) -> int:
    """Size of a hash table for all pairs: the graph of contacts is planar, so there are less than 3 a label."""
    return 1 << (2 * min(3 * count, 2 * pixels) + 8).bit_length()


@kernel
def find_root(parent: NDArray[np.signedinteger], one: int) -> int:
    while parent[one] != one:
        parent[one] = parent[parent[one]]
        one = parent[one]
    return one


@kernel
def label_strip(classes: ClassIds, labels: Int32s) -> int:
    """Fill ``labels`` with 4-connected components in the order of their first pixels, -1 for no class; how many.

    Two passes; the first one keeps a union-find forest of pixel indices in ``labels`` itself.
    """
    height, width = classes.shape
    forest = labels.reshape(-1)
    for i in range(height):
        for j in range(width):
            value = classes[i, j]
            here = i * width + j
            north = i > 0 and classes[i - 1, j] == value
            if value == NO_CLASS:
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
    classes: ClassIds,
    confidence: NDArray[np.uint8],
    labels: Int32s,
    class_of: Ids,
    pixels: Int64s,
    percent: Int64s,
    rated: Int64s,
    lowest: NDArray[np.uint8],
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
                    lowest[label] = min(lowest[label], confidence[i, j])


@kernel
def count_contacts(labels: Int32s, keys: Int64s, lengths: Int32s) -> None:
    """Count the pixel edges between labels a < b in a hash table: ``keys`` (a << 32 | b, or -1) and ``lengths``."""
    height, width = labels.shape
    for i in range(height):
        for j in range(width):
            here = labels[i, j]
            if here < 0:
                continue
            if j > 0 and labels[i, j - 1] != here and labels[i, j - 1] >= 0:
                count_contact(here, labels[i, j - 1], keys, lengths)
            if i > 0 and labels[i - 1, j] != here and labels[i - 1, j] >= 0:
                count_contact(here, labels[i - 1, j], keys, lengths)


@kernel
def count_contact(one: int, other: int, keys: Int64s, lengths: Int32s) -> None:
    key = np.int64(min(one, other)) << 32 | np.int64(max(one, other))
    mixed = (key ^ (key >> 29)) * np.int64(0x1E3779B97F4A7C15)
    slot = (mixed ^ (mixed >> 32)) & (len(keys) - 1)
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & (len(keys) - 1)
    keys[slot] = key
    lengths[slot] += 1

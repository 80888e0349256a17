"""Pictures of a map for its page: orthophoto, classes and confidence as a whole, and where the model is least sure."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.mapping.plan import Plan
from aerialseg.raster.classes import ClassFile, to_bytes, to_percent
from aerialseg.raster.grid import Box
from aerialseg.raster.image import class_png, jpeg
from aerialseg.raster.ramp import CONFIDENCE_RAMP
from aerialseg.raster.source import Source

SIDE_PX = 1400
"""Of the pictures of the whole map, at most."""
CELL_PX, PLACES = 128, 10
"""The map is searched for the least certain places in cells of this side; so many are shown."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class UncertainPlace:
    """Where the model is least certain: centre in the CRS, mean confidence (0 to 1), pictures as data addresses."""

    x: float
    y: float
    mean: float
    ortho: str
    classes: str


def whole_map(plan: Plan, classes: Path, confidence: Path, legend: Legend) -> dict[str, str]:
    """Pictures of the whole map as data addresses: "ortho", "classes", "confidence"."""
    with ClassFile(classes) as ids, ClassFile(confidence) as rated:
        mapped = to_bytes(ids.shrink(SIDE_PX), ids.path)
        percent = to_percent(rated.shrink(SIDE_PX), rated.path)
    return {
        "ortho": _address("jpeg", jpeg(_overview(plan, mapped.shape))),
        "classes": _address("png", class_png(mapped, legend)),
        "confidence": _address("png", class_png(_steps(percent), _RAMP)),
    }


def least_certain(plan: Plan, classes: Path, confidence: Path, legend: Legend) -> list[UncertainPlace]:
    """The cells with the lowest mean confidence, of those that are mostly mapped; no two of them are neighbours."""
    with ClassFile(confidence) as rated:
        means = np.concatenate([_cell_means(rated, box) for box in _rows_of_cells(rated.geo.shape)])
    chosen: list[tuple[int, int]] = []
    for flat in np.argsort(means, axis=None, kind="stable"):
        row, col = divmod(int(flat), means.shape[1])
        if len(chosen) == PLACES or not np.isfinite(means[row, col]):
            break
        if all(max(abs(row - r), abs(col - c)) > 1 for r, c in chosen):
            chosen.append((row, col))
    with ClassFile(classes) as ids, Source(plan.view, allow_remote=plan.allow_remote) as source:
        return [_place(plan, ids, source, legend, cell, float(means[cell])) for cell in chosen]


def _place(
    plan: Plan, ids: ClassFile, source: Source, legend: Legend, cell: tuple[int, int], mean: float
) -> UncertainPlace:
    height, width = ids.geo.shape
    top, left = (at * CELL_PX for at in cell)
    box = Box(top, left, min(top + CELL_PX, height), min(left + CELL_PX, width))
    x, y = ids.geo.at((box.left + box.right) / 2, (box.top + box.bottom) / 2)
    pixels, valid = source.read(_in_view(plan, box))
    mapped = to_bytes(ids.read(box), ids.path)
    return UncertainPlace(
        x,
        y,
        mean,
        _address("jpeg", jpeg(np.where(valid, _rgb(pixels), 255).astype(np.uint8))),
        _address("png", class_png(mapped, legend)),
    )


def _in_view(plan: Plan, box: Box) -> Box:
    """A box of the class raster, in working pixels of the source."""
    at = plan.view.local(plan.grid.answered)
    return Box(box.top + at.top, box.left + at.left, box.bottom + at.top, box.right + at.left)


def _overview(plan: Plan, shape: tuple[int, ...]) -> Bytes:
    """The source as it is read, (3, h, w), shrunk to ``shape``: the pixel in the middle of each cell."""
    answered = plan.grid.answered
    rows, cols = (
        np.minimum((np.arange(count) + 0.5) * size / count, size - 1).astype(int)
        for count, size in zip(shape, answered.shape, strict=True)
    )
    picture = np.full((3, *shape), 255, np.uint8)
    with Source(plan.view, allow_remote=plan.allow_remote) as source:
        for index in plan.blocks:
            box = (plan.grid.core(index) & answered).relative_to(answered)
            down = np.flatnonzero((rows >= box.top) & (rows < box.bottom))
            across = np.flatnonzero((cols >= box.left) & (cols < box.right))
            if len(down) and len(across):
                pixels, valid = source.read(_in_view(plan, box))
                row, col = rows[down][:, None] - box.top, cols[across] - box.left
                picture[:, down[:, None], across] = np.where(valid[row, col], _rgb(pixels)[:, row, col], 255)
    return picture


def _rgb(pixels: Bytes) -> Bytes:
    return pixels[:3] if len(pixels) >= 3 else np.repeat(pixels[:1], 3, axis=0)


def _rows_of_cells(shape: tuple[int, int]) -> Iterator[Box]:
    height, width = shape
    for top in range(0, height, CELL_PX):
        yield Box(top, 0, min(top + CELL_PX, height), width)


def _cell_means(rated: ClassFile, box: Box) -> NDArray[np.float64]:
    """(1, cells): mean confidence of a row of cells, NaN where less than half of one is mapped."""
    percent = to_percent(rated.read(box), rated.path)
    starts = np.arange(0, box.width, CELL_PX)
    known = percent != NODATA
    counts = np.add.reduceat(known.sum(axis=0), starts)
    sums = np.add.reduceat(np.where(known, percent, 0).sum(axis=0, dtype=np.int64), starts)
    widths = np.minimum(starts + CELL_PX, box.width) - starts
    return np.where(2 * counts >= widths * box.height, sums / np.maximum(counts, 1) / 100, np.nan)[None]


_RAMP = Legend(tuple(LandClass(number, step.label, step.color) for number, step in enumerate(CONFIDENCE_RAMP)))


def _steps(percent: Bytes) -> Bytes:
    """The number of the ramp's step that each pixel is on."""
    edges = [step.upto for step in CONFIDENCE_RAMP[:-1]]
    return np.where(percent == NODATA, NODATA, np.searchsorted(edges, percent)).astype(np.uint8)


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def spoken_place(x: float, y: float) -> str:
    digits = 1 if math.hypot(x, y) > 1000 else 6
    return f"{x:.{digits}f}, {y:.{digits}f}"

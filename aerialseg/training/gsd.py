"""Ground sampling distance where none is given: from things of known size in the masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAR_LENGTH_M, CAR_WIDTH_M = 4.4, 1.8
"""A European passenger car; most are within a tenth of it."""


@dataclass(frozen=True, slots=True)
class GsdEstimate:
    """Metres per pixel: the median over ``objects`` and the range of the middle half."""

    gsd_m: float
    low_m: float
    high_m: float
    objects: int
    frames: int


def estimate_gsd(
    masks: Iterable[tuple[str, NDArray[np.uint8]]],
    class_id: int,
    *,
    length_m: float = CAR_LENGTH_M,
    width_m: float = CAR_WIDTH_M,
    min_pixels: int = 200,
) -> GsdEstimate | None:
    """The ground sampling distance of class rasters, from the objects of one class; None if no object is usable.

    An object is a 4-connected component that does not touch the frame's border, fills at least 70 % of its bounding
    rectangle (turned along its axes) and has nearly the sides' ratio that it should have; each side says a distance,
    and the object says their geometric mean.
    """
    found = [(name, gsd) for name, mask in masks for gsd in _objects(mask == class_id, length_m, width_m, min_pixels)]
    if not found:
        return None
    low, middle, high = np.percentile([gsd for _, gsd in found], [25, 50, 75])
    return GsdEstimate(float(middle), float(low), float(high), len(found), len({name for name, _ in found}))


def _objects(mask: NDArray[np.bool_], length_m: float, width_m: float, min_pixels: int) -> Iterable[float]:
    from scipy import ndimage  # type: ignore[import-untyped]  # comes with fastai

    labels, _ = ndimage.label(mask)
    height, width = mask.shape
    for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
        inside = rows.start > 0 and cols.start > 0 and rows.stop < height and cols.stop < width
        points = np.argwhere(labels[rows, cols] == number) if inside else np.empty((0, 2), dtype=np.int64)
        if len(points) < min_pixels:
            continue
        long_px, short_px = _sides(points)
        filled, ratio = len(points) / (long_px * short_px), (long_px / short_px) / (length_m / width_m)
        if filled > 0.7 and 0.8 < ratio < 1.25:
            yield float(np.sqrt(length_m * width_m / (long_px * short_px)))


def _sides(points: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Length and width in pixels of the rectangle along the principal axes."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(centred.T))
    extents = np.ptp(centred @ axes, axis=0) + 1
    return float(extents.max()), float(extents.min())


def estimate_from_folder(folder: str | Path, legend_path: str | Path, class_name: str = "car") -> GsdEstimate | None:
    """The estimate over every mask of a folder."""
    from aerialseg.datasets.masks import read_mask
    from aerialseg.legend import Legend

    legend = Legend.from_csv(legend_path)
    class_id = next(entry.id for entry in legend if entry.name == class_name)
    paths = sorted(path for path in Path(folder).iterdir() if path.suffix == ".png")
    return estimate_gsd(((path.stem, read_mask(path, legend)) for path in paths), class_id)

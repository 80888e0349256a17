"""The ground sampling distance of a data set that gives none, from the cars in its masks (docs/model.md).

    python benchmarks/car_gsd.py DIR/label_images_semantic configs/legends/semantic-drone.csv

A car is a 4-connected component that does not touch the frame's border, fills at least 70 % of the rectangle along its
principal axes and has nearly a car's ratio of sides. Its distance is the geometric mean of what its two sides say.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from aerialseg.datasets.masks import read_mask
from aerialseg.legend import Legend

LENGTH_M, WIDTH_M = 4.4, 1.8
"""A European passenger car; most are within a tenth of it."""
LEAST_PIXELS = 200


def distances(mask: NDArray[np.bool_]) -> Iterator[float]:
    """Metres per pixel, as each car of the mask says."""
    labels, _ = ndimage.label(mask)
    height, width = mask.shape
    for number, (rows, cols) in enumerate(ndimage.find_objects(labels), start=1):
        inside = rows.start > 0 and cols.start > 0 and rows.stop < height and cols.stop < width
        points = np.argwhere(labels[rows, cols] == number) if inside else np.empty((0, 2), dtype=np.int64)
        if len(points) < LEAST_PIXELS:
            continue
        long_px, short_px = sides(points)
        filled, ratio = len(points) / (long_px * short_px), (long_px / short_px) / (LENGTH_M / WIDTH_M)
        if filled > 0.7 and 0.8 < ratio < 1.25:
            yield float(np.sqrt(LENGTH_M * WIDTH_M / (long_px * short_px)))


def sides(points: NDArray[np.integer[Any]]) -> tuple[float, float]:
    """Length and width in pixels of the rectangle along the principal axes."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(np.cov(centred.T))
    extents = np.ptp(centred @ axes, axis=0) + 1
    return float(extents.max()), float(extents.min())


def main() -> None:
    """Print the median over all cars, the middle half and the extremes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("masks", type=Path)
    parser.add_argument("legend", type=Path)
    given = parser.parse_args()
    legend = Legend.from_csv(given.legend)
    car = next(entry.id for entry in legend if entry.name == "car")
    found = {path: list(distances(read_mask(path, legend) == car)) for path in sorted(given.masks.glob("*.png"))}
    cars = [metres for part in found.values() for metres in part]
    least, low, median, high, most = np.percentile(cars, [0, 25, 50, 75, 100])
    print(
        f"{len(cars)} cars in {sum(map(bool, found.values()))} of {len(found)} masks: median {median:.3f} m per pixel,"
    )
    print(f"middle half {low:.3f} to {high:.3f} m, extremes {least:.3f} and {most:.3f} m")


if __name__ == "__main__":
    main()

"""A few labels for the demo scene, as a person would draw them: small polygons inside one class, under own names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.datasets.class_colours import pick_colours
from aerialseg.datasets.label_layer import write_label_layer
from aerialseg.raster.georef import GeoGrid

OWN_NAMES = {
    "paved-area": "paved",
    "grass": "grass",
    "gravel": "gravel",
    "dirt": "soil",
    "vegetation": "tree",
    "tree": "tree",
    "roof": "building",
    "pool": "water",
    "car": "car",
}
"""The scene's classes -> what a town might call them; what is not here has no labels."""
EACH = 12
"""Labels of a class."""
SIDES_PX = (56, 28, 14)
"""Sides of squares in which a label is drawn, the first of which there is one."""
_TRIES = 40


def write_demo_labels(path: Path, truth: NDArray[np.uint8], names: dict[int, str], geo: GeoGrid, seed: int) -> bool:
    """Whether the scene holds anything to label, which then is in the GeoPackage ``path``. Raises OutputError."""
    rng = np.random.default_rng(seed)
    shapes, labels = [], []
    for own in dict.fromkeys(OWN_NAMES.values()):
        mask = np.isin(truth, [number for number, name in names.items() if OWN_NAMES.get(name) == own])
        for corners in _drawn(mask, rng):
            shapes.append(shapely.Polygon([geo.at(float(col), float(row)) for row, col in corners]))
            labels.append(own)
    if shapes:
        legend = pick_colours(sorted(set(labels)), {})
        write_label_layer(path, np.array(shapes, np.object_), labels, legend, geo.crs)
    return bool(shapes)


def _drawn(mask: NDArray[np.bool_], rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Corners (4, 2) of uneven quadrangles wholly inside a class, apart from each other."""
    free, left = mask.copy(), EACH
    for side in SIDES_PX:
        for _ in range(_TRIES):
            places = np.flatnonzero(_fits(free, side)) if left else np.zeros(0, np.intp)
            if not len(places):
                break
            row, col = divmod(int(rng.choice(places)), free.shape[1] - side + 1)
            free[row : row + side, col : col + side] = False
            left -= 1
            inside = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)]) * (side - 2) + (row + 1, col + 1)
            yield inside + rng.uniform(0, side / 5, (4, 2)) * ((1, 1), (1, -1), (-1, -1), (-1, 1))


def _fits(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """For each place of a square's upper left corner, whether all of the square is in the mask."""
    if min(mask.shape) < side:
        return np.zeros((0, 0), np.bool_)
    sums = np.pad(mask.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    fits: NDArray[np.bool_] = found == side * side
    return fits

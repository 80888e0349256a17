"""A few labels for the demo scene, as a person would draw them: small polygons inside one class, under own names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.datasets.class_colours import pick_colours
from aerialseg.datasets.label_layer import write_label_layer
from aerialseg.legend import NODATA
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
"""Labels of a class that are drawn inside it."""
SIDES_PX = (40, 24, 14)
"""Sides of squares in which a label is drawn, the first of which there is one."""
BLOCKS, BLOCK_PX = 6, 72
"""Squares of ground that are labelled wholly, up to the edges of what is there."""
_TRIES, _BLOCK_TRIES = 8, 300


def write_demo_labels(path: Path, truth: NDArray[np.uint8], names: dict[int, str], geo: GeoGrid, seed: int) -> bool:
    """Whether the scene holds anything to label, which then is in the GeoPackage ``path``. Raises OutputError."""
    rng, own = np.random.default_rng(seed), list(dict.fromkeys(OWN_NAMES.values()))
    numbers = np.full(256, NODATA, np.uint8)
    for number, name in names.items():
        numbers[number] = own.index(OWN_NAMES[name]) if name in OWN_NAMES else NODATA
    classes = numbers[truth]
    drawn = list(_blocks(classes, rng))
    for number in range(len(own)):
        drawn += [(number, shape) for shape in _inside(classes == number, rng)]
    if drawn:
        shapes = shapely.transform(
            [shape for _, shape in drawn], lambda xy: np.stack(geo.at(xy[:, 0], xy[:, 1]), axis=1)
        )
        labels = [own[number] for number, _ in drawn]
        write_label_layer(path, shapes, labels, pick_colours(sorted(set(labels)), {}), geo.crs)
    return bool(drawn)


def _blocks(classes: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[tuple[int, Any]]:
    """(class, polygon in pixels) of all that is in the squares where most classes meet, apart from each other."""
    height, width = classes.shape
    if min(height, width) <= BLOCK_PX:
        return
    places = rng.integers(0, (height - BLOCK_PX, width - BLOCK_PX), (_BLOCK_TRIES, 2)).tolist()
    windows = [classes[row : row + BLOCK_PX, col : col + BLOCK_PX] for row, col in places]
    order = sorted(range(len(places)), key=lambda at: -len(np.unique(windows[at])))
    taken: list[list[int]] = []
    for at in order:
        row, col = places[at]
        if len(taken) < BLOCKS and all(abs(row - r) + abs(col - c) > 2 * BLOCK_PX for r, c in taken):
            taken.append(places[at])
            for number in np.unique(windows[at][windows[at] != NODATA]).tolist():
                yield number, _outline(windows[at] == number, row, col)


def _outline(mask: NDArray[np.bool_], row: int, col: int) -> Any:
    """The pixels of a mask, whose first one is at (row, col), as one shape."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    (rows, starts), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return shapely.union_all(shapely.box(col + starts, row + rows, col + ends, row + rows + 1))


def _inside(mask: NDArray[np.bool_], rng: np.random.Generator) -> Iterator[Any]:
    """Uneven quadrangles in pixels, wholly inside a class, far apart from each other."""
    free, taken = mask.copy(), np.zeros((0, 2))
    for side in SIDES_PX:
        while len(taken) < EACH and len(places := np.flatnonzero(_fits(free, side))):
            across = free.shape[1] - side + 1
            tried = np.stack(np.divmod(rng.choice(places, _TRIES), across), axis=1)
            far = np.abs(tried[:, None] - taken).sum(axis=2).min(axis=1) if len(taken) else np.zeros(_TRIES)
            row, col = tried[int(far.argmax())].tolist()
            free[row : row + side, col : col + side] = False
            taken = np.concatenate([taken, [(row, col)]])
            corners = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]) * (side - 2) + (col + 1, row + 1)
            yield shapely.Polygon(corners + rng.uniform(0, side / 5, (4, 2)) * ((1, 1), (-1, 1), (-1, -1), (1, -1)))


def _fits(mask: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    """For each place of a square's upper left corner, whether all of the square is in the mask."""
    if min(mask.shape) < side:
        return np.zeros((0, 0), np.bool_)
    sums = np.pad(mask.astype(np.int32).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    found = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    fits: NDArray[np.bool_] = found == side * side
    return fits

"""Test-time averaging: a tile is looked at in its eight flips and turns, and the probabilities are averaged.

What a network says of a thing depends a little on how it lies; a map should not. It costs eight times the work. Windows
lie on the lattice of the network's stride, and so do their flips and turns: a tile still equals the whole image.
(Known as test-time augmentation; over the symmetries of the square: Cohen & Welling 2016, arXiv 1602.07576.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.model.engine import Engine
from aerialseg.model.interface import NOT_FINITE, Tile
from aerialseg.raster.grid import Box

if TYPE_CHECKING:
    from torch import Tensor

BYTES_PER_CLASS = 20.0
"""Memory for each class of each pixel, five arrays of 4 bytes: a look's, as it is turned back in two steps, the sum of
those before it, and what the runtime keeps of its last answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A symmetry of the square: left and right are exchanged or not, then so many quarter turns."""

    quarters: int
    mirrored: bool

    def pixels(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array turned in its last two axes."""
        return np.rot90(array[..., ::-1] if self.mirrored else array, self.quarters, (-2, -1))

    def ahead(self, values: Tensor) -> Tensor:
        """The tensor turned in its last two axes."""
        return (values.flip(-1) if self.mirrored else values).rot90(self.quarters, (-2, -1))

    def back(self, values: Tensor) -> Tensor:
        """The tensor that was turned, as it lay before."""
        upright = values.rot90(-self.quarters, (-2, -1))
        return upright.flip(-1) if self.mirrored else upright

    def upright(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array that was turned, as it lay before."""
        upright = np.rot90(array, -self.quarters, (-2, -1))
        return upright[..., ::-1] if self.mirrored else upright

    def box(self, box: Box, shape: tuple[int, int]) -> Box:
        """Where the pixels of a box lie once the array of this shape that it counts in is turned."""
        height, width = shape
        if self.mirrored:
            box = Box(box.top, width - box.right, box.bottom, width - box.left)
        for _ in range(self.quarters):
            box = Box(width - box.right, box.top, width - box.left, box.bottom)
            height, width = width, height
        return box


TURNS = tuple(Turn(quarters, mirrored) for mirrored in (False, True) for quarters in range(4))


Placed = list[tuple[tuple[int, int], Any]]
"""For each of TURNS: (rows, columns) of the tile before it, the turned tile as the engine has placed it."""


class AveragingEngine:
    """An engine that answers by the mean of another one's probabilities over all TURNS."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.concurrent_calls = engine, engine.concurrent_calls

    def place(self, tile: Tile) -> Placed:
        shape = tile.window.shape
        return [(shape, self._engine.place(_turned(tile, turn))) for turn in TURNS]

    def answer(self, placed: Placed, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.uint8]:
        return most_likely(self.probabilities(placed, windows, window, core))

    def probabilities(self, placed: Placed, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.float32]:
        looks = self._looks(placed, windows, window, core)
        total = np.array(next(looks))
        for look in looks:
            total += look
        total /= len(TURNS)
        return total

    def _looks(self, placed: Placed, windows: Sequence[Box], window: Box, core: Box) -> Iterator[NDArray[np.float32]]:
        for turn, (shape, there) in zip(TURNS, placed, strict=True):
            turned = [turn.box(box, shape) for box in windows]
            ours = turn.box(window, window.shape), turn.box(core, window.shape)
            yield turn.upright(self._engine.probabilities(there, turned, *ours))

    def release(self) -> None:
        self._engine.release()


def _turned(tile: Tile, turn: Turn) -> Tile:
    """The tile turned; its window begins at the origin."""
    shape, core = tile.window.shape, tile.core.relative_to(tile.window)
    window = Box(0, 0, *turn.pixels(tile.valid).shape)
    return Tile(turn.pixels(tile.pixels), turn.pixels(tile.valid), window, turn.box(core, shape))


def most_likely(probabilities: NDArray[np.float32]) -> NDArray[np.uint8]:
    """uint8 (B, 2, h, w) of probabilities (B, classes, h, w): the best class, and its own per cent (or NOT_FINITE)."""
    best = probabilities.max(axis=1)  # NaN where any of them is
    percent = np.nan_to_num(np.clip(np.rint(best * 100), 0, 100), nan=NOT_FINITE)
    return np.stack([probabilities.argmax(axis=1), percent], axis=1).astype(np.uint8)

"""Test-time averaging: a tile is looked at in its eight flips and turns, and the probabilities are averaged.

What a network says of a thing depends a little on how it lies; a map should not. It costs eight times the work. Windows
lie on the lattice of the network's stride, and so do their flips and turns: a tile still equals the whole image.
(Known as test-time augmentation; over the symmetries of the square: Cohen & Welling 2016, arXiv 1602.07576.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.model.engine import Engine, most_likely
from aerialseg.model.interface import Tile
from aerialseg.raster.grid import Box

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
        return torch.rot90(values.flip(-1) if self.mirrored else values, self.quarters, (-2, -1))

    def back(self, values: Tensor) -> Tensor:
        """What was turned, as it lay before."""
        upright = torch.rot90(values, -self.quarters, (-2, -1))
        return upright.flip(-1) if self.mirrored else upright

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
        return most_likely(self.probabilities(placed, windows, window, core)).numpy()

    @torch.inference_mode()
    def probabilities(self, placed: Placed, windows: Sequence[Box], window: Box, core: Box) -> Tensor:
        looks = self._looks(placed, windows, window, core)
        total = next(looks)
        for look in looks:
            total += look
        return total.div_(len(TURNS))

    def _looks(self, placed: Placed, windows: Sequence[Box], window: Box, core: Box) -> Iterator[Tensor]:
        for turn, (shape, there) in zip(TURNS, placed, strict=True):
            turned = [turn.box(box, shape) for box in windows]
            ours = turn.box(window, window.shape), turn.box(core, window.shape)
            yield turn.back(self._engine.probabilities(there, turned, *ours))

    def release(self) -> None:
        self._engine.release()


def _turned(tile: Tile, turn: Turn) -> Tile:
    """The tile turned; its window begins at the origin."""
    shape, core = tile.window.shape, tile.core.relative_to(tile.window)
    window = Box(0, 0, *turn.pixels(tile.valid).shape)
    return Tile(turn.pixels(tile.pixels), turn.pixels(tile.valid), window, turn.box(core, shape))

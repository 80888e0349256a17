"""The seam between the raster pipeline and whatever answers for its pixels.

Everything outside ``model/`` and ``training/`` knows a model through these types alone, so it is tested with fakes that
need no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aerialseg.model.card import ModelCard
from aerialseg.raster.grid import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Pixels to answer for, and around them what they depend on.

    pixels: uint8 (C, h, w), bands in the card's order, covering ``window``.
    valid: bool (h, w); False where nodata or beyond the raster. What ``pixels`` holds there means nothing.
    window: the box that was read; its edges are multiples of the card's stride.
    core: the box to answer for, inside ``window``; its edges may lie anywhere.
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    window: Box
    core: Box


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """classes: uint8 (h', w') of the core, never 255; confidence: uint8 (h', w'), per cent 0..100.

    Both are defined for every pixel of the core: the caller masks what is not valid.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


class Predictor(Protocol):
    """Answers for tiles. Safe to call from several threads; the answer depends on the tile alone."""

    def predict(self, tile: Tile) -> Prediction: ...


class PredictorSpec(Protocol):
    """A predictor as data: picklable and cheap; ``load`` gives one per process, made once."""

    @property
    def card(self) -> ModelCard: ...

    def load(self) -> Predictor: ...

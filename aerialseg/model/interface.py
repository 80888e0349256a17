"""The seam between the raster pipeline and whatever answers for its pixels.

Everything outside ``model/`` and ``training/`` knows a model through these types alone, so it is tested with fakes that
need no torch. A model of your own derives from both base classes, or from one each:

>>> @dataclass(frozen=True)
... class Greenness(Predictor, PredictorSpec):
...     card: ModelCard
...
...     def load(self) -> Greenness:
...         return self
...
...     def predict(self, tile: Tile) -> Prediction:
...         red, green, _ = tile.pixels[:, *tile.core.within(tile.window)]
...         return Prediction((green > red).astype(np.uint8), np.full(red.shape, 50, np.uint8))
>>> aerialseg.segment("ortho.tif", "green.gpkg", model=Greenness(card))
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import UsageError
from aerialseg.legend import NODATA
from aerialseg.model.card import ModelCard
from aerialseg.raster.grid import Box

NOT_FINITE = 255
"""Stands for a confidence that is not a number, on its way from the device: such pixels have no class."""


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Pixels to answer for, and around them what they depend on.

    pixels: uint8 (C, h, w), bands in the card's order, covering ``window``.
    valid: bool (h, w); False where nodata or beyond the raster. What ``pixels`` holds there means nothing.
    window: the box that was read; its edges are multiples of the card's stride.
    core: the box to answer for, inside ``window``; its edges may lie anywhere.
    place: what to call the core in messages, where its numbers say nothing to a person.
    """

    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    window: Box
    core: Box
    place: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """classes: uint8 (h', w') of the core, never 255; confidence: uint8 (h', w'), per cent 0..100.

    Both are defined for every pixel of the core: the caller masks what is not valid.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]

    def masked(self, valid: NDArray[np.bool_]) -> Prediction:
        """The same, 255 where the pixels of the core are not valid."""
        if valid.all():
            return self
        return Prediction(*(np.where(valid, band, np.uint8(NODATA)) for band in (self.classes, self.confidence)))


class _HasCard:
    if TYPE_CHECKING:  # only there: a dataclass would take a property for the default of its field of that name

        @property
        @abstractmethod
        def card(self) -> ModelCard:
            """What goes in and comes out: bands, classes, ground sampling distance, halo, lattice."""


class Predictor(_HasCard, ABC):
    """Answers for tiles; the answer depends on the tile alone. Derive from it and define ``card`` and ``predict``.

    Whatever else callers ask of a predictor is declared here, with a default.
    """

    concurrent_calls: int = 1
    """How many calls of ``predict`` at a time are worth while; the gate lets in no more."""

    tile: int | None = None
    """Pixels along the side of what is computed at once, for estimates of time; None: a tile, however large."""

    @abstractmethod
    def predict(self, tile: Tile) -> Prediction:
        """Classes and confidence of the core. Called with the ``gate`` held: by ``concurrent_calls`` threads at most.

        Raises ResourceError where the device has too little memory.
        """

    @property
    def gate(self) -> threading.Semaphore:
        """The only gate to the device: ``with predictor.gate: predictor.predict(tile)``, in whatever thread.

        It is the caller who enters it, so that waiting for the device is not taken for predicting.
        """
        gate: threading.Semaphore = self.__dict__.setdefault("_gate", threading.Semaphore(self.concurrent_calls))
        return gate

    def release(self) -> None:
        """Give back memory that is held between tiles; the next tile takes it again. By default there is none."""

    def predict_array(self, pixels: NDArray[np.uint8], valid: NDArray[np.bool_] | None = None) -> Prediction:
        """Class ids and confidence in per cent, both uint8 (h, w), of a whole image; safe to call from any thread.

        pixels: uint8 (C, h, w), any size; bands in the card's order, pixels of about the card's ground sampling
        distance. valid: bool (h, w), False where there is no data; the answer is 255 there. The answer equals what
        `segment` writes for a raster without a coordinate system; where there is one, `segment` counts the network's
        lattice from its origin instead of the image's corner. Raises UsageError, ResourceError.
        """
        bands, shape = len(self.card.bands), pixels.shape[1:]
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != bands or 0 in shape:
            raise UsageError(f"pixels are {pixels.dtype} {pixels.shape}: wanted uint8 ({bands}, height, width)")
        inside = np.ones(shape, np.bool_) if valid is None else valid
        if inside.dtype != np.bool_ or inside.shape != shape:
            raise UsageError(f"valid is {inside.dtype} {inside.shape}: wanted bool {shape}")
        core = Box(0, 0, *shape)
        window = core.align(self.card.stride)
        padding = [(0, window.height - core.height), (0, window.width - core.width)]
        tile = Tile(np.pad(pixels, [(0, 0), *padding]), np.pad(inside, padding), window, core)
        with self.gate:
            return self.predict(tile).masked(inside)

    def __getstate__(self) -> dict[str, Any]:
        """Without the gate, which belongs to this process."""
        return {name: value for name, value in vars(self).items() if name != "_gate"}


class PredictorSpec(_HasCard, ABC):
    """A predictor as data: picklable and cheap. Derive from it and define ``card`` and ``load``.

    Whatever else callers ask of a spec is declared here, with a default. If one of those is a field of your dataclass,
    give the field a default, too.
    """

    @abstractmethod
    def load(self) -> Predictor:
        """The predictor, made once per process. Raises ModelError, ResourceError."""

    @property
    def numerics(self) -> str:
        """What it computes in, such as "cpu torch fp32": blocks of two kinds are never mixed in one result.

        By default nothing is known of it. Raises UsageError, ResourceError.
        """
        return ""

    @property
    def tta(self) -> bool:
        """Whether it averages over flips and turns; by default it does not."""
        return False

    @property
    def device(self) -> str:
        """Where it computes; anything but "cpu", the default, prefers workers with a GPU."""
        return "cpu"

    def on_workers(self) -> PredictorSpec:
        """The same predictor, as processes on other machines load it; by default nothing differs."""
        return self

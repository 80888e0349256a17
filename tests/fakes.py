"""Predictors that need no torch: each answers something whose right value can be seen at a glance."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from aerialseg.legend import LandClass, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import Prediction, Predictor, PredictorSpec, Tile

LEGEND = Legend(
    tuple(
        LandClass(number, name, color)
        for number, (name, color) in enumerate(
            [
                ("water", (40, 90, 200)),
                ("grass", (90, 170, 60)),
                ("forest", (20, 90, 30)),
                ("road", (120, 120, 120)),
                ("roof", (170, 60, 50)),
                ("bare soil", (160, 120, 80)),
            ]
        )
    )
)
CARD = ModelCard(name="fake", legend=LEGEND, gsd_m=0.1, halo=64, weights_sha256="0" * 64)


class Fake(Predictor, PredictorSpec):
    """A predictor that is its own spec."""

    def load(self) -> Predictor:
        return self


@dataclass(frozen=True)
class Oracle(Fake):
    """The first band is the class, the second one the confidence."""

    card: ModelCard = CARD

    def predict(self, tile: Tile) -> Prediction:
        classes, confidence = tile.pixels[(slice(0, 2), *tile.core.within(tile.window))]
        return Prediction(np.minimum(classes, len(self.card.legend) - 1), np.minimum(confidence, 100))


@dataclass(frozen=True)
class Contextual(Fake):
    """The class depends on every pixel within the halo and on the lattice: a wrong window shows at once."""

    card: ModelCard = CARD

    def predict(self, tile: Tile) -> Prediction:
        reach = self.card.halo
        values = np.where(tile.valid, tile.pixels.sum(axis=0, dtype=np.int64) + 1, 0)
        summed = _moving_sum(_moving_sum(values, reach, 0), reach, 1)
        rows = np.arange(tile.window.height)[:, None] % self.card.stride
        cols = np.arange(tile.window.width)[None, :] % self.card.stride
        mixed = (summed * 7 + rows * 3 + cols)[tile.core.within(tile.window)]
        return Prediction((mixed % len(self.card.legend)).astype(np.uint8), (mixed % 101).astype(np.uint8))


def _moving_sum(values: np.ndarray, reach: int, axis: int) -> np.ndarray:
    """Sum over ``2 * reach + 1`` cells, zero beyond the array."""
    width = [(0, 0), (0, 0)]
    width[axis] = (reach + 1, reach)
    total = np.cumsum(np.pad(values, width), axis=axis)
    size = values.shape[axis]
    ends = np.arange(size) + 2 * reach + 1
    return np.take(total, ends, axis=axis) - np.take(total, np.arange(size), axis=axis)


@dataclass(frozen=True)
class Flaky(Fake):
    """An oracle that dies at its n-th block; ``log`` is a file that counts what was asked."""

    log: Path
    dies_at: int
    error: type[BaseException] = RuntimeError
    inner: Oracle = field(default_factory=Oracle)

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    def predict(self, tile: Tile) -> Prediction:
        with open(self.log, "a") as file:
            file.write("x")
        if len(self.log.read_text()) >= self.dies_at:
            raise self.error("the fake died, as it was told to")
        return self.inner.predict(tile)


@dataclass(frozen=True)
class Slow(Fake):
    """An oracle that sleeps."""

    seconds: float
    inner: Oracle = field(default_factory=Oracle)

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    def predict(self, tile: Tile) -> Prediction:
        time.sleep(self.seconds)
        return self.inner.predict(tile)


def with_halo(halo: int) -> ModelCard:
    return replace(CARD, halo=halo)

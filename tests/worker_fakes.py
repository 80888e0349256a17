"""Predictors for tests with workers in processes of their own: they show what they do to the process that runs them."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from aerialseg.errors import ModelError
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import Prediction, Predictor, Tile
from tests.fakes import Contextual, Fake


def corner_of(tile: Tile) -> tuple[int, int]:
    """Row and column of the tile's core in the raster: its own numbers count from the lattice's origin."""
    top, _, left, _ = map(int, re.findall(r"\d+", tile.place))
    return top, left


@dataclass(frozen=True)
class Watched(Fake):
    """The contextual fake. It takes ``seconds`` and leaves in ``log`` a file for each call: process, begin and end."""

    log: Path
    seconds: float = 0.0
    device: str = "cpu"
    inner: Contextual = field(default_factory=Contextual)

    @property
    def card(self) -> ModelCard:
        return self.inner.card

    @property
    def numerics(self) -> str:
        return os.environ.get("TEST_NUMERICS", "fake")

    def predict(self, tile: Tile) -> Prediction:
        began = time.time()
        top, left = corner_of(tile)
        name = f"{top}-{left}-{os.getpid()}-{time.monotonic_ns()}"
        (self.log / f"{name}.begun").touch()
        time.sleep(self.seconds)
        self.suffer(tile)
        answer = self.inner.predict(tile)
        (self.log / f"{name}.done").write_text(f"{os.getpid()} {began} {time.time()}")
        return answer

    def suffer(self, tile: Tile) -> None:
        pass


@dataclass(frozen=True)
class Hungry(Watched):
    """Takes more memory than the worker has, for the first block of the raster alone."""

    size_mb: int = 600

    def suffer(self, tile: Tile) -> None:
        if corner_of(tile) == (0, 0):
            held = np.ones(self.size_mb * 2**20, np.uint8)
            time.sleep(20)
            del held


@dataclass(frozen=True)
class Absent(Watched):
    """Cannot be loaded where the environment says so."""

    def load(self) -> Predictor:
        if "TEST_NO_MODEL" in os.environ:
            raise ModelError("there is no model 'fake'")
        return self


def threads_of_torch() -> tuple[int, int]:
    """(process, threads that torch uses there)."""
    import torch

    time.sleep(0.05)
    return os.getpid(), torch.get_num_threads()


def process_of(number: int) -> int:
    """The process that ran it, after a while."""
    time.sleep(0.05)
    return os.getpid()


def fails_at(number: int, wanted: int, log: str) -> int:
    """The number, unless it is ``wanted``; what was begun is a file.

    Each takes a second, for on a busy machine an error needs nearly one until it is known.
    """
    Path(log, str(number)).touch()
    if number == wanted:
        raise ModelError(f"number {number} is the wrong one")
    time.sleep(1)
    return number

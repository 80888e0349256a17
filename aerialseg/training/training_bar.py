"""One bar over all that a training has still to compute, in pixels that are weighed by what they cost."""

from __future__ import annotations

import time
from collections.abc import Sequence

from aerialseg.progress import Progress, spoken_duration
from aerialseg.training.config import Step

_COST = {1: 1.0, 2: 0.7, 4: 0.4, 8: 0.22, 16: 0.15}
"""Stride -> time of a pixel, as a part of the whole network's."""
_WATCHED = 1 / 3
"""Time of a pixel that is only looked at, as a part of one that is learnt from."""
_SURE_S, _LONG_S = 20.0, 120.0
"""When the time of the whole is estimated, and from what time on it is said."""


class TrainingBar:
    """Steps after one another as one stage of ``progress``; what an earlier run has done is not part of it.

    learnt, watched: frames of an epoch.
    """

    def __init__(self, progress: Progress, steps: Sequence[Step], learnt: int, watched: int) -> None:
        self._progress, self._steps = progress, steps
        self._frames = learnt, watched
        self._open, self._said = False, False
        self._at = self._begun_at = 0.0
        self._begun = time.monotonic()

    def begin(self, step: int, epoch: int) -> None:
        """Training goes on at this epoch of this step; the stage is said anew where another one was said since."""
        self._at = self._place(step, epoch)
        if not self._open:
            self._open, self._begun_at, self._begun = True, self._at, time.monotonic()
            self._progress.stage("train", max(1.0, self._whole - self._at))

    def interrupt(self) -> None:
        """Another stage is about to be said."""
        self._open = False

    def batch(self, step: int, crops: int, *, learning: bool) -> None:
        """So many crops were learnt from, or looked at."""
        self._move(self._at + crops * self._cost(step, learning=learning))

    def epoch_ended(self, step: int, epoch: int) -> None:
        """All of an epoch is done, whatever its batches said."""
        self._move(self._place(step, epoch + 1))

    def _move(self, place: float) -> None:
        place = max(self._at, min(place, self._whole))
        self._progress.advance(place - self._at)
        self._at = place
        spent = time.monotonic() - self._begun
        if self._said or spent < _SURE_S or self._at <= self._begun_at:
            return
        self._said = True
        left = spent * (self._whole - self._at) / (self._at - self._begun_at)
        if left > _LONG_S:
            self._progress.note(f"about {spoken_duration(left)} for the rest of the training on this machine")

    def _cost(self, step: int, *, learning: bool) -> float:
        rows, cols = self._steps[step].seen if learning else self._steps[step].size
        return rows * cols * _COST[self._steps[step].stride] * (1.0 if learning else _WATCHED)

    def _place(self, step: int, epoch: int) -> float:
        """Where an epoch begins."""
        learnt, watched = self._frames
        costs = [
            learnt * self._cost(number, learning=True) + watched * self._cost(number, learning=False)
            for number in range(len(self._steps))
        ]
        before = sum(one.epochs * cost for one, cost in zip(self._steps[:step], costs, strict=False))
        return before + (epoch * costs[step] if epoch else 0.0)

    @property
    def _whole(self) -> float:
        return self._place(len(self._steps), 0)

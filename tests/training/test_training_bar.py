"""One bar over a whole training: it moves forwards, ends at its end, and says no time that it cannot know."""

from __future__ import annotations

import pytest

from aerialseg.progress import Silent
from aerialseg.training import training_bar
from aerialseg.training.config import Step
from aerialseg.training.training_bar import TrainingBar

STEPS = (Step((64, 64), 2, 4, 1e-3, stride=8), Step((128, 128), 1, 4, 1e-3, crop=(64, 64)))


class Bar(Silent):
    def __init__(self) -> None:
        self.stages: list[float] = []
        self.moves: list[float] = []
        self.notes: list[str] = []

    def stage(self, name: str, total: float) -> None:
        self.stages.append(total)

    def advance(self, amount: float) -> None:
        self.moves.append(amount)

    def note(self, message: str) -> None:
        self.notes.append(message)


def walk(bar: TrainingBar, begin: tuple[int, int] = (0, 0), drop: int = 0) -> None:
    """All epochs from ``begin`` on, of 10 frames to learn from, of which ``drop`` are left out, and 3 to watch."""
    for step, epochs in ((0, 2), (1, 1)):
        first = begin[1] if step == begin[0] else 0
        if step < begin[0]:
            continue
        bar.begin(step, first)
        for epoch in range(first, epochs):
            for _ in range(10 - drop):
                bar.batch(step, 1, learning=True)
            bar.batch(step, 3, learning=False)
            bar.epoch_ended(step, epoch)


@pytest.mark.parametrize("begin", [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("drop", [0, 2])
def test_steps_are_one_stage_that_ends_when_the_last_one_does(begin: tuple[int, int], drop: int) -> None:
    heard = Bar()
    walk(TrainingBar(heard, STEPS, 10, 3), begin, drop)
    assert len(heard.stages) == 1
    assert sum(heard.moves) == pytest.approx(heard.stages[0])
    assert min(heard.moves) >= 0
    assert sum(heard.moves[:-1]) < heard.stages[0] * (1 + 1e-9)


def test_coarse_steps_take_little_of_the_bar() -> None:
    heard = Bar()
    bar = TrainingBar(heard, STEPS, 10, 0)
    bar.begin(0, 0)
    bar.epoch_ended(0, 1)
    assert sum(heard.moves) / heard.stages[0] == pytest.approx(0.44 / 1.44)


def test_after_another_stage_what_is_left_is_a_stage_of_its_own() -> None:
    heard = Bar()
    bar = TrainingBar(heard, STEPS, 10, 3)
    bar.begin(0, 0)
    bar.epoch_ended(0, 1)
    bar.interrupt()
    bar.begin(1, 0)
    assert heard.stages[1] == pytest.approx(heard.stages[0] - sum(heard.moves))


@pytest.mark.parametrize(("seconds", "said"), [(25.0, True), (1.0, False)])
def test_a_long_training_says_how_long(monkeypatch: pytest.MonkeyPatch, seconds: float, said: bool) -> None:
    heard, clock = Bar(), [0.0]
    monkeypatch.setattr(training_bar.time, "monotonic", lambda: clock[0])
    bar = TrainingBar(heard, STEPS, 1000, 0)
    bar.begin(0, 0)
    for _ in range(10):
        clock[0] += seconds / 10
        bar.batch(0, 1, learning=True)
    assert bool(heard.notes) == said
    if said:
        assert heard.notes[0].endswith("for the rest of the training on this machine")

"""How a model was trained, drawn from what its card keeps: learning curves and searches for the learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aerialseg.evaluation.axes import text
from aerialseg.evaluation.charts import LineSeries, Mark, lines

CURVES = (
    ("loss", (("train_loss", "on what it learns from"), ("valid_loss", "on what it does not")), False),
    ("Dice shown while training", (("dice_shown", "DiceMulti"),), False),
    ("highest learning rate", (("lr", "learning rate"),), True),
)
"""(label of the y axis, (key of a record, name of the line) ..., whether the axis is logarithmic)."""


def curves(training: Mapping[str, Any]) -> list[str]:
    """A chart for each of CURVES that the card's ``training["history"]`` has values of, by epochs, steps marked."""
    history: Sequence[Mapping[str, Any]] = training.get("history", ())
    marks = step_marks(training)
    drawn = []
    for label, wanted, log in CURVES:
        found = [(key, name) for key, name in wanted if any(_value(record, key) is not None for record in history)]
        series = [
            LineSeries(name, range(1, len(history) + 1), [_number(record, key) for record in history])
            for key, name in found
        ]
        if series:
            drawn.append(lines(series, "epoch", label, log_y=log, marks=marks, size=(270, 520)))
    return drawn


def step_marks(training: Mapping[str, Any]) -> list[Mark]:
    """Where each step begins, named by the size of its frames."""
    history, steps = training.get("history", ()), steps_of(training)
    numbers = [record.get("step", 0) for record in history]
    starts = [place for place, number in enumerate(numbers) if place == 0 or number != numbers[place - 1]]
    return [Mark(place + 1, _step_name(numbers[place], steps)) for place in starts]


def steps_of(training: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The steps of the run's configuration; cards of aerialseg 0.1 hold them by themselves."""
    steps: Sequence[Mapping[str, Any]] = training.get("steps") or training.get("config", {}).get("steps", ())
    return steps


def searches(training: Mapping[str, Any]) -> list[str]:
    """A chart for each search for a learning rate in the card's ``training["searches"]``, the rate taken marked."""
    drawn = []
    for search in training.get("searches", ()):
        rates, losses = search.get("lrs", ()), search.get("losses", ())
        if not rates:
            continue
        name = _step_name(search.get("step", 0), steps_of(training))
        batch = f", batch {search['batch']}" if search.get("batch") else ""
        taken = _value(search, "chosen") or _value(search, "lr")
        marks = [Mark(taken, f"taken: {text(taken)}")] if taken else []
        pairs = list(zip(rates, losses, strict=False))
        line = LineSeries(f"{name}{batch}", [rate for rate, _ in pairs], [loss for _, loss in pairs], dots=False)
        finite = [loss for _, loss in pairs if loss is not None and math.isfinite(loss)]
        ceiling = _ceiling(finite)
        drawn.append(lines([line], "learning rate", "loss", log_x=True, y_range=ceiling, marks=marks, size=(240, 340)))
    return drawn


def _ceiling(losses: Sequence[float]) -> tuple[float, float] | None:
    """A range that shows the valley: a search ends where the loss explodes, which would flatten all the rest."""
    if not losses:
        return None
    low, start = min(losses), losses[0]
    return low - 0.05 * (start - low) - 1e-3, max(start, low) + 0.5 * (start - low) + 1e-3


def _step_name(number: int, steps: Sequence[Mapping[str, Any]]) -> str:
    size = steps[number].get("size") if 0 <= number < len(steps) else None
    return f"{size[0]} x {size[1]} px" if size else f"step {number + 1}"


def _value(record: Mapping[str, Any], key: str) -> float | None:
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _number(record: Mapping[str, Any], key: str) -> float:
    value = _value(record, key)
    return math.nan if value is None else value

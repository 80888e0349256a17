"""Axes of charts: from values to pixels, with round values along the way."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

TICKS = 6


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to pixels: ``low`` comes to lie at ``start``, ``high`` at ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """(pixel, text) of round values inside the axis."""
        return [(self(value), text(value)) for value in round_values(self.low, self.high, log=self.log)]


def round_values(low: float, high: float, *, log: bool = False) -> list[float]:
    """About ``TICKS`` round values from ``low`` to ``high``; powers of ten where ``log``, if two of them fit."""
    if log:
        powers = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
        if len(powers) >= 2:
            return [10.0**power for power in powers[:: -(-len(powers) // TICKS)]]
        fine = (times * 10.0**power for power in range(powers.start - 1, powers.stop + 1) for times in (1, 2, 5))
        return [value for value in fine if low <= value <= high]
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def text(value: float) -> str:
    """A number as short as it can be said: 0.25, 12,000, 3e-05."""
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.2g}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def value_range(values: Iterable[float], log: bool, margin: float) -> tuple[float, float]:
    """(low, high) around the values, never empty."""
    values = list(values) or ([1.0, 10.0] if log else [0.0, 1.0])
    low, high = min(values), max(values)
    if log:
        return (low, high) if high > low * 1.01 else (low / 2, high * 2)
    room = (high - low) * margin or (0.5 if high == low else 0.0)
    return low - room, high + room

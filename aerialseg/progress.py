"""How a run tells what it is doing, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """A listener. ``stage`` begins one (and ends the one before); ``advance`` adds to it; ``note`` is one sentence."""

    def note(self, message: str) -> None: ...

    def stage(self, name: str, total: float) -> None: ...

    def advance(self, amount: float) -> None: ...


class Silent:
    """Listens to nothing."""

    def note(self, message: str) -> None:
        pass

    def stage(self, name: str, total: float) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass


def spoken_duration(seconds: float) -> str:
    """Seconds as a person says them: ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min {rest:02d} s"


def spoken_bytes(size: int) -> str:
    """Bytes as a person says them: ``12 MB``, ``3.4 GB``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6)):,} MB"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where that is right: ``1 frame``, ``2 classes``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def fractions(progress: Progress) -> Callable[[float], None]:
    """A function that takes the fraction of a stage (of size 1) that is done, and advances ``progress``."""
    done = 0.0

    def report(fraction: float) -> None:
        nonlocal done
        progress.advance(fraction - done)
        done = fraction

    return report

"""How a run tells what it is doing, without knowing who listens."""

from __future__ import annotations

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

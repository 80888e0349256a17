"""Training and scoring of models: the only place that imports fastai (install ``aerialseg[train]``).

``train`` is here; ``aerialseg.training.evaluate.evaluate`` and ``aerialseg.training.export.export`` are where their
names say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aerialseg.training.schedule import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aerialseg.training.schedule import train

    return train

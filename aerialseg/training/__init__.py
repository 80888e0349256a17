"""Training and scoring of models: the only place that imports fastai (install ``aerialseg[train]``).

``train`` is here; ``aerialseg.training.evaluate.evaluate`` and ``aerialseg.training.export.export`` are where their
names say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aerialseg.errors import UsageError

if TYPE_CHECKING:
    from aerialseg.training.schedule import train

__all__ = ["train"]
_EXTRA = ("fastai", "fastcore", "torchvision", "PIL", "scipy")


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from aerialseg.training.schedule import train
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise UsageError(f"training needs {error.name}: pip install 'aerialseg[train]'") from error
    return train

"""Training and scoring of models: the only place that imports fastai (install ``aerialseg[train]``).

``train`` and ``experiment`` are here; the rest is where its name says.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerialseg.errors import UsageError

if TYPE_CHECKING:
    from aerialseg.training.experiments import experiment
    from aerialseg.training.teaching.teach_run import teach
    from aerialseg.training.train_run import train

__all__ = ["experiment", "teach", "train"]
_HOMES = {
    "experiment": "experiments",
    "teach": "teaching.teach_run",
    "train": "train_run",
}
_EXTRA = ("torch", "fastai", "fastcore", "torchvision", "PIL", "scipy")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise UsageError(f"training needs {error.name}: pip install 'aerialseg[train]'") from error
    return getattr(module, name)

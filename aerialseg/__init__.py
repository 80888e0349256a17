"""aerialseg: aerial imagery into land-cover maps that people trust.

>>> import aerialseg
>>> result = aerialseg.segment("ortho.tif", "landcover.gpkg")
>>> result.classes

Names are imported when they are first used (PEP 562): ``import aerialseg`` itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__

if TYPE_CHECKING:
    from aerialseg.datasets.demo import draw_demo
    from aerialseg.errors import AerialsegError, InputError, ModelError, OutputError, ResourceError, UsageError
    from aerialseg.evaluation.evaluate import evaluate
    from aerialseg.evaluation.map_accuracy import assess_map
    from aerialseg.legend import LandClass, Legend
    from aerialseg.mapping.polygonize import polygonize
    from aerialseg.mapping.result import Result
    from aerialseg.mapping.segment import segment
    from aerialseg.model.card import ModelCard
    from aerialseg.model.predictor import load_model
    from aerialseg.training import teach, train
    from aerialseg.training.fastai_learner import learner, save_model

_HOMES = {
    "draw_demo": "aerialseg.datasets.demo",
    "AerialsegError": "aerialseg.errors",
    "InputError": "aerialseg.errors",
    "ModelError": "aerialseg.errors",
    "OutputError": "aerialseg.errors",
    "ResourceError": "aerialseg.errors",
    "UsageError": "aerialseg.errors",
    "LandClass": "aerialseg.legend",
    "Legend": "aerialseg.legend",
    "ModelCard": "aerialseg.model.card",
    "load_model": "aerialseg.model.predictor",
    "Result": "aerialseg.mapping.result",
    "segment": "aerialseg.mapping.segment",
    "teach": "aerialseg.training",
    "learner": "aerialseg.training.fastai_learner",
    "save_model": "aerialseg.training.fastai_learner",
    "train": "aerialseg.training",
    "evaluate": "aerialseg.evaluation.evaluate",
    "assess_map": "aerialseg.evaluation.map_accuracy",
    "polygonize": "aerialseg.mapping.polygonize",
}

__all__ = [
    "AerialsegError",
    "InputError",
    "LandClass",
    "Legend",
    "ModelCard",
    "ModelError",
    "OutputError",
    "ResourceError",
    "Result",
    "UsageError",
    "__version__",
    "assess_map",
    "draw_demo",
    "evaluate",
    "learner",
    "load_model",
    "polygonize",
    "save_model",
    "segment",
    "teach",
    "train",
]


def __getattr__(name: str) -> Any:
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'aerialseg' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

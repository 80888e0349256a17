"""What computes a run: the model that was named, or a predictor that was made elsewhere, as the settings want it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.errors import UsageError
from aerialseg.mapping.settings import MapSettings
from aerialseg.model.card import split_tiling
from aerialseg.model.interface import PredictorSpec

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster

PathLike = str | Path


def choose_predictor(
    model: PathLike | PredictorSpec | None, settings: MapSettings, cluster: Cluster | None
) -> PredictorSpec:
    """What computes a run, on the cluster's workers where there is one. Raises ModelError, UsageError."""
    if model is None or isinstance(model, (str, Path)):
        from aerialseg.model.predictor import resolve

        if cluster is None:
            return resolve(model, **settings.computing)
        found = resolve(model, **(settings.computing | {"device": "cpu"}))
        model = replace(found, device=settings.device)  # which only the workers need to have
    else:
        _check_kind(model)
        _check_same(model, settings)
    return model if cluster is None else cluster.fitted(model)


def _check_kind(model: object) -> None:
    if not isinstance(model, PredictorSpec):
        raise UsageError(
            f"model is a {type(model).__name__}: wanted a folder, a name, or a PredictorSpec of "
            "aerialseg.model.interface (derive from it: it has a default for whatever your model need not say)"
        )


def _check_same(model: PredictorSpec, settings: MapSettings) -> None:
    """Raise ModelError or UsageError where a predictor made elsewhere is not as asked: it cannot be changed."""
    if model.card.tiled(*split_tiling(settings.tiling)).tiling != model.card.tiling:
        raise UsageError(
            f"the predictor's tiles are {model.card.tiling}, wanted {settings.tiling}: set tiling and halo "
            "where you make the predictor (aerialseg.model.predictor.resolve)"
        )
    if settings.tta and not model.tta:
        raise UsageError(
            "the predictor has no test-time augmentation, wanted tta: set it where you make the predictor "
            "(aerialseg.model.predictor.resolve)"
        )

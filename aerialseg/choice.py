"""Which network computes: a model by its place or name, or a predictor that the caller has made, as is asked for."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.errors import UsageError
from aerialseg.plan import Computing

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.workers import Cluster

PathLike = str | Path


def choose_predictor(
    model: PathLike | PredictorSpec | None, computing: Computing, cluster: Cluster | None
) -> PredictorSpec:
    """What computes a run, on the cluster's workers where there is one. Raises ModelError, UsageError."""
    if model is None or isinstance(model, (str, Path)):
        from aerialseg.model.store import resolve

        wanted = asdict(computing)
        if cluster is None:
            return resolve(model, **wanted)
        found = resolve(model, **(wanted | {"device": "cpu"}))
        model = replace(found, device=computing.device)  # which only the workers need to have
    else:
        _check_same(model, computing)
    return model if cluster is None else cluster.fitted(model)


def _check_same(model: PredictorSpec, computing: Computing) -> None:
    """Raise ModelError or UsageError where a predictor made elsewhere is not as asked: it cannot be changed."""
    if model.card.tiled(computing.tiling, computing.halo_px).tiling != model.card.tiling:
        raise UsageError(
            f"the predictor's tiles are {model.card.tiling}, wanted {computing.tiling}: give tiling and halo to what "
            "makes it (aerialseg.model.store.resolve)"
        )
    if computing.tta and not getattr(model, "tta", False):
        raise UsageError(
            "the predictor looks once, wanted tta: give it to what makes it (aerialseg.model.store.resolve)"
        )

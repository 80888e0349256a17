"""The card of a trained model, and its weights as they are kept."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor

from aerialseg._version import __version__
from aerialseg.datasets.layout import RGB_NORMALISATION, Normalisation
from aerialseg.legend import Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.networks import build
from aerialseg.training.config import TrainingConfig
from aerialseg.training.norm_folding import with_norm


def network_state(config: TrainingConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint as those of the model that is kept."""
    return with_norm(weights) if config.decoder.norm == "batch" else dict(weights)


def make_card(config: TrainingConfig, normalisation: Normalisation = RGB_NORMALISATION) -> ModelCard:
    """The card of a trained model but for its hash and scores; the halo is the network's own reach."""
    legend, bands = Legend.from_csv(config.data.legend), config.data.bands
    architecture = config.architecture
    with torch.device("meta"):
        network = build(classes=len(legend), bands=len(bands), **asdict(architecture))
    return ModelCard(
        name=config.name,
        legend=legend,
        gsd_m=config.data.gsd_m,
        bands=bands,
        mean=normalisation.mean,
        std=normalisation.std,
        scale=config.data.scale,
        architecture=architecture,
        halo=network.reach.halo,
        void=config.data.void,
        description=config.description,
        licence=config.licence,
        lineage=config.lineage,
        training={"frame_size": list(config.data.size)},
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        code_version=__version__,
    )

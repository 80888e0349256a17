"""The kinds of network by the name that a model card gives, and one of them made for a card."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.encoders import ENCODERS
from aerialseg.model.global_layers import NORMS
from aerialseg.model.light_unet import LightUNet
from aerialseg.model.network import Network
from aerialseg.model.smp_unet import SmpUNet
from aerialseg.model.stage_heads import StageHeads
from aerialseg.model.unet import UNet

NETWORKS: dict[str, Any] = {
    "fastai-dynamic-unet": UNet,
    "light-unet": LightUNet,
    "smp-unet": SmpUNet,
    "stage-heads": StageHeads,
}
"""A card's ``architecture.decoder`` -> the network: a subclass of ``Network``, called as ``UNet`` is."""


def build(encoder: str, classes: int, *, bands: int = 3, blur: bool = False, **options: Any) -> Network:
    """The untrained network of an encoder's name; ``options`` are the other ones of ``Architecture``.

    Raises ModelError if a name is not known.
    """
    architecture = Architecture(encoder=encoder, blur=blur, **options)
    for what, name, known in (
        ("encoder", architecture.encoder, ENCODERS),
        ("decoder", architecture.decoder, NETWORKS),
        ("norm", architecture.norm, NORMS),
        ("norm", architecture.encoder_norm, NORMS),
    ):
        if name not in known:
            raise ModelError(f"{what} {name!r} is not known: wanted one of {', '.join(known)}")
    made = NETWORKS[architecture.decoder](ENCODERS[architecture.encoder], classes, bands=bands, options=architecture)
    network: Network = made
    return network


def build_for(card: ModelCard) -> Network:
    """The untrained network that a card describes. Raises ModelError."""
    return build(classes=len(card.groups or card.legend), bands=len(card.bands), **asdict(card.architecture))

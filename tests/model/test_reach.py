"""The reach derived from kernels, strides and paddings is the one that a NaN probe finds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture
from aerialseg.model.encoders import ENCODERS
from aerialseg.model.network import Network
from aerialseg.model.networks import build
from aerialseg.model.probe import probe, touches
from aerialseg.model.reach import Margin, margin_before, unbounded_layers
from aerialseg.model.unet import UNet
from tests.model.nets import lively_network

HALOS = {
    "resnet18": (352, 384),
    "resnet34": (608, 640),
    "resnet50": (352, 384),
    "resnet101": (640, 672),
    "resnet152": (864, 896),
    "resnext50_32x4d": (352, 384),
    "resnext101_32x8d": (640, 672),
    "resnext101_64x4d": (640, 672),
    "wide_resnet50_2": (352, 384),
    "wide_resnet101_2": (640, 672),
    "resnet10-narrow": (256, 288),
}
"""Pixels without and with blur. A reach knows no channels, so the networks below have few of them."""


QUICK = ("resnet34", "resnet50", "resnet10-narrow")


def slender(encoder: str, *, blur: bool) -> Network:
    shape = replace(ENCODERS[encoder], widths=(4, 4, 4, 4), groups=1, group_width=64)
    return UNet(shape, 2, options=Architecture(encoder, blur=blur)).eval()


@pytest.mark.parametrize("blur", [False, True])
@pytest.mark.parametrize(
    "encoder", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in HALOS]
)
def test_the_probe_finds_what_was_derived_and_not_a_cell_less(encoder: str, blur: bool) -> None:
    network = slender(encoder, blur=blur)
    with torch.device("meta"):
        assert build(encoder, 2, blur=blur).reach == network.reach
    found = probe(network)
    assert found.halo == network.reach.halo == HALOS[encoder][blur]
    assert found.tight
    assert found.image == network.reach.image


def test_every_encoder_has_been_probed() -> None:
    assert set(HALOS) == set(ENCODERS)


def test_a_reach_that_falls_one_pixel_short_is_found_out() -> None:
    network = lively_network()
    network._reach = replace(network.reach, image=network.reach.image - 1)
    with pytest.raises(ModelError, match="more than 224 px away"):
        probe(network)


def test_a_halo_with_room_to_spare_is_not_tight() -> None:
    network = lively_network()
    network._reach = replace(network.reach, image=network.reach.halo + 1)
    assert not probe(network).tight


@pytest.mark.parametrize("options", [{"self_attention": True}, {"norm": "instance"}, {"encoder_norm": "group"}])
def test_poison_at_any_distance_comes_through_layers_without_a_reach(options: dict[str, object]) -> None:
    network = lively_network(**options)
    assert all(touches(network, margin, axis) for margin in (256, 512, 1024) for axis in (2, 3))


@pytest.mark.parametrize(
    ("layer", "before"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), Margin(4, 6)),
        (nn.Conv2d(1, 1, 3, stride=2, padding=1), Margin(7, 10)),
        (nn.Conv2d(1, 1, 7, stride=2, padding=3), Margin(9, 12)),
        (nn.Conv2d(1, 1, 3, padding=2, dilation=2), Margin(5, 7)),
        (nn.MaxPool2d(3, 2, 1), Margin(7, 10)),
        (nn.PixelShuffle(2), Margin(2, 3)),
        (nn.Sequential(nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)), Margin(4, 5)),
        (nn.ReLU(), Margin(3, 5)),
    ],
)
def test_margins_go_backwards_through_a_layer(layer: nn.Module, before: Margin) -> None:
    assert margin_before(layer, Margin(3, 5)) == before


def test_a_layer_of_unknown_reach_is_refused_and_named() -> None:
    with pytest.raises(TypeError, match="GroupNorm"):
        margin_before(nn.GroupNorm(1, 4), Margin(1, 1))
    layers = nn.Sequential(nn.ReLU(), nn.Sequential(nn.Upsample(scale_factor=2)))
    assert list(unbounded_layers(layers)) == ["1.0 (Upsample)"]

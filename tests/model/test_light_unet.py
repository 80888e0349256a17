"""The light U-Net: fastai's layers down to stride 8, and no further than its reach.

That its tiles are exact on every runtime is tested with smp's Unet.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from aerialseg.errors import ModelError
from aerialseg.model.encoders import ENCODERS
from aerialseg.model.light_unet import SHARED, LightUNet
from aerialseg.model.networks import build
from aerialseg.model.probe import probe
from tests.model.nets import NARROW


def test_its_coarse_layers_are_fastais_by_name_and_shape() -> None:
    with torch.device("meta"):
        light, whole = build("resnet34", 24, decoder="light-unet", norm="batch"), build("resnet34", 24, norm="batch")
    shapes = [
        {name: tensor.shape for name, tensor in network.state_dict().items() if int(name.split(".")[1]) < SHARED}
        for network in (light, whole)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("encoder", "halo"), [("resnet34", 608), (NARROW, 256)])
def test_the_probe_finds_what_was_derived_and_not_a_cell_less(encoder: str, halo: int) -> None:
    network = LightUNet(replace(ENCODERS[encoder], widths=(4, 4, 4, 4)), 2).eval()
    found = probe(network)
    assert found.halo == network.reach.halo == halo
    assert found.tight
    assert found.image == network.reach.image


@pytest.mark.parametrize("option", ["blur", "self_attention"])
def test_what_it_has_not_is_refused(option: str) -> None:
    with pytest.raises(ModelError, match="neither blur nor self_attention"):
        build(NARROW, 3, decoder="light-unet", **{option: True})

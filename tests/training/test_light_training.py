"""A light U-Net starts from fastai's U-Net, keeps what it has from it while the rest learns, and grows from there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from aerialseg.errors import UsageError
from aerialseg.model.card import Architecture
from aerialseg.model.light_unet import SHARED
from aerialseg.model.networks import build
from aerialseg.model.store import load_network
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.growing.finer_layers import initialise_finer_layers
from aerialseg.training.growing.partial_unet import PartialUNet
from tests.drawn_frames import CONFIG, DRAWN
from tests.training.test_smp_training import save_unet
from tests.training.test_train import write_config

STEPS = """
[decoder]
kind = "light-unet"

[[steps]]
size = [64, 64]
stride = 8
frozen = true
epochs = 4
batch = 4
lr = 1e-2

[[steps]]
size = [64, 64]
frozen = true
keep_norms = true
epochs = 1
batch = 4
lr = 1e-4
"""
LIGHT = CONFIG.partition("[[steps]]")[0].replace('start = "scratch"', 'start = "model"\ncalibrate = 0') + STEPS


def known(state: Any) -> dict[str, torch.Tensor]:
    """What a light U-Net shares with fastai's, by name."""
    layers = {name: tensor for name, tensor in state.items() if name.startswith("layers.")}
    return {name: tensor for name, tensor in layers.items() if int(name.split(".")[1]) < SHARED}


@pytest.mark.long
@pytest.mark.slow
def test_what_it_has_from_the_model_before_stays_while_the_rest_learns(few_frames: Path, tmp_path: Path) -> None:
    before = tmp_path / "before"
    save_unet(before, DRAWN, norm="batch")
    config = write_config(few_frames, tmp_path, LIGHT)
    made = train(config, few_frames, tmp_path / "made", encoder_weights=before, keep_checkpoints=True)
    saved = read_checkpoint(made / "training", "step1.safetensors")
    assert saved is not None
    given, learnt = known(load_network(before)[1].state_dict()), known(saved.weights)
    assert given.keys() == learnt.keys()
    assert all(torch.equal(given[name], learnt[name]) for name in given)
    assert load_network(made)[0].architecture == Architecture("resnet18", decoder="light-unet", norm="batch")


@pytest.mark.slow
@pytest.mark.parametrize("coarse", [8, 4])
def test_a_grown_network_says_what_the_coarse_one_said(coarse: int) -> None:
    torch.manual_seed(0)
    model = build("resnet18", 5, decoder="light-unet", norm="batch")
    images = [torch.randn(2, 3, 64, 96) for _ in range(6)]
    small = PartialUNet(model, coarse, 5)
    before = model.eval()(images[0]).argmax(1)
    initialise_finer_layers(model, small.aside.weight, small.aside.bias, coarse, images)
    with torch.inference_mode():
        wanted, said = (one.eval()(images[0]).argmax(1)[:, 24:-24, 24:-24] for one in (small, model))
    assert (said == wanted).float().mean() > 0.9
    assert (before[:, 24:-24, 24:-24] == wanted).float().mean() < 0.8


def test_more_classes_than_it_carries_are_refused() -> None:
    model = build("resnet18", 33, decoder="light-unet", norm="batch")
    small = PartialUNet(model, 8, 33)
    with pytest.raises(UsageError, match="too narrow for so many classes"):
        initialise_finer_layers(model, small.aside.weight, small.aside.bias, 8, [])

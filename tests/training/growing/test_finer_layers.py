"""Finer layers begin with what the coarse classifier says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.model.store import load_card, load_whole_card
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.growing.finer_layers import initialise_finer_layers
from aerialseg.training.growing.partial_unet import PartialUNet
from aerialseg.training.norm_folding import CLASSIFIER
from aerialseg.training.torchvision_compat import patch_torchvision
from tests.drawn_frames import CONFIG
from tests.training.test_train import write_config

patch_torchvision()
from fastai.vision.all import NormType, create_unet_model  # noqa: E402
from torchvision import models  # noqa: E402

CLASSES = 5


def network(norm: NormType | None) -> Any:
    torch.manual_seed(0)
    model = create_unet_model(models.resnet18, CLASSES, (64, 64), pretrained=False, norm_type=norm)
    last = model.layers[CLASSIFIER][0]
    model.layers[CLASSIFIER] = nn.Sequential(nn.Conv2d(last.in_channels, CLASSES, 1))
    return model


def softened(logits: Tensor, coarse: int, fine: int) -> Tensor:
    """Doubled and softened again and again, from stride ``coarse`` to ``fine``; not softened from stride 2 on."""
    line = torch.tensor([0.25, 0.5, 0.25])
    kernel = (line[:, None] * line).expand(CLASSES, 1, 3, 3)
    stride = coarse
    while stride > fine:
        logits, stride = F.interpolate(logits, scale_factor=2, mode="nearest"), stride // 2
        logits = F.conv2d(logits, kernel, padding=1, groups=CLASSES) if stride > 1 else logits
    return logits


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("norm", [None, NormType.Batch])
@pytest.mark.parametrize(("coarse", "fine"), [(16, 1), (8, 1), (2, 1), (8, 2), (4, 2)])
def test_a_grown_network_says_what_the_coarse_one_said(norm: NormType | None, coarse: int, fine: int) -> None:
    model = network(norm)
    images = [torch.randn(2, 3, 64, 96) for _ in range(6)]
    small = PartialUNet(model, coarse, CLASSES, hints=3)
    grown = model if fine == 1 else PartialUNet(model, fine, CLASSES, hints=3)
    before = torch.Tensor(grown.eval()(images[0])).argmax(1)
    initialise_finer_layers(grown, small.aside.weight[:CLASSES], small.aside.bias[:CLASSES], coarse, images)
    with torch.inference_mode():
        for module in (small, grown):
            module.eval()
        features = images[0]
        for layer in small.layers[: small.last]:
            features = layer(features)
        logits = small.aside(features)[:, :CLASSES]
        wanted = F.interpolate(softened(logits, coarse, fine), (64, 96), mode="bilinear", align_corners=False)
        said = torch.Tensor(grown(images[0]))
    said, wanted = said[..., 24:-24, 24:-24], wanted[..., 24:-24, 24:-24]  # zeros lie beyond the edges
    spread = float(wanted.std())
    assert float((said - wanted).abs().mean()) < (1e-3 if norm is None else 0.15) * spread
    assert (said.argmax(1) == wanted.argmax(1)).float().mean() > 0.95
    assert (before[..., 24:-24, 24:-24] == wanted.argmax(1)).float().mean() < 0.8  # and that is not for nothing


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_whole_network_goes_on_where_the_coarse_one_stopped(drawn_data: Path, tmp_path: Path, norm: str) -> None:
    """After a whole step that learns next to nothing it does about as well as the coarse one did."""
    text = CONFIG.replace("[augment]", f'[decoder]\nnorm = "{norm}"\n\n[augment]').replace(
        "epochs = 6", "stride = 4\nepochs = 6"
    )
    last = "epochs = 2\nbatch = 4\nlr = 1e-3"
    assert last in text
    text = text.replace(last, "epochs = 1\nkeep_norms = true\nbatch = 4\nlr = 1e-7")
    out = train(write_config(drawn_data, tmp_path, text), drawn_data, tmp_path / "model", keep_checkpoints=True)
    history = load_whole_card(out).training["history"]
    coarse, whole = (next(r for r in reversed(history) if r["step"] == step) for step in (0, 1))
    assert whole["dice_shown"] > 0.6 * coarse["dice_shown"]
    saved = read_checkpoint(out / "training")
    assert saved is not None
    assert load_card(out).scores["held_out"]["pixel_accuracy"] > 0.5

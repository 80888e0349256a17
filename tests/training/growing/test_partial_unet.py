"""A step with a stride trains the same network but for its finest layers, which it leaves as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from aerialseg.errors import UsageError
from aerialseg.model.networks import build
from aerialseg.model.store import load_whole_card
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import TrainingConfig
from aerialseg.training.growing.partial_unet import PartialUNet, load_weights, network_weights
from aerialseg.training.torchvision_compat import patch_torchvision
from tests.drawn_frames import CONFIG

patch_torchvision()
from fastai.vision.all import create_unet_model  # noqa: E402
from torchvision import models  # noqa: E402

STRIDES = (2, 4, 8, 16)


def fastais() -> Any:
    torch.manual_seed(0)
    return create_unet_model(models.resnet18, 5, (64, 64), pretrained=False)


@pytest.mark.slow
@pytest.mark.parametrize("stride", STRIDES)
def test_classes_are_read_from_the_networks_own_features(stride: int) -> None:
    """The plain network, carried out by hand down to the stride, and the coarse classifier: the same logits."""
    shallow = PartialUNet(fastais(), stride, 5).eval()
    plain = build("resnet18", 5).eval()
    plain.load_state_dict(network_weights(shallow.state_dict()))
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        out, skips = x, []
        for number, stage in enumerate(plain.encoder_stages()):
            out = stage(out)
            skips += [out] if number != 1 else []
        out = plain.middle()(skips.pop())
        for doubling in plain.doublings():
            out = doubling.join(doubling.enlarge(out), skips.pop())
            if 64 // out.shape[-2] == stride:
                break
        wanted = F.interpolate(shallow.aside(out), (64, 96), mode="bilinear", align_corners=False)
        assert torch.equal(torch.Tensor(shallow(x)), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("stride", STRIDES)
def test_finer_layers_get_no_gradient_and_coarser_ones_do(stride: int) -> None:
    shallow = PartialUNet(fastais(), stride, 5).train()
    torch.Tensor(shallow(torch.randn(2, 3, 64, 64))).square().mean().backward()
    learns = {
        name.split(".")[1]: parameter.grad is not None
        for name, parameter in shallow.named_parameters()
        if name.startswith("layers.") and name.endswith("weight")
    }
    finest = 4 + {16: 0, 8: 1, 4: 2, 2: 3}[stride]
    assert learns == {layer: int(layer) <= finest for layer in learns}
    assert shallow.aside.weight.grad is not None


@pytest.mark.slow
def test_a_coarse_classifier_is_kept_for_its_own_stride_alone() -> None:
    first = PartialUNet(fastais(), 8, 5)
    kept = {
        name: torch.randn_like(value) if value.is_floating_point() else value
        for name, value in first.state_dict().items()
    }
    again, finer, whole = PartialUNet(fastais(), 8, 5), PartialUNet(fastais(), 4, 5), fastais()
    for model in (again, finer, whole):
        load_weights(model, kept)
        assert all(torch.equal(model.state_dict()[name], value) for name, value in network_weights(kept).items())
    assert torch.equal(again.aside.weight, kept["aside.weight"])
    assert finer.aside.weight.shape != kept["aside.weight"].shape


STRIDED = CONFIG.replace("epochs = 6", "stride = 8\nepochs = 6").replace("epochs = 2", "epochs = 4")


def write(drawn_data: Path, folder: Path, text: str) -> Path:
    for name in ("legend.csv", "split.csv"):
        (folder / name).write_bytes((drawn_data / name).read_bytes())
    (folder / "train.toml").write_text(text)
    return folder / "train.toml"


@pytest.mark.long
@pytest.mark.slow
def test_a_step_with_a_stride_learns_and_its_classifier_is_not_in_the_next(drawn_data: Path, tmp_path: Path) -> None:
    config = write(drawn_data, tmp_path, STRIDED)
    out = train(config, drawn_data, tmp_path / "model", keep_checkpoints=True)
    card = load_whole_card(out)
    shares = [entry["share"] for entry in card.scores["held_out"]["per_class"].values()]
    coarse = [record for record in card.training["history"] if record["step"] == 0]
    assert coarse[-1]["valid_loss"] < coarse[0]["valid_loss"]
    assert card.scores["held_out"]["pixel_accuracy"] > max(shares)
    first = read_checkpoint(out / "training", "step0.safetensors")
    last = read_checkpoint(out / "training")
    assert first is not None
    assert last is not None
    assert "aside.weight" in first.weights
    assert "aside.weight" not in last.weights


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STRIDED.replace("stride = 8", "stride = 3"), "a step's stride is 3; wanted one of 1, 2, 4, 8, 16"),
        (CONFIG.replace("epochs = 2", "epochs = 2\nstride = 8"), "the last step has a stride"),
    ],
)
def test_a_stride_that_cannot_be_is_a_usage_error(drawn_data: Path, tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        TrainingConfig.read(write(drawn_data, tmp_path, text))

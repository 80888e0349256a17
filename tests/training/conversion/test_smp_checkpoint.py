"""Checkpoints of smp's Unet become models that say the same, whoever wrapped them, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor

from aerialseg.cli import cli
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.model.card import Architecture
from aerialseg.model.networks import build
from aerialseg.model.store import load_network
from aerialseg.training.conversion.convert import convert_checkpoint
from tests.house import ROOT
from tests.model.nets import NARROW, lively_network, smooth_noise

ABOUT = """
name = "drawn-20cm"
gsd_m = 0.2
mean = [105.08, 110.87, 101.82]
std = [52.17, 45.38, 44.00]
licence = "etalab-2.0"
classes = [
    {name = "building", colour = "#db0e9a"},
    {name = "water", colour = "#1553ae"},
    {name = "tree", colour = "#46e483"},
    {name = "clear cut", colour = "#8ab3a0", predicted = false},
]
"""
CRITERION = {"criterion.weight": torch.ones(4), "criterion.bce.pos_weight": torch.ones(4)}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return lively_network(classes=4, decoder="smp-unet", norm="batch").state_dict()


@pytest.fixture
def about(tmp_path: Path) -> Path:
    (tmp_path / "about.toml").write_text(ABOUT)
    return tmp_path / "about.toml"


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flair", "torchgeo", "geoai", "safetensors"])
def test_it_becomes_a_model_that_says_the_same_under_whatever_prefix(
    state: dict[str, Tensor], tmp_path: Path, about: Path, kind: str
) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    prefix = {"flair": "model.seg_model.", "torchgeo": "model."}.get(kind, "")
    contents: Any = prefixed(state, prefix) | (CRITERION if prefix else {})
    if kind == "safetensors":
        save_file(contents, path)
    else:
        torch.save({"state_dict": contents, "epoch": 3} if kind == "torchgeo" else contents, path)
    card, network = load_network(convert_checkpoint(path, tmp_path / "out", about))
    assert card.architecture == Architecture(NARROW, decoder="smp-unet", norm="batch")
    assert (card.name, card.gsd_m, card.licence, card.void) == ("drawn-20cm", 0.2, "etalab-2.0", (3,))
    assert card.legend[0].color == (0xDB, 0x0E, 0x9A)
    assert card.mean[0] * 255 == pytest.approx(105.08)
    assert card.std[2] * 255 == pytest.approx(44.0)
    assert card.exact
    assert card.halo == network.reach.halo
    original = lively_network(classes=4, decoder="smp-unet", norm="batch")
    image = smooth_noise(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network(image), original(image))


@pytest.mark.slow
def test_a_file_of_flairs_names_and_shapes_is_read(tmp_path: Path) -> None:
    """278 tensors, 19 classes, ResNet-34; the weights are random, as the real ones could not be had."""
    network = build("resnet34", 19, decoder="smp-unet", norm="batch")
    assert len(network.state_dict()) == 278
    torch.save(prefixed(network.state_dict(), "model.seg_model.") | CRITERION, tmp_path / "flair.pth")
    made = convert_checkpoint(tmp_path / "flair.pth", tmp_path / "out", ROOT / "configs/models/flair-inc-rgb.toml")
    card, _ = load_network(made)
    assert (len(card.legend), card.void, card.halo, card.gsd_m) == (19, (14, 15, 16, 18), 544, 0.2)


@pytest.mark.parametrize("change", ["one missing", "one more", "another prefix", "two networks"])
def test_names_that_do_not_fit_exactly_are_refused_and_nothing_is_written(
    state: dict[str, Tensor], tmp_path: Path, about: Path, change: str
) -> None:
    contents = prefixed(state, "model.")
    if change == "one missing":
        del contents["model.decoder.blocks.2.conv1.0.weight"]
    elif change == "two networks":
        contents |= prefixed(state, "teacher.")
    else:
        contents["model.more" if change == "one more" else "other.weight"] = torch.zeros(2)
    torch.save(contents, tmp_path / "w.pth")
    told = {"another prefix": r"do not begin with 'model\.' \(first 'other\.weight'\)", "two networks": "2 names end"}
    with pytest.raises(ModelError, match=told.get(change, "fit no network known here")):
        convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", about)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('    {name = "tree", colour = "#46e483"},\n', ""), "the network has 4 classes, the description 3"),
        (("gsd_m = 0.2", 'gsd_m = 0.2\nbands = ["red", "green", "blue", "nir"]'), "takes 3 bands, the description 4"),
    ],
)
def test_a_description_of_another_network_is_refused(
    state: dict[str, Tensor], tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    (tmp_path / "about.toml").write_text(ABOUT.replace(*change))
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=told):
        convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", tmp_path / "about.toml")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("#db0e9a", "magenta"), "the colour of 'building' is 'magenta': wanted #rrggbb"),
        (("gsd_m = 0.2\n", ""), "lacks the key 'gsd_m'"),
        (("licence", "license"), "unknown key 'license'.*did you mean 'licence'"),
    ],
)
def test_a_description_with_a_mistake_names_file_and_key(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    (tmp_path / "about.toml").write_text(ABOUT.replace(*change))
    (tmp_path / "w.pth").write_bytes(b"")
    with pytest.raises(UsageError, match=f"about.toml.*{told}"):
        convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", tmp_path / "about.toml")


def test_weights_of_smp_without_a_description_say_what_to_give(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    found = CliRunner().invoke(cli, ["model", "convert", str(tmp_path / "w.pth"), str(tmp_path / "out")])
    assert found.exit_code == 2
    assert "--about" in found.stderr


def test_a_description_that_is_not_there_is_an_input_error(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"about\.toml"):
        convert_checkpoint(tmp_path / "w.pth", tmp_path / "out", tmp_path / "about.toml")

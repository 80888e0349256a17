"""A classifier is trained without a norm and kept with one, and says the same both ways."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aerialseg.model.card import Architecture
from aerialseg.model.networks import build
from aerialseg.model.store import load_card, load_network
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.norm_folding import fold_batch_norms, with_norm
from tests.drawn_frames import CONFIG
from tests.model.nets import lively_network
from tests.training.test_train import write_config

CONV, NORM = "layers.12.0.", "layers.12.1."


def answer(state: dict[str, Tensor], x: Tensor) -> Tensor:
    out = F.conv2d(x, state[CONV + "weight"], state.get(CONV + "bias"))
    if NORM + "weight" not in state:
        return out
    mean, var = state[NORM + "running_mean"], state[NORM + "running_var"]
    return F.batch_norm(out, mean, var, state[NORM + "weight"], state[NORM + "bias"])


def test_a_bias_becomes_a_norm_and_a_norm_a_bias_and_the_answer_stays() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 7, 5, 5)
    plain = {CONV + "weight": torch.randn(4, 7, 1, 1), CONV + "bias": torch.randn(4), "other": torch.zeros(1)}
    normed = with_norm(plain)
    assert CONV + "bias" not in normed
    assert torch.allclose(answer(normed, x), answer(plain, x), atol=1e-5)
    learned = {
        **normed,
        NORM + "weight": torch.rand(4) + 0.5,
        NORM + "running_mean": torch.randn(4),
        NORM + "running_var": torch.rand(4) + 0.5,
    }
    folded = fold_batch_norms(learned, plain)
    assert not any(name.startswith(NORM) for name in folded)
    assert torch.allclose(answer(folded, x), answer(learned, x), atol=1e-5)
    assert with_norm({"other": torch.zeros(1)}).keys() == fold_batch_norms({"other": torch.zeros(1)}, ()).keys()
    assert fold_batch_norms(learned, learned) == learned


def fastais(norm: str) -> Any:
    torch.manual_seed(0)
    return build(classes=4, **asdict(Architecture("resnet18", norm=norm)))


@pytest.mark.slow
def test_a_decoder_with_norms_says_the_same_with_them_folded_into_its_convolutions() -> None:
    normed, plain = fastais("batch"), fastais("none")
    for module in normed.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    plain.load_state_dict(fold_batch_norms(normed.state_dict(), plain.state_dict()))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        one, other = normed.eval()(x), plain.eval()(x)
    assert torch.allclose(one, other, atol=1e-4 * float(one.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_model_with_norms_starts_a_training_whatever_norm_it_asks_for(norm: str) -> None:
    """Its norms are folded where the configuration has none."""
    given = lively_network("resnet34", 24, norm="batch")
    fitting = fold_batch_norms(given.state_dict(), wanted := fastais_like(given, norm).state_dict())
    assert all(fitting[name].shape == tensor.shape for name, tensor in wanted.items())


def fastais_like(given: Any, norm: str) -> Any:
    with torch.device("meta"):
        network = build("resnet34", 24, norm=norm)
    network.layers[12] = torch.nn.Sequential(network.layers[12][0])
    if norm == "batch":
        network.layers[12] = torch.nn.Sequential(torch.nn.Conv2d(99, 24, 1, device="meta"))
    return network


@pytest.mark.long
@pytest.mark.slow
def test_a_decoder_of_norms_is_trained_kept_and_started_from(drawn_data: Path, tmp_path: Path) -> None:
    text = CONFIG.replace("[augment]", '[decoder]\nnorm = "batch"\n\n[augment]').replace("epochs = 6", "epochs = 3")
    out = train(write_config(drawn_data, tmp_path, text), drawn_data, tmp_path / "model", keep_checkpoints=True)
    card, network = load_network(out)
    saved = read_checkpoint(out / "training")
    assert saved is not None
    assert card.architecture.norm == "batch"
    assert card.exact
    assert torch.allclose(network.state_dict()[NORM + "bias"], saved.weights[CONV + "bias"], atol=1e-3)
    assert card.scores["held_out"]["pixel_accuracy"] > 0.5
    again = text.replace('start = "scratch"', 'start = "model"').replace("lr = 1e-3", "lr = 1e-9")
    more = train(write_config(drawn_data, tmp_path, again), drawn_data, tmp_path / "more", encoder_weights=out)
    before, after = (load_card(folder).scores["held_out"]["mean_iou"] for folder in (out, more))
    assert after == pytest.approx(before, abs=0.1)

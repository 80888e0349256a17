"""A classifier is trained without a norm and kept with one, and says the same both ways."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aerialseg.model.store import load_card, load_network
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.norm_folding import with_norm, without_norm
from tests.drawn_frames import CONFIG
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
    folded = without_norm(learned)
    assert not any(name.startswith(NORM) for name in folded)
    assert torch.allclose(answer(folded, x), answer(learned, x), atol=1e-5)
    assert with_norm({"other": torch.zeros(1)}).keys() == without_norm({"other": torch.zeros(1)}).keys() == {"other"}


@pytest.mark.slow
def test_a_decoder_of_norms_is_trained_kept_and_started_from(drawn_data: Path, tmp_path: Path) -> None:
    text = CONFIG.replace("[augment]", '[decoder]\nnorm = "batch"\n\n[augment]').replace("epochs = 6", "epochs = 3")
    out = train(write_config(drawn_data, tmp_path, text), drawn_data, tmp_path / "model")
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

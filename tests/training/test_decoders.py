"""Decoders of all kinds are trained, written with the card that fits them, and scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerialseg.errors import UsageError
from aerialseg.model.card import APPROXIMATE_HALO
from aerialseg.model.store import load_network
from aerialseg.training import train
from aerialseg.training.checkpoint import Saved
from aerialseg.training.config import TrainingConfig
from aerialseg.training.export import make_card
from tests.drawn_frames import CONFIG


def configured(drawn_data: Path, folder: Path, decoder: str) -> TrainingConfig:
    for name in ("legend.csv", "split.csv"):
        (folder / name).write_bytes((drawn_data / name).read_bytes())
    first = CONFIG.split("[[steps]]")[0]
    step = "[[steps]]\nsize = [64, 64]\nepochs = 1\nbatch = 4\nlr = 1e-3\n"
    (folder / "train.toml").write_text(f"{first}\n[decoder]\n{decoder}\n{step}")
    return TrainingConfig.read(folder / "train.toml")


@pytest.mark.parametrize(
    ("decoder", "exact", "norm"),
    [
        ("blur = true", True, "none"),
        ('norm = "batch"', True, "batch"),
        ('norm = "weight"', True, "none"),
        ('norm = "spectral"', True, "none"),
        ('norm = "instance"', False, "instance"),
        ("self_attention = true", False, "none"),
    ],
)
def test_the_card_says_what_the_decoder_is(
    drawn_data: Path, tmp_path: Path, decoder: str, exact: bool, norm: str
) -> None:
    card = make_card(configured(drawn_data, tmp_path, decoder), Saved({}, {}, [], []), tmp_path)
    assert card.exact is exact
    assert card.architecture.norm == norm
    assert card.halo == ((384 if card.architecture.blur else 352) if exact else APPROXIMATE_HALO)


def test_an_unknown_norm_is_a_usage_error(drawn_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"decoder\.norm is 'group'; wanted one of none, batch"):
        configured(drawn_data, tmp_path, 'norm = "group"')


@pytest.mark.slow
@pytest.mark.parametrize("decoder", ['self_attention = true\nnorm = "weight"', 'norm = "instance"', 'norm = "batch"'])
def test_every_decoder_trains_and_is_scored(drawn_data: Path, tmp_path: Path, decoder: str) -> None:
    configured(drawn_data, tmp_path, decoder)
    out = train(tmp_path / "train.toml", drawn_data, tmp_path / "model")
    card, network = load_network(out)
    assert card.exact is not bool(network.inexact)
    assert 0 < card.scores["held_out"]["pixel_accuracy"] < 1

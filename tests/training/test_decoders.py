"""A decoder is written with the card that fits it (test_folding.py trains one with BatchNorm)."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerialseg.errors import UsageError
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


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_card_says_what_the_decoder_is(drawn_data: Path, tmp_path: Path, norm: str) -> None:
    card = make_card(configured(drawn_data, tmp_path, f'norm = "{norm}"'))
    assert card.exact
    assert card.architecture.norm == norm
    assert card.halo == 352


def test_an_unknown_norm_is_a_usage_error(drawn_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"decoder\.norm is 'instance'; wanted one of none, batch"):
        configured(drawn_data, tmp_path, 'norm = "instance"')

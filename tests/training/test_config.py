"""Training configurations: every file in configs/ loads, and a slip is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerialseg.datasets.pairs import read_split
from aerialseg.errors import InputError, UsageError
from aerialseg.legend import Legend
from aerialseg.training.config import TrainingConfig
from aerialseg.training.experiments import Experiment
from tests.drawn_frames import CONFIG

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize("path", sorted((CONFIGS / "training").glob("*.toml")), ids=lambda p: p.name)
def test_every_training_configuration_loads_with_its_legend_and_split(path: Path) -> None:
    config = Experiment.read(path).training if "budget_mpx" in path.read_text() else TrainingConfig.read(path)
    assert len(Legend.from_csv(config.data.legend)) > 1
    assert set(read_split(config.data.split).values()) == {True, False}


@pytest.mark.parametrize("path", sorted((CONFIGS / "legends").glob("*.csv")), ids=lambda p: p.name)
def test_every_legend_loads(path: Path) -> None:
    assert len(Legend.from_csv(path)) > 1


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(CONFIG)
    assert TrainingConfig.read(tmp_path / "a.toml").data.legend == tmp_path / "legend.csv"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("seed = 1", "sead = 1"), r"unknown key 'sead': did you mean 'seed'\?"),
        (('images = "images"', 'image = "images"'), r"unknown key 'image' in \[data\]"),
        (("epochs = 6", "epoch = 6"), r"unknown key 'epoch' in \[steps\[0\]\]"),
        (("seed = 1", 'keep = "best"'), r"unknown key 'keep': leave it out; .* average takes the mean"),
        (("epochs = 6", "epochs = 6\npatience = 2"), r"unknown key 'patience' in \[steps\[0\]\]: .* with epochs"),
        (("[augment]", "[decoder]\nblur = true\n[augment]"), r"unknown key 'blur' in \[decoder\]: .* model convert"),
        (("gsd_m = 0.05", ""), r"\[data\] lacks the key 'gsd_m'"),
        (('start = "scratch"', 'start = "magic"'), "'magic'"),
        (('precision = "fp32"', 'precision = "fp8"'), "fp8"),
        (
            ("size = [64, 64]", "size = 64"),
            r"steps\[0\]\.size is 64: wanted 2 values, \[a whole number, a whole number\]",
        ),
        (("size = [64, 64]", "size = [64, 64, 3]"), r"steps\[0\]\.size"),
        (("epochs = 6", 'epochs = "6"'), r"steps\[0\]\.epochs is '6'"),
        (("lr = 1e-3", "lr = true"), r"steps\[0\]\.lr is True"),
        (("void = [0]", 'void = ["roof"]'), r"data\.void"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, change: tuple[str, str], named: str) -> None:
    (tmp_path / "a.toml").write_text(CONFIG.replace(*change, 1))
    with pytest.raises(UsageError, match=named):
        TrainingConfig.read(tmp_path / "a.toml")


def test_a_file_that_is_not_toml_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("name = ")
    with pytest.raises(InputError, match=r"a\.toml"):
        TrainingConfig.read(tmp_path / "a.toml")
    with pytest.raises(InputError, match=r"none\.toml"):
        TrainingConfig.read(tmp_path / "none.toml")

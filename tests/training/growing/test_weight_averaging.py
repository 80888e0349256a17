"""A training may end with the mean of what its last steps ended with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aerialseg.errors import UsageError
from aerialseg.model.store import load_card, load_network, load_whole_card
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import TrainingConfig
from aerialseg.training.growing.weight_averaging import NAME, mean_weights, read_finished
from tests.drawn_frames import CONFIG
from tests.training.test_train import Heard, Killed, write_config

AVERAGING = f"average = 2\n{CONFIG}".replace("epochs = 6", "epochs = 3")


def test_the_mean_is_that_of_each_tensor_and_counts_are_the_last() -> None:
    states = [{"a": torch.tensor([value, 1.0]), "n": torch.tensor(int(value))} for value in (1.0, 2.0, 6.0)]
    found = mean_weights(states)
    assert torch.equal(found["a"], torch.tensor([3.0, 1.0]))
    assert found["a"].dtype == torch.float32
    assert found["n"] == 6


@pytest.mark.long
@pytest.mark.slow
def test_the_model_is_the_mean_of_the_last_steps_whether_killed_or_not(drawn_data: Path, tmp_path: Path) -> None:
    config = write_config(drawn_data, tmp_path, AVERAGING)
    whole = train(config, drawn_data, tmp_path / "whole", keep_checkpoints=True)
    with pytest.raises(Killed):
        train(config, drawn_data, tmp_path / "cut", progress=Heard("averaged the weights"))
    (tmp_path / "cut" / "training" / NAME).unlink()  # as if it had been killed a moment before
    cut = train(config, drawn_data, tmp_path / "cut", keep_checkpoints=True)
    assert load_card(cut).weights_sha256 == load_card(whole).weights_sha256
    work = whole / "training"
    ends = [read_checkpoint(work, f"step{number}.safetensors") for number in (0, 1)]
    finished, last = read_finished(work), read_checkpoint(work)
    assert finished is not None
    assert last is not None
    wanted = mean_weights([end.weights for end in ends if end is not None])
    learned = [name for name in wanted if name.endswith(("weight", "bias"))]
    assert all(torch.equal(finished.weights[name], wanted[name]) for name in learned)
    assert any(not torch.equal(last.weights[name], wanted[name]) for name in learned)
    estimated = [name for name in wanted if name.endswith("running_mean")]
    assert any(not torch.equal(finished.weights[name], wanted[name]) for name in estimated)
    shipped = load_network(whole)[1].state_dict()["layers.12.0.weight"]
    assert torch.allclose(shipped, finished.weights["layers.12.0.weight"], atol=1e-3)
    assert load_whole_card(whole).training["config"]["average"] == 2


@pytest.mark.parametrize("text", [AVERAGING.replace("average = 2", "average = 3"), f"average = 0\n{CONFIG}"])
def test_more_steps_than_there_are_cannot_be_averaged(drawn_data: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="wanted a number of last steps"):
        TrainingConfig.read(write_config(drawn_data, tmp_path, text))


def test_steps_with_a_stride_cannot_be_averaged(drawn_data: Path, tmp_path: Path) -> None:
    text = AVERAGING.replace("epochs = 3", "epochs = 3\nstride = 8")
    with pytest.raises(UsageError, match="wanted a number of last steps"):
        TrainingConfig.read(write_config(drawn_data, tmp_path, text))


BEGINNING = """
[[steps]]
size = [64, 64]
epochs = 1
batch = 2
lr = 1e-3
stride = 8
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_step_may_begin_with_the_mean_of_those_before_it(drawn_data: Path, tmp_path: Path, norm: str) -> None:
    """With a rate of next to nothing it ends with that, too; and killed or not, it is the same."""
    start = CONFIG.partition("[[steps]]")[0] + f'[decoder]\nnorm = "{norm}"\n'
    last = BEGINNING.replace("stride = 8", "average = 2\nkeep_norms = true").replace("1e-3", "1e-12")
    config = write_config(drawn_data, tmp_path, start + 2 * BEGINNING + last)
    whole = train(config, drawn_data, tmp_path / "whole", keep_checkpoints=True)
    with pytest.raises(Killed):
        train(config, drawn_data, tmp_path / "cut", progress=Heard("step 2:"))
    cut = train(config, drawn_data, tmp_path / "cut", keep_checkpoints=True)
    assert load_card(cut).weights_sha256 == load_card(whole).weights_sha256
    one, two, three = (read_checkpoint(whole / "training", f"step{number}.safetensors") for number in range(3))
    assert one is not None
    assert two is not None
    assert three is not None
    wanted = mean_weights([one.weights, two.weights])
    kernel = "layers.0.4.0.conv1.weight"
    assert torch.allclose(three.weights[kernel], wanted[kernel], atol=1e-7)
    assert not torch.allclose(two.weights[kernel], wanted[kernel], atol=1e-7)
    mean = "layers.0.1.running_mean"
    assert not torch.allclose(three.weights[mean], two.weights[mean], atol=1e-7)


FIRST, LAST = BEGINNING.replace("stride = 8", "stride = 4"), BEGINNING.replace("stride = 8", "average = 2")


@pytest.mark.parametrize("steps", [LAST, BEGINNING + LAST, FIRST + BEGINNING + LAST, BEGINNING + FIRST + LAST])
def test_a_step_begins_with_the_mean_of_steps_that_are_there_and_alike(
    drawn_data: Path, tmp_path: Path, steps: str
) -> None:
    text = CONFIG.partition("[[steps]]")[0] + steps
    with pytest.raises(UsageError, match="starts from the mean of 2 steps"):
        TrainingConfig.read(write_config(drawn_data, tmp_path, text))

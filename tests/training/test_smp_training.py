"""smp's network learns by configuration, starts from the encoder of another kind of model, and follows a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aerialseg.errors import UsageError
from aerialseg.legend import Legend
from aerialseg.model.card import Architecture
from aerialseg.model.store import load_card, load_network, save
from aerialseg.training import train
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.teacher import read_teacher
from tests.drawn_frames import CONFIG, DRAWN
from tests.model.nets import card, lively_network
from tests.training.test_train import write_config

SMP = CONFIG.replace("[augment]", '[decoder]\nkind = "smp-unet"\n\n[augment]').replace("epochs = 6", "epochs = 2")
FOLLOWING = SMP.replace("[augment]", "[follow]\nweight = 1.0\nblend = 0.5\nonly_blends = true\n\n[augment]").replace(
    'start = "scratch"', 'start = "model"\ncalibrate = 0'
)


def save_unet(folder: Path, legend: Legend, norm: str = "none") -> Path:
    network = lively_network("resnet18", len(legend), norm=norm)
    architecture = Architecture("resnet18", norm=norm)
    save(folder, card(network, architecture=architecture, legend=legend), network.state_dict(), torch.float32)
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_it_learns_and_its_card_names_the_network(few_frames: Path, tmp_path: Path) -> None:
    folder = train(write_config(few_frames, tmp_path, SMP), few_frames, tmp_path / "model", keep_checkpoints=True)
    made = load_card(folder)
    assert made.architecture == Architecture("resnet18", decoder="smp-unet", norm="batch")
    assert made.halo == 288
    losses = [record["train_loss"] for record in read_checkpoint(folder / "training").history]  # type: ignore[union-attr]
    assert losses[-1] < losses[0]
    load_network(folder)


@pytest.mark.long
@pytest.mark.slow
def test_it_starts_from_the_encoder_of_fastais_network_and_follows_it(few_frames: Path, tmp_path: Path) -> None:
    before = save_unet(tmp_path / "before", DRAWN)
    text = FOLLOWING.replace("lr = 1e-3", "lr = 1e-12")
    config = write_config(few_frames, tmp_path, text)
    with pytest.raises(UsageError, match="learned by another split"):
        train(config, few_frames, tmp_path / "model", encoder_weights=before, teachers=[before])
    split = TrainingConfig.read(config).data.split
    from aerialseg.datasets.pairs import hash_file

    (before / "history.json").write_text(f'{{"split_sha256": "{hash_file(split)}"}}')
    folder = train(config, few_frames, tmp_path / "model", encoder_weights=before, teachers=[before])
    learnt, given = (load_network(one)[1].encoder_layers().state_dict() for one in (folder, before))
    kernels = [(a, b) for a, b in zip(learnt.values(), given.values(), strict=True) if a.ndim == 4]
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in kernels)


@pytest.mark.slow
def test_a_model_teaches_what_it_says(tmp_path: Path) -> None:
    folder = save_unet(tmp_path / "model", DRAWN)
    teacher, image = read_teacher(folder, DRAWN), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(teacher.network(image), load_network(folder)[1](image), atol=1e-3)
    assert teacher.sha256 == load_card(folder).weights_sha256


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("epochs = 2", "epochs = 2\nstride = 8"), "leave out stride and follow.hints"),
        (("[augment]", "[follow]\nweight = 1.0\nhints = 0.5\n\n[augment]"), "leave out stride and follow.hints"),
        (("[augment]", "[follow]\nweight = 1.0\nonly_blends = true\n\n[augment]"), "no batch would follow"),
    ],
)
def test_what_it_cannot_learn_by_is_a_usage_error(
    drawn_data: Path, tmp_path: Path, change: tuple[str, str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        TrainingConfig.read(write_config(drawn_data, tmp_path, SMP.replace(*change)))

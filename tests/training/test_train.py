"""A small training learns, leaves a model that loads, and goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.model.predictor import load_model
from aerialseg.model.store import load_card, load_network, load_whole_card
from aerialseg.progress import Silent
from aerialseg.training import train
from aerialseg.training.callbacks import Reseed
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import TrainingConfig
from aerialseg.training.learner import make_learner
from aerialseg.training.loop import accumulated
from aerialseg.training.train_run import locked_folder
from aerialseg.training.training_frames import load_training_frames
from tests.drawn_frames import CONFIG, DRAWN, draw_pair


@pytest.fixture(scope="module")
def trained(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    heard = Heard()
    out = tmp_path_factory.mktemp("model")
    folder = train(drawn_data / "train.toml", drawn_data, out, progress=heard, keep_checkpoints=True)
    return folder, heard.notes


@pytest.mark.long
@pytest.mark.slow
def test_it_reaches_what_chance_cannot(trained: tuple[Path, list[str]], drawn_data: Path) -> None:
    scores = load_card(trained[0]).scores["held_out"]
    shares = [entry["share"] for entry in scores["per_class"].values()]
    assert scores["pixel_accuracy"] > max(shares) + 0.1
    assert scores["mean_iou"] > 0.5


@pytest.mark.slow
def test_the_model_answers_for_imagery_it_has_not_seen(trained: tuple[Path, list[str]]) -> None:
    image, mask = draw_pair(99)
    answer = load_model(trained[0], device="cpu").predict_array(image.transpose(2, 0, 1))
    assert (answer.classes == mask)[mask > 0].mean() > 0.7
    assert not (answer.classes == 0).any()


@pytest.mark.slow
def test_the_card_says_what_was_done(trained: tuple[Path, list[str]]) -> None:
    card = load_whole_card(trained[0])
    assert card.legend == DRAWN
    assert card.void == (0,)
    assert card.gsd_m == 0.05
    assert card.halo % 32 == 0
    assert len(card.training["history"]) == 8
    assert [tuple(step["size"]) for step in card.training["config"]["steps"]] == [(64, 64), (96, 96)]
    json.dumps(card.to_json(), allow_nan=False)


@pytest.mark.slow
def test_a_finished_training_trains_no_more(trained: tuple[Path, list[str]], drawn_data: Path) -> None:
    before = (trained[0] / "training" / "checkpoint.safetensors").stat().st_mtime_ns
    train(drawn_data / "train.toml", drawn_data, trained[0], keep_checkpoints=True)
    assert (trained[0] / "training" / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_progressive_resizing_changes_the_size_at_the_right_epochs(trained: tuple[Path, list[str]]) -> None:
    history = load_whole_card(trained[0]).training["history"]
    assert [(record["step"], record["epoch"]) for record in history] == [(0, n) for n in range(6)] + [(1, 0), (1, 1)]
    told = [line for line in trained[1] if line.startswith("step") and "frames" in line]
    assert [line.split(": ")[1].split(",")[0] for line in told] == ["frames 64 x 64", "frames 96 x 96"]


@pytest.mark.slow
def test_the_exported_model_predicts_as_the_learner(trained: tuple[Path, list[str]], drawn_data: Path) -> None:
    """The model's folder holds half-precision kernels, so scores agree to a thousandth and labels but for ties."""
    config = TrainingConfig.read(drawn_data / "train.toml")
    sides = load_training_frames(config, drawn_data, trained[0] / "training" / "prepared", Silent())
    learner = make_learner(config, sides, config.steps[-1], 2)
    saved = read_checkpoint(trained[0] / "training")
    assert saved is not None
    learner.model.load_state_dict(saved.weights)
    _, network = load_network(trained[0])
    images = learner.dls.valid.one_batch()[0].as_subclass(torch.Tensor)
    with torch.inference_mode():
        theirs, ours = learner.model.eval()(images), network(images)
    assert float((theirs - ours).abs().max()) < 0.02
    assert (theirs.argmax(1) == ours.argmax(1)).float().mean() > 0.999


class Killed(Exception):
    pass


class Heard(Silent):
    """Remembers what it was told; raises Killed at a note that holds ``deadly``."""

    def __init__(self, deadly: str = "") -> None:
        self.notes: list[str] = []
        self.deadly = deadly

    def note(self, message: str) -> None:
        self.notes.append(message)
        if self.deadly and self.deadly in message:
            raise Killed(message)


SHORT = (
    CONFIG.replace("epochs = 6", "epochs = 3")
    .replace("size = [96, 96]\ncrop = [64, 64]\nepochs = 2", "size = [96, 96]\ncrop = [32, 32]\nepochs = 1")
    .replace("lighting = 0.1", "lighting = 0.1\nbalanced = 0.5")
)


def write_config(drawn_data: Path, folder: Path, text: str) -> Path:
    for name in ("legend.csv", "split.csv"):
        (folder / name).write_bytes((drawn_data / name).read_bytes())
    (folder / "train.toml").write_text(text)
    return folder / "train.toml"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("change", ["", "stride = 8"])
def test_a_killed_training_goes_on_as_if_it_had_never_been_stopped(
    few_frames: Path, tmp_path: Path, change: str
) -> None:
    """Killed twice, in the middle of a step and between two: the same weights to the bit, the same history."""
    text = SHORT.replace("void = [0]", "void = [0]\nwatch = 1")
    config = write_config(few_frames, tmp_path, text.replace("epochs = 3", f"epochs = 3\n{change}"))
    whole = train(config, few_frames, tmp_path / "whole", keep_checkpoints=True)
    for deadly in ("step 0, epoch 2", "step 1: frames"):
        with pytest.raises(Killed):
            train(config, few_frames, tmp_path / "cut", progress=Heard(deadly))
    cut = train(config, few_frames, tmp_path / "cut", keep_checkpoints=True)
    mine, theirs = (read_checkpoint(folder / "training") for folder in (cut, whole))
    assert mine is not None
    assert theirs is not None
    assert all(torch.equal(mine.weights[name], tensor) for name, tensor in theirs.weights.items())
    assert load_card(cut).weights_sha256 == load_card(whole).weights_sha256
    assert [_lasting(record) for record in mine.history] == [_lasting(record) for record in theirs.history]


def _lasting(record: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in ("seconds", "peak_mb")}


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_out_of_memory_halves_the_batch_accumulates_and_goes_on(
    few_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """A pretended card on which two crops at once are too many in the second epoch."""
    seen: list[int] = []

    def full(self: Reseed) -> None:
        seen.append(len(self.x))
        if self.training and len(self.x) > 1 and self.epoch == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Reseed, "before_batch", full, raising=False)
    heard = Heard()
    text = SHORT.split("[[steps]]\nsize = [96")[0].replace('"fp32"', f'"{precision}"')
    config = write_config(few_frames, tmp_path, text)
    folder = train(config, few_frames, tmp_path / "out", progress=heard)
    history = load_whole_card(folder).training["history"]
    assert [(record["epoch"], record["at_once"], record["batch"]) for record in history] == [
        (0, 2, 2),
        (1, 1, 2),
        (2, 1, 2),
    ]
    assert any("out of memory: going on with 1 crops at once, accumulated to 2" in note for note in heard.notes)
    assert max(seen[-8:]) == 1
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.long
@pytest.mark.slow
def test_searches_find_a_rate_and_a_batch_and_leave_the_weights_alone(few_frames: Path, tmp_path: Path) -> None:
    text = (
        SHORT.split("[[steps]]\nsize = [96")[0]
        .replace("lr = 1e-3", 'lr = "find"')
        .replace("batch = 2", 'batch = "find"')
    )
    config = write_config(few_frames, tmp_path, "max_batch = 4\nsearch_steps = 20\n" + text)
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", progress=Heard("step 0: frames"))
    found = read_checkpoint(tmp_path / "out" / "training")
    assert found is not None
    (search,) = found.searches
    assert search["batch"] == search["at_once"] == 4
    assert len(search["lrs"]) == len(search["losses"]) > 5
    assert min(search["lrs"]) <= search["lr"] <= max(search["lrs"])
    # A batch of eight, as a search begins with: the network's random weights depend on the batch that fastai looks at.
    config = write_config(few_frames, tmp_path, SHORT.replace("batch = 2", "batch = 8"))
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "plain", progress=Heard("step 0: frames"))
    plain = read_checkpoint(tmp_path / "plain" / "training")
    assert plain is not None
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in plain.weights.items())


@pytest.mark.long
@pytest.mark.slow
def test_fine_tuning_starts_from_a_model(trained: tuple[Path, list[str]], drawn_data: Path, tmp_path: Path) -> None:
    """An epoch from a trained model is at once better than one from scratch, and the card says what it came from."""
    text = SHORT.replace("epochs = 3", "epochs = 1").split("[[steps]]\nsize = [96")[0]
    config = write_config(drawn_data, tmp_path, text.replace('start = "scratch"', 'start = "model"'))
    folder = train(config, drawn_data, tmp_path / "out", encoder_weights=trained[0])
    assert load_whole_card(folder).training["encoder_weights"]["sha256"] == load_card(trained[0]).weights_sha256
    assert load_card(folder).scores["held_out"]["mean_iou"] > 0.5
    parent = load_card(trained[0])
    assert load_card(folder).licence == f"The model {parent.name!r}, which this one was made from, states no licence."
    assert parent.weights_sha256[:16] in load_card(folder).lineage[-1]


@pytest.mark.long
@pytest.mark.slow
def test_another_configuration_or_other_data_do_not_go_on_in_the_same_folder(few_frames: Path, tmp_path: Path) -> None:
    config = write_config(few_frames, tmp_path, SHORT)
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", progress=Heard("step 0, epoch 2"))
    write_config(few_frames, tmp_path, SHORT.replace("seed = 1", "seed = 2"))
    with pytest.raises(OutputError, match="another seed"):
        train(config, few_frames, tmp_path / "out")
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", seed=1, progress=Heard("step 0, epoch 2"))


@pytest.mark.slow
@pytest.mark.parametrize("deadly", ["fit at once", "step 0: frames"])
def test_what_failed_before_its_first_epoch_takes_the_mended_configuration(
    few_frames: Path, tmp_path: Path, deadly: str
) -> None:
    config = write_config(few_frames, tmp_path, SHORT)
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", progress=Heard(deadly))
    write_config(few_frames, tmp_path, SHORT.replace("seed = 1", "seed = 2").replace("lr = 1e-3", "lr = 2e-3"))
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", progress=Heard("step 0: frames"))
    begun = json.loads((tmp_path / "out" / "training" / "run.json").read_text())
    assert (begun["config"]["seed"], begun["config"]["steps"][0]["lr"]) == (2, 2e-3)


@pytest.mark.long
@pytest.mark.slow
def test_a_finished_model_keeps_no_checkpoints_and_is_not_trained_again(few_frames: Path, tmp_path: Path) -> None:
    text = SHORT.split("[[steps]]\nsize = [96")[0].replace("epochs = 3", "epochs = 1")
    config = write_config(few_frames, tmp_path, text)
    folder = train(config, few_frames, tmp_path / "out")
    assert sorted(path.name for path in folder.rglob("*.safetensors")) == ["weights.safetensors"]
    assert not list((folder / "training").rglob("*.png"))
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    heard = Heard()
    assert train(config, few_frames, folder, progress=heard) == folder
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before
    assert heard.notes == [f"the training in {folder} is finished"]
    write_config(few_frames, tmp_path, text.replace("seed = 1", "seed = 2"))
    with pytest.raises(OutputError, match="another seed"):
        train(config, few_frames, folder)


@pytest.mark.long
@pytest.mark.slow
def test_a_split_that_was_edited_does_not_go_on_in_the_same_folder(drawn_data: Path, tmp_path: Path) -> None:
    config = write_config(drawn_data, tmp_path, SHORT)
    with pytest.raises(Killed):
        train(config, drawn_data, tmp_path / "out", progress=Heard("step 0, epoch 2"))
    text = (tmp_path / "split.csv").read_text()
    (tmp_path / "split.csv").write_text(text.replace("019,0", "019,1").replace("020,1", "020,0"))
    with pytest.raises(OutputError, match="another split"):
        train(config, drawn_data, tmp_path / "out")


def test_a_model_that_was_not_trained_there_is_not_replaced(drawn_data: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "card.json").write_text("{}")
    with pytest.raises(UsageError, match="holds a model"):
        train(write_config(drawn_data, tmp_path, SHORT), drawn_data, tmp_path / "out")
    assert (tmp_path / "out" / "card.json").read_text() == "{}"


@given(batch=st.integers(1, 70), at_once=st.integers(1, 70), frames=st.integers(1, 90))
def test_every_epoch_updates_and_by_as_many_crops_as_the_batch_has(batch: int, at_once: int, frames: int) -> None:
    """A whole number of parts, no fewer crops than the batch where the epoch has so many, never more than it has."""
    together = accumulated(batch, at_once, frames)
    part = min(at_once, frames)
    assert together % part == 0
    assert part <= together <= frames
    assert together >= min(batch, frames // part * part)
    assert together < batch + part or together == part


def test_a_held_out_mask_that_is_not_right_is_named_before_anything_is_trained(
    drawn_data: Path, tmp_path: Path
) -> None:
    """Also one that is not watched."""
    config = write_config(drawn_data, tmp_path, SHORT.replace("void = [0]", "void = [0]\nwatch = 1"))
    shutil.copytree(drawn_data / "images", tmp_path / "images")
    shutil.copytree(drawn_data / "masks", tmp_path / "masks")
    Image.fromarray(np.full((96, 96), 77, np.uint8)).save(tmp_path / "masks" / "023.png")
    with pytest.raises(InputError, match=r"023\.png: class 77"):
        train(config, tmp_path, tmp_path / "out")


@pytest.mark.slow
def test_torchvisions_weights_are_taken_from_its_cache(
    few_frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    state = models.resnet18(weights=None).state_dict()
    torch.save(state, file)
    text = SHORT.replace('start = "scratch"', 'start = "pretrained"\ncalibrate = 0')
    config = write_config(few_frames, tmp_path, text)
    with pytest.raises(Killed):
        train(config, few_frames, tmp_path / "out", progress=Heard("step 0: frames"))
    begun = read_checkpoint(tmp_path / "out" / "training")
    assert begun is not None
    assert torch.equal(begun.weights["layers.0.0.weight"], state["conv1.weight"])


def test_a_folder_that_is_in_use_is_refused(drawn_data: Path, tmp_path: Path) -> None:
    config = write_config(drawn_data, tmp_path, SHORT)
    with locked_folder(tmp_path / "out" / "training"), pytest.raises(OutputError, match="in use by another training"):
        train(config, drawn_data, tmp_path / "out")


@pytest.mark.slow
def test_an_encoder_without_weights_is_a_usage_error(drawn_data: Path, tmp_path: Path) -> None:
    for name in ("legend.csv", "split.csv"):
        (tmp_path / name).write_bytes((drawn_data / name).read_bytes())
    (tmp_path / "a.toml").write_text(CONFIG.replace('start = "scratch"', 'start = "deepen"'))
    with pytest.raises(UsageError, match="--encoder-weights"):
        train(tmp_path / "a.toml", drawn_data, tmp_path / "out")

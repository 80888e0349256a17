"""A small training learns, leaves a model that loads, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import UsageError
from aerialseg.model.store import load_card, resolve
from aerialseg.training import train
from aerialseg.training.evaluate import predict_frame
from aerialseg.training.export import export
from tests.training.conftest import CONFIG, DRAWN, draw_pair


@pytest.fixture(scope="module")
def trained(drawn_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    said: list[str] = []
    folder = train(drawn_data / "train.toml", drawn_data, tmp_path_factory.mktemp("model"), progress=said.append)
    return folder, said


@pytest.mark.slow
def test_it_reaches_what_chance_cannot(trained: tuple[Path, list[str]], drawn_data: Path) -> None:
    scores = load_card(trained[0]).scores["held_out"]
    shares = [entry["share"] for entry in scores["per_class"].values()]
    assert scores["pixel_accuracy"] > max(shares) + 0.1
    assert scores["mean_iou"] > 0.5


@pytest.mark.slow
def test_the_model_answers_for_imagery_it_has_not_seen(trained: tuple[Path, list[str]]) -> None:
    spec = resolve(trained[0], device="cpu")
    image, mask = draw_pair(99)
    answer = predict_frame(spec.load(), np.ascontiguousarray(image.transpose(2, 0, 1)), halo=spec.card.halo)
    assert (answer.classes == mask)[mask > 0].mean() > 0.7
    assert not (answer.classes == 0).any()


@pytest.mark.slow
def test_the_card_says_what_was_done(trained: tuple[Path, list[str]]) -> None:
    card = load_card(trained[0])
    assert card.legend == DRAWN
    assert card.void == (0,)
    assert card.gsd_m == 0.05
    assert card.halo % 32 == 0
    assert len(card.training["history"]) == 8
    assert [tuple(step["size"]) for step in card.training["steps"]] == [(64, 64), (96, 96)]
    json.dumps(card.to_json(), allow_nan=False)


@pytest.mark.slow
def test_a_finished_training_trains_no_more(trained: tuple[Path, list[str]], drawn_data: Path) -> None:
    said: list[str] = []
    before = (trained[0] / "training" / "checkpoint.safetensors").stat().st_mtime_ns
    train(drawn_data / "train.toml", drawn_data, trained[0], progress=said.append)
    assert (trained[0] / "training" / "checkpoint.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_killed_training_can_be_exported_and_goes_on(drawn_data: Path, tmp_path: Path) -> None:
    """What is there after one epoch is a model; the rest of the epochs follow it."""

    class Killed(Exception):
        pass

    def die_after_an_epoch(line: str) -> None:
        if "epoch 0" in line:
            raise Killed("now")

    short = CONFIG.replace("epochs = 6", "epochs = 2").replace(
        "size = [96, 96]\ncrop = [64, 64]\nepochs = 2", "size = [96, 96]\ncrop = [32, 32]\nepochs = 1"
    )
    for name in ("legend.csv", "split.csv"):
        (tmp_path / name).write_bytes((drawn_data / name).read_bytes())
    (tmp_path / "train.toml").write_text(short)
    with pytest.raises(Killed):
        train(tmp_path / "train.toml", drawn_data, tmp_path / "out", progress=die_after_an_epoch)
    export(tmp_path / "train.toml", None, tmp_path / "early", work=tmp_path / "out" / "training")
    assert len(load_card(tmp_path / "early").training["history"]) == 1
    train(tmp_path / "train.toml", drawn_data, tmp_path / "out", progress=lambda _: None)
    history = load_card(tmp_path / "out").training["history"]
    assert [(record["step"], record["epoch"]) for record in history] == [(0, 0), (0, 1), (1, 0)]


def test_an_encoder_without_weights_is_a_usage_error(drawn_data: Path, tmp_path: Path) -> None:
    for name in ("legend.csv", "split.csv"):
        (tmp_path / name).write_bytes((drawn_data / name).read_bytes())
    (tmp_path / "a.toml").write_text(CONFIG.replace('start = "scratch"', 'start = "pretrained"'))
    with pytest.raises(UsageError, match="--encoder-weights"):
        train(tmp_path / "a.toml", drawn_data, tmp_path / "out", progress=lambda _: None)

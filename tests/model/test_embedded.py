"""The model that comes along is whole, says where it is from, and knows what it was trained for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aerialseg.legend import Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, embedded, model_dir
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card, load_network, load_whole_card

REPOSITORY = Path(__file__).parents[2]
DRONE = REPOSITORY.parent / "shared" / "data" / "drone"
pytestmark = pytest.mark.skipif(not embedded(), reason="no model is embedded in this checkout")


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return load_card()


def test_it_loads_and_is_exact() -> None:
    card, network = load_network()
    assert card.exact
    assert card.halo == network.reach.halo == 608
    assert network.classes == len(card.legend) == 24


def test_its_legend_is_the_one_of_the_configuration(card: ModelCard) -> None:
    assert card.legend == Legend.from_csv(REPOSITORY / "configs" / "legends" / "semantic-drone.csv")
    assert [card.legend[class_id].name for class_id in card.void] == ["unlabeled", "conflicting"]


def test_it_says_its_licence_lineage_and_scores(card: ModelCard) -> None:
    assert "non-commercial" in card.licence
    assert "Graz" in card.licence
    assert any("ResNet-18" in line for line in card.lineage)
    assert 0 < card.scores["held_out"]["mean_iou"] < card.scores["held_out"]["pixel_accuracy"] < 1
    assert 0.01 < card.gsd_m < 0.1


def test_its_card_is_small_and_its_history_lies_beside_it(card: ModelCard) -> None:
    assert (model_dir() / CARD).stat().st_size < 12_000
    assert set(card.training) == {"frame_size"}
    told = load_whole_card().training
    assert told["history"]
    assert told["config"]["name"] == card.name


@pytest.mark.long
@pytest.mark.data
@pytest.mark.skipif(not DRONE.is_dir(), reason="needs ../shared/data/drone")
def test_it_does_better_than_the_commonest_class_on_places_it_has_not_seen(card: ModelCard) -> None:
    pytest.importorskip("PIL", reason="needs aerialseg[train]")
    from aerialseg.datasets.frames import find_frames
    from aerialseg.evaluation.evaluate import score_frames

    frames = find_frames(card, DRONE, config=REPOSITORY / "configs" / "training" / "drone.toml")
    few = replace(frames, pairs=dict(list(frames.pairs.items())[::10]))
    scores = score_frames(resolve(device="cpu").load(), few).confusion
    commonest = scores.counts.sum(axis=1).max() / scores.counts.sum()
    assert scores.pixel_accuracy > commonest
    assert np.nanmean(scores.iou[scores.present]) > 0.1

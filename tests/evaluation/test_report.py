"""The report of an evaluation: sums that agree, a page that needs nothing else."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerialseg.datasets.frames import FrameSet
from aerialseg.errors import UsageError
from aerialseg.evaluation.curves import curves, searches, step_marks
from aerialseg.evaluation.evaluate import score_frames
from aerialseg.evaluation.pictures import WRONG, draw_frame, draw_mistakes
from aerialseg.evaluation.report import choose, write_report
from aerialseg.evaluation.results import Evaluation
from aerialseg.evaluation.scores import Confusion, Reliability
from aerialseg.evaluation.tables import scores_json
from aerialseg.legend import LandClass, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import Prediction, Predictor, Tile
from tests.drawn_frames import DRAWN
from tests.fakes import CARD

CLOSED_BY_THEMSELVES = {"meta", "br", "img", "link", "hr", "input"}


class Guess(Predictor):
    """Says roof where it is striped red, else ground; half sure of the left half, sure of the right one."""

    card = CARD

    def predict(self, tile: Tile) -> Prediction:
        pixels = tile.pixels[:, *tile.core.within(tile.window)].astype(int)
        classes = np.where(pixels[0] - pixels[2] > 30, 2, 1).astype(np.uint8)
        confidence = np.full(classes.shape, 90, np.uint8)
        confidence[:, : classes.shape[1] // 2] = 50
        return Prediction(classes, confidence)


@pytest.fixture(scope="module")
def evaluation(drawn_data: Path) -> Evaluation:
    names = [f"{number:03}" for number in range(12)]
    pairs = {name: tuple(drawn_data / kind / f"{name}.png" for kind in ("images", "masks")) for name in names}
    scenes = {name: "ab"[number % 2] for number, name in enumerate(names)}
    found = score_frames(Guess(), FrameSet(pairs, DRAWN, void=(0,), scenes=scenes))
    return replace(found, about={"model": "<b>drawn</b> & all", "selection": "all", "held_out": False})


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "new"
    write_report(folder, evaluation, card=trained_card())
    return folder


def trained_card() -> ModelCard:
    history = [
        {"step": step, "epoch": epoch, "train_loss": 2.0 - epoch, "valid_loss": float("nan"), "seconds": 1.0}
        for step in (0, 1)
        for epoch in range(2)
    ]
    found = {"step": 1, "lr": 0.002, "batch": 4, "lrs": [1e-4, 1e-3, 1e-2], "losses": [1.0, 0.5, 99.0]}
    config = {"steps": [{"size": [64, 96], "lr": "find"}, {"size": [128, 192], "lr": 0.1}], "seed": 3}
    return ModelCard("drawn", DRAWN, 0.05, training={"history": history, "searches": [found], "config": config})


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.taken: list[str] = []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.taken += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")
        ]
        assert tag != "script"
        if tag not in CLOSED_BY_THEMSELVES:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def rows(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_page_is_well_formed_and_takes_nothing_from_elsewhere(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.taken
    assert all(value.startswith("data:image/") for value in page.taken)
    assert "@import" not in text
    assert not re.findall(r"url\((?!['\"]?data:)", text)
    assert page.images == 4 * 9


def test_the_page_escapes_its_words_and_warns_of_frames_that_may_have_been_learnt(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert "Evaluation of &lt;b&gt;drawn&lt;/b&gt; &amp; all" in text
    assert "may have been trained on" in text


def test_the_page_shows_what_the_card_keeps_of_the_training(report: Path) -> None:
    text = (report / "report.html").read_text(encoding="utf-8")
    assert "taken: 0.002" in text
    assert "128 x 192 px, batch 4" in text


def test_files_agree_with_the_confusion_matrix(report: Path, evaluation: Evaluation) -> None:
    matrix = rows(report / "confusion.csv")
    assert matrix[0] == ["truth", *DRAWN.names]
    assert [row[0] for row in matrix[1:]] == list(DRAWN.names)
    counts = np.array([[int(value) for value in row[1:]] for row in matrix[1:]], dtype=np.int64)
    assert (counts == evaluation.confusion.counts).all()
    classes, frames = rows(report / "classes.csv"), rows(report / "frames.csv")
    assert [int(row[1]) for row in classes[1:]] == counts.sum(axis=1).tolist()
    assert sum(int(row[2]) for row in frames[1:]) == counts.sum()
    scores = json.loads((report / "scores.json").read_text(encoding="utf-8"))
    assert scores["pixels"] == counts.sum()
    assert scores["pixel_accuracy"] == pytest.approx(np.trace(counts) / counts.sum(), abs=1e-4)
    assert sum(scores["reliability"]["seen"]) == counts.sum()


def test_frames_add_up_to_the_whole(evaluation: Evaluation) -> None:
    total = sum((frame.confusion for frame in evaluation.frames), Confusion.empty(len(DRAWN)))
    assert (total.counts == evaluation.confusion.counts).all()
    seen = sum((frame.reliability for frame in evaluation.frames), Reliability.empty())
    assert (seen.right == evaluation.reliability.right).all()
    assert evaluation.confusion.counts[0].sum() == 0, "void counts nowhere"
    assert evaluation.confusion.counts.sum() == 12 * 92 * 96, "four rows of each frame are void"


def test_nothing_is_replaced_unless_told(report: Path, evaluation: Evaluation) -> None:
    before = {path: path.stat().st_mtime_ns for path in report.iterdir()}
    with pytest.raises(UsageError, match="--overwrite"):
        write_report(report, evaluation)
    assert {path: path.stat().st_mtime_ns for path in report.iterdir()} == before
    other = report.parent / "other"
    write_report(other, evaluation)
    made = write_report(other, evaluation, overwrite=True)
    assert sorted(path.name for path in other.iterdir()) == sorted(path.name for path in made)


def test_best_typical_and_worst_are_told_by_accuracy(evaluation: Evaluation) -> None:
    kinds = dict(choose(evaluation.frames))
    accuracies = {kind: [frame.confusion.pixel_accuracy for frame in frames] for kind, frames in kinds.items()}
    ordered = sorted((frame.confusion.pixel_accuracy for frame in evaluation.frames), reverse=True)
    assert accuracies == {"Best": ordered[:3], "Typical": ordered[4:7], "Worst": ordered[-3:]}
    assert [len(frames) for _, frames in choose(evaluation.frames[:5])] == [5]
    assert choose(()) == []


def test_mistakes_are_red_and_only_they() -> None:
    truth = np.array([[1, 1, 255]], dtype=np.uint8)
    said = np.array([[1, 2, 2]], dtype=np.uint8)
    drawn = np.asarray(draw_mistakes(Image.new("RGB", (3, 1), (10, 20, 30)), truth, said))
    assert (drawn == WRONG).all(axis=2).tolist() == [[False, True, False]]


def test_pictures_show_classes_in_the_colours_of_the_legend(evaluation: Evaluation) -> None:
    found = draw_frame(evaluation.frames[0], evaluation).predicted
    with Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))) as picture:
        shown = np.asarray(picture.convert("RGB"))
    colors = np.array([entry.color for entry in evaluation.legend])
    assert (shown == colors[evaluation.frames[0].predicted]).all()


def test_a_map_without_frames_or_confidence_has_a_report_too(tmp_path: Path) -> None:
    """Its ids may have gaps: the tables go by the legend."""
    legend = Legend((LandClass(3, "three", (1, 2, 3)), LandClass(7, "seven", (9, 9, 9))))
    counts = np.zeros((8, 8), dtype=np.int64)
    counts[np.ix_([3, 7], [3, 7])] = [[5, 1], [2, 4]]
    evaluation = Evaluation(legend, Confusion(counts), Reliability.empty(), about={"classes": "a/map.tif"})
    made = write_report(tmp_path / "out", evaluation)
    assert [path.name for path in made] == ["scores.json", "confusion.csv", "classes.csv", "report.html"]
    assert rows(made[1]) == [["truth", "three", "seven"], ["three", "5", "1"], ["seven", "2", "4"]]
    assert rows(made[2])[1] == ["three", "6", "0.5", "0.625", "0.769231", "0.714286", "0.833333"]
    assert "reliability" not in scores_json(evaluation)
    assert Page(made[-1].read_text(encoding="utf-8")).open == []


def test_curves_are_drawn_of_what_was_recorded_with_the_steps_marked() -> None:
    training = trained_card().training
    assert [(mark.x, mark.label) for mark in step_marks(training)] == [(1, "64 x 96 px"), (3, "128 x 192 px")]
    assert len(curves(training)) == 1, "neither Dice nor rates were recorded"
    assert "on what it does not" not in curves(training)[0], "a loss that was never a number"
    assert len(searches(training)) == 1
    assert curves({}) == searches({}) == []


def test_the_spread_is_that_of_scoring_all_frames_but_those_of_a_scene(evaluation: Evaluation, report: Path) -> None:
    rests = [
        sum((frame.confusion for frame in evaluation.frames if frame.scene != scene), Confusion.empty(len(DRAWN)))
        for scene in "ab"
    ]
    spread = evaluation.spread
    assert spread is not None
    assert spread.pixel_accuracy == tuple(sorted(rest.pixel_accuracy for rest in rests))
    assert spread.mean_iou == tuple(sorted(rest.mean_iou for rest in rests))
    assert spread.pixel_accuracy[0] < evaluation.confusion.pixel_accuracy < spread.pixel_accuracy[1]
    assert spread.text() in (report / "report.html").read_text(encoding="utf-8")
    assert scores_json(evaluation)["without_one_scene"]["scenes"] == 2


def test_where_one_scene_is_all_there_is_nothing_is_said_of_spread(evaluation: Evaluation) -> None:
    one = tuple(replace(frame, scene="a") for frame in evaluation.frames)
    unknown = tuple(replace(frame, scene="") for frame in evaluation.frames)
    assert replace(evaluation, frames=one).spread is None
    assert replace(evaluation, frames=unknown).spread is None
    assert "without_one_scene" not in scores_json(replace(evaluation, frames=one))

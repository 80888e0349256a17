"""The experiment: equal computing, the same judges, and a report that holds what was found."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerialseg.errors import UsageError
from aerialseg.evaluation.charts import standalone
from aerialseg.evaluation.comparison import SEEN, charts_of, draw_page, write_comparison
from aerialseg.model.store import load_whole_card
from aerialseg.training import experiment
from aerialseg.training.experiments import Experiment
from tests.drawn_frames import CONFIG

CONFIGS = Path(__file__).parents[2] / "configs" / "training"
RUNS = """
[[runs]]
name = "small"
legs = [{ size = [32, 32] }]

[[runs]]
name = "progressive"
legs = [{ size = [32, 32], share = 0.5 }, { size = [64, 64], share = 0.5 }]
"""
TEXT = "budget_mpx = 0.17\n" + CONFIG.split("[[steps]]\nsize = [96")[0] + RUNS
STRIDED = TEXT.replace("epochs = 6", "epochs = 6\nstride = 8")


def write(drawn_data: Path, folder: Path, text: str = TEXT) -> Path:
    for name in ("legend.csv", "split.csv"):
        (folder / name).write_bytes((drawn_data / name).read_bytes())
    (folder / "experiment.toml").write_text(text)
    return folder / "experiment.toml"


@pytest.mark.parametrize(
    ("file", "runs"),
    [("resolution", {"128", "256", "512", "progressive"}), ("resolution-quick", {"64", "128", "256", "progressive"})],
)
def test_every_run_of_the_experiment_learns_from_as_many_pixels(file: str, runs: set[str]) -> None:
    """To the nearest whole epoch of each step."""
    wanted = Experiment.read(CONFIGS / f"{file}.toml")
    assert set(wanted.runs) == runs
    for run, legs in wanted.runs.items():
        steps = wanted.config(run, frames=251).steps
        assert [step.size for step in steps] == [leg.size for leg in legs]
        epoch_mpx = [251 * step.seen[0] * step.seen[1] / 1e6 for step in steps]
        seen = sum(step.epochs * mpx for step, mpx in zip(steps, epoch_mpx, strict=True))
        assert abs(seen - wanted.budget_mpx) <= sum(epoch_mpx) / 2


def test_the_runs_differ_in_their_sizes_alone() -> None:
    wanted = Experiment.read(CONFIGS / "resolution.toml")
    one, other = (wanted.config(run, 251).to_json() for run in ("128", "512"))
    assert {key for key in one if one[key] != other[key]} == {"name", "steps"}
    assert {key for key in one["steps"][0] if one["steps"][0][key] != other["steps"][0][key]} == {
        *("size", "crop", "epochs")
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (("budget_mpx = 0.17", "budget_mpx = 0"), "budget_mpx"),
        ((RUNS, ""), "0 runs"),
        (('name = "small"', 'name = "a/b"'), "'a/b'"),
        (("share = 0.5 }]", "share = 0.7 }]"), r"add up to 1\.2"),
        (("legs = [{ size = [32, 32] }]", "legs = [{ sise = [32, 32] }]"), "sise"),
        (("[augment]", "[follow]\nweight = 1.0\n\n[augment]"), "without a teacher"),
    ],
)
def test_a_slip_is_named(drawn_data: Path, tmp_path: Path, change: tuple[str, str], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Experiment.read(write(drawn_data, tmp_path, TEXT.replace(*change)))


def test_missing_weights_are_said_before_any_image_is_prepared(drawn_data: Path, tmp_path: Path) -> None:
    text = TEXT.replace('start = "scratch"', 'start = "deepen"')
    with pytest.raises(UsageError, match="encoder-weights FILE"):
        experiment(write(drawn_data, tmp_path, text), drawn_data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("text", [TEXT, STRIDED], ids=["whole", "stride 8"])
def test_an_experiment_judges_every_step_and_goes_on_where_it_was_cut_off(
    drawn_data: Path, tmp_path: Path, text: str
) -> None:
    config = write(drawn_data, tmp_path, text)
    results = experiment(config, drawn_data, tmp_path / "out")
    assert [(record["run"], record["step"], record["size"]) for record in results] == [
        ("small", 0, [32, 32]),
        ("progressive", 0, [32, 32]),
        ("progressive", 1, [64, 64]),
    ]
    for record in results:
        assert {score["pixels"] for score in record["scores"].values()} == {
            4 * 96 * 92
        }  # all frames but the void strip
        assert load_whole_card(tmp_path / "out" / Path(record["model"]).parent).training["history"]
    again = experiment(config, drawn_data, tmp_path / "out")
    assert again == results
    for path in write_comparison(tmp_path / "out", results):
        assert path.stat().st_size > 200
    page = (tmp_path / "out" / "experiment.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/png') == 2 * (
        2 + 2
    )  # of 4 frames 2 are shown: image, truth, the map of each run
    with open(tmp_path / "out" / "results.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mean_iou_final"]) for row in rows] == [r["scores"]["final"]["mean_iou"] for r in results]


def invented(run: str, step: int, size: list[int]) -> dict[str, Any]:
    scores = {"pixel_accuracy": 0.5, "mean_iou": 0.25, "mean_dice": 0.4, "frequency_weighted_iou": 0.3}
    classes = {
        "<roof> & wall": {"iou": 0.25, "dice": 0.4, "share": 0.9},
        "water": {"iou": 0.0, "dice": 0.0, "share": 0.1},
    }
    rates = np.geomspace(1e-5, 1, 12).tolist()
    return {
        "run": run,
        "step": step,
        "size": size,
        "crop": size,
        "epochs": 2,
        "mpx": 10.0,
        "lr": 1e-3,
        "batch": 4,
        "at_once": 4,
        "seconds": 12.0,
        "peak_mb": 900,
        "model": "m",
        "scores": {seen: {**scores, "per_class": classes} for seen in SEEN},
        "search": {"step": step, "lr": 1e-3, "lrs": rates, "losses": [2.0 - i % 7 for i in range(12)], "batch": 4},
        "history": [{"valid_loss": 1.0, "dice_shown": 0.2}, {"valid_loss": 0.8, "dice_shown": 0.3}],
    }


def test_the_page_holds_every_run_takes_nothing_from_elsewhere_and_its_charts_are_well_formed() -> None:
    results = [
        invented("512", 0, [512, 768]),
        invented("progressive", 0, [128, 192]),
        invented("progressive", 1, [256, 384]),
    ]
    page = draw_page(results)
    assert "10.0 to 20.0 megapixels learnt from, not equal" in page
    assert "3 runs (equal computing)" in draw_page([invented(name, 0, [64, 96]) for name in ("a", "b", "c")])
    assert "&lt;roof&gt; &amp; wall" in page
    assert not re.search(r"(src|href)=|<script|<link|url\(", page)
    charts = charts_of(results)
    assert all(ET.fromstring(text).tag.endswith("svg") for c in charts.values() for text in (c, standalone(c)))
    assert "progressive, after 256x384" in charts["scores"]

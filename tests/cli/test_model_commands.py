"""aerialseg model ...: what goes where, what ends how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from aerialseg.cli import cli
from aerialseg.model.listing import find_models, scores_of
from aerialseg.model.store import load_card, save
from tests.model.nets import card, lively_network


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good model in a folder of its own, and one whose card is not one."""
    folder = tmp_path_factory.mktemp("models")
    network = lively_network()
    scores = {
        "held_out": {"mean_iou": 0.4321, "pixel_accuracy": 0.8, "per_class": {"class-1": {"iou": 0.1234}}},
        "calibration": {"ece_before": 0.1, "ece_after_cross_fitted": 0.02, "frames": 9},
    }
    changes: dict[str, Any] = {"void": (0,), "temperature": 1.5, "licence": "Ours [alone]. Ask", "scores": scores}
    save(folder / "deep" / "good", card(network, **changes), network.state_dict(), torch.float32)
    (folder / "broken").mkdir()
    (folder / "broken" / "card.json").write_text("{}")
    (folder / "broken" / "weights.safetensors").write_bytes(b"")
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["model", *map(str, arguments)], terminal_width=100)


def test_the_list_has_what_comes_along_and_what_lies_below_a_folder(models: Path) -> None:
    found = run("list", models)
    assert found.exit_code == 0
    assert found.stdout == ""
    assert "0.432" in found.stderr
    assert "Ours [alone]" in found.stderr, "a card's text is no markup"
    assert "broken: cannot be used" in found.stderr
    listed = json.loads(run("list", models, "--json").stdout)
    below = [entry for entry in listed if entry["ref"].startswith(str(models))]
    assert [entry.get("name") for entry in below] == [None, "test"]
    assert below[1]["scores"] == {"mean_iou": 0.4321, "pixel_accuracy": 0.8}
    assert below[1]["digest"] == load_card(models / "deep" / "good").digest
    assert find_models() == find_models(models)[: len(find_models())]


def test_a_card_is_shown_to_people_on_stderr_and_to_programs_on_stdout(models: Path) -> None:
    folder = models / "deep" / "good"
    shown = run("show", folder)
    assert shown.stdout == ""
    for words in (
        "5 cm per pixel",
        "exact, halo",
        "mean IoU 0.432",
        "temperature 1.5",
        "2.0%",
        "never predicted",
        "0.123",
    ):
        assert words in shown.stderr, words
    assert json.loads(run("show", folder, "--json").stdout) == load_card(folder).to_json()
    assert json.loads(run("show", "--json").stdout)["training"]["history"]


def test_a_model_without_scores_has_none() -> None:
    assert scores_of(card(lively_network())) == {}


def test_the_ending_says_what_is_exported(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("pystac")
    folder = models / "deep" / "good"
    for name, arguments in (("m.onnx", ["--tile", "64"]), ("m.json", ["--onnx", tmp_path / "m.onnx"])):
        found = run("export", folder, tmp_path / name, *arguments)
        assert found.exit_code == 0, found.stderr
        assert found.stdout.strip() == str(tmp_path / name)
    assert json.loads((tmp_path / "m.json").read_text())["assets"]["onnx"]["href"] == "./m.onnx"


def test_what_is_there_is_kept_and_what_is_not_meant_is_refused(models: Path, tmp_path: Path) -> None:
    folder, out = models / "deep" / "good", tmp_path / "m.onnx"
    out.write_text("mine")
    cases: list[tuple[list[object], int, str]] = [
        ([folder, out], 2, "--overwrite"),
        ([folder, tmp_path / "m.bin"], 2, "--format"),
        ([folder, out, "more"], 2, "wanted [MODEL] OUT"),
        ([folder, tmp_path / "no" / "m.onnx"], 5, "does not exist"),
        ([tmp_path / "none", tmp_path / "n.onnx"], 4, "no model"),
    ]
    for arguments, code, words in cases:
        found = run("export", *arguments)
        assert (found.exit_code, found.stdout) == (code, ""), found.stderr
        assert words in found.stderr
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_calibration_needs_frames_that_were_not_learnt(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    found = CliRunner().invoke(cli, ["calibrate", str(models / "deep" / "good"), "--data", str(tmp_path)])
    assert found.exit_code == 2
    assert "--split" in found.stderr

"""aerialseg evaluate and aerialseg accuracy, as a shell sees them."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import aerialseg
from aerialseg.cli import cli
from aerialseg.datasets.frames import find_frames
from aerialseg.errors import InputError
from aerialseg.model.store import load_card, save
from tests.conftest import WriteRaster
from tests.drawn_frames import DRAWN
from tests.model.nets import card, lively_network


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    network = lively_network(classes=len(DRAWN))
    save(folder, card(network, legend=DRAWN, void=(0,)), network.state_dict())
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def of_model(model: Path, data: Path, *arguments: object) -> Result:
    return run("evaluate", model, "--data", data, "--device", "cpu", "--precision", "fp32", *arguments)


def scores(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_a_model_is_scored_on_the_frames_that_the_split_holds_out(
    model: Path, drawn_data: Path, tmp_path: Path
) -> None:
    done = of_model(model, drawn_data, "--split", drawn_data / "split.csv", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    names = ("scores.json", "confusion.csv", "classes.csv", "frames.csv", "report.html")
    assert done.stdout.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert "mean IoU" in done.stderr
    assert "4 frames, held out by split.csv" in done.stderr
    with open(tmp_path / "out" / "frames.csv", newline="", encoding="utf-8") as file:
        assert [row["frame"] for row in csv.DictReader(file)] == ["020", "021", "022", "023"]
    assert scores(tmp_path / "out")["pixels"] == 4 * 92 * 96
    again = of_model(model, drawn_data, "--split", drawn_data / "split.csv", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_colours_give_the_scores_of_indices_and_originals_those_of_reduced_copies(
    model: Path, drawn_data: Path, tmp_path: Path
) -> None:
    """The layout of the Semantic Drone Dataset, frames twice as large; --config brings legend, void and size along."""
    for folder, of, to in (("images", "original_images", 2), ("colors", "RGB_color_image_masks", 2)):
        (tmp_path / of).mkdir()
        for number in (20, 21):
            picture = Image.open(drawn_data / folder / f"{number:03}.png")
            picture.resize((96 * to, 96 * to), Image.Resampling.NEAREST).save(tmp_path / of / f"{number:03}.png")
    found = aerialseg.evaluate(model, tmp_path, size=(96, 96), device="cpu", precision="fp32")
    assert found.about["held_out"] is False
    plain = aerialseg.evaluate(model, drawn_data, config=drawn_data / "train.toml", device="cpu", precision="fp32")
    both = sum((frame.confusion.counts for frame in plain.frames[:2]), np.zeros((4, 4), dtype=np.int64))
    assert (found.confusion.counts.sum(axis=1) == both.sum(axis=1)).all()
    assert plain.about["size"] == [96, 96]


@pytest.mark.slow
def test_groups_are_scored_as_the_sums_of_their_classes(model: Path, drawn_data: Path, tmp_path: Path) -> None:
    """roof and water are one group, also where the data's legend calls them otherwise."""
    (tmp_path / "groups.csv").write_text("class,group\nground,free\nroof,other\nwater,other\n")
    given = {"split": drawn_data / "split.csv", "device": "cpu", "precision": "fp32"}
    plain = aerialseg.evaluate(model, drawn_data, **given)
    found = aerialseg.evaluate(model, drawn_data, groups=tmp_path / "groups.csv", **given)
    counts = plain.confusion.counts[1:, 1:]
    rows = np.stack([counts[0], counts[1:].sum(axis=0)])
    assert found.legend.names == ("free", "other")
    assert (found.confusion.counts == np.stack([rows[:, 0], rows[:, 1:].sum(axis=1)], axis=1)).all()
    assert {*np.unique(found.frames[0].truth)} <= {0, 1, 255}
    (tmp_path / "groups.csv").write_text("class,group\nground,free\nroof,other\n")
    done = of_model(model, drawn_data, "--groups", tmp_path / "groups.csv", "--out", tmp_path / "out")
    assert done.exit_code == 3
    assert "has the class water, which the groups do not name" in done.stderr
    (tmp_path / "groups.csv").write_text("class,group\nground,free\nroof,other\nwater,\n")
    done = of_model(model, drawn_data, "--groups", tmp_path / "groups.csv", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "free" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_fastai_is_not_needed(model: Path, drawn_data: Path) -> None:
    code = """
import sys
sys.modules |= dict.fromkeys(("fastai", "fastcore", "torchvision"))
from aerialseg.evaluation.evaluate import evaluate
found = evaluate(sys.argv[1], sys.argv[2], split=sys.argv[3], device="cpu", precision="fp32")
assert found.confusion.counts.sum()
"""
    subprocess.run([sys.executable, "-c", code, model, drawn_data, drawn_data / "split.csv"], check=True)


@pytest.mark.slow
def test_a_missing_pillow_is_named_with_the_extra_that_brings_it() -> None:
    code = "import sys; sys.modules['PIL'] = None; import aerialseg.evaluation.evaluate"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "aerialseg.errors.UsageError" in done.stderr
    assert "aerialseg[scenes]" in done.stderr


@pytest.fixture
def compared(write_raster: WriteRaster, tmp_path: Path) -> list[object]:
    """Arguments: a map, the truth and the map's legend."""
    truth = np.ones((1, 20, 30), dtype=np.uint8)
    said = truth.copy()
    truth[0, :5], said[0, :, :3] = 3, 3
    DRAWN.to_csv(tmp_path / "legend.csv")
    paths = write_raster(said, "said.tif", nodata=255), write_raster(truth, "truth.tif", nodata=255)
    return [*paths, "--legend", tmp_path / "legend.csv"]


def test_a_map_is_scored_against_a_raster_of_the_truth(compared: list[object], tmp_path: Path) -> None:
    done = run("accuracy", *compared, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    found = scores(tmp_path / "out")
    assert found["pixels"] == 600
    assert found["pixel_accuracy"] == pytest.approx((600 - 5 * 27 - 15 * 3) / 600, abs=1e-4)
    names = ("scores.json", "confusion.csv", "classes.csv", "report.html")
    assert done.stdout.splitlines() == [str(tmp_path / "out" / name) for name in names]
    again = run("accuracy", *compared, "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_evaluate_on_a_map_still_works_and_names_its_successor_in_one_line(
    compared: list[object], tmp_path: Path
) -> None:
    now = run("accuracy", *compared, "-q", "--out", tmp_path / "now")
    before = run("evaluate", *compared, "-q", "--out", tmp_path / "before")
    assert (now.exit_code, now.stderr, before.exit_code) == (0, "", 0)
    assert len(before.stderr.splitlines()) == 1
    assert "aerialseg accuracy MAP TRUTH" in before.stderr
    for name in ("confusion.csv", "classes.csv"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "now" / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "model"], "Missing option '--data'"),
        (["evaluate", "model", "--tta"], "Missing option '--data'"),
        (["evaluate", "a.tif", "b.tif", "--data", "d"], "unexpected extra argument (b.tif)"),
        (["evaluate", "a.tif", "b.tif", "--tta"], "No such option '--tta'"),
        (["evaluate", "model", "--data", "d", "--field", "x"], "--field is gone: use aerialseg accuracy MAP TRUTH"),
        (["accuracy", "a.tif"], "Missing argument 'TRUTH'"),
    ],
)
def test_options_of_the_other_command_are_usage_errors(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert said.replace("'", "") in done.stderr.replace("'", "")


def test_the_two_commands_refer_to_one_another_and_are_summarized_in_full() -> None:
    listed = run("--help").stdout
    assert "Score MODEL on labelled images.\n" in listed
    assert "Compare the map MAP with the reference data TRUTH.\n" in listed
    assert "aerialseg accuracy MAP TRUTH" in run("evaluate", "--help").stdout


def test_all_frames_and_a_split_are_too_much(model: Path, drawn_data: Path) -> None:
    done = of_model(model, drawn_data, "--split", drawn_data / "split.csv", "--all")
    assert done.exit_code == 2


@pytest.fixture
def two(drawn_data: Path, tmp_path: Path) -> Path:
    """A data folder of two pairs that a test may spoil."""
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for name in ("000.png", "001.png"):
            shutil.copy(drawn_data / kind / name, tmp_path / kind / name)
    return tmp_path


def test_a_missing_folder_is_an_input_error(model: Path, tmp_path: Path) -> None:
    for folder, wanted in ((tmp_path / "gone", "no folder"), (tmp_path, "original_images/")):
        done = of_model(model, folder)
        assert (done.exit_code, len(done.stderr.splitlines())) == (3, 2)  # the first line, and the error
        assert wanted in done.stderr


def test_an_image_without_mask_is_named(model: Path, two: Path) -> None:
    (two / "masks" / "001.png").unlink()
    done = of_model(model, two)
    assert (done.exit_code, len(done.stderr.splitlines())) == (3, 2)  # the first line, and the error
    assert "001" in done.stderr


@pytest.mark.parametrize("split", ["frame,held_out\n000,1\n777,1\n", "frame,held_out\n000,0\n001,0\n", "name\n000\n"])
def test_a_split_that_names_no_frame_or_one_that_is_not_there_is_an_input_error(
    model: Path, two: Path, split: str
) -> None:
    (two / "split.csv").write_text(split)
    done = of_model(model, two, "--split", two / "split.csv")
    assert (done.exit_code, len(done.stderr.splitlines())) == (3, 2)  # the first line, and the error
    assert "split.csv" in done.stderr
    assert "777" in done.stderr or "777" not in split


def spoil(kind: str, mask: np.ndarray) -> Image.Image:
    if kind == "aspect":
        return Image.fromarray(mask[:48])
    if kind == "index":
        mask[7, 5] = 200
        return Image.fromarray(mask)
    colors = np.zeros((*mask.shape, 3), dtype=np.uint8)
    colors[7, 5] = (1, 2, 3)
    return Image.fromarray(colors)


@pytest.mark.parametrize(
    ("kind", "said"),
    [("aspect", "48 x 96"), ("index", "class 200 at row 7, column 5"), ("colour", "(1, 2, 3) at row 7")],
)
def test_a_mask_that_cannot_be_its_images_is_named_with_file_and_place(
    model: Path, two: Path, kind: str, said: str
) -> None:
    path = two / "masks" / "001.png"
    spoil(kind, np.array(Image.open(path))).save(path)
    done = of_model(model, two, "--out", two / "out")
    assert done.exit_code == 3
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "001.png" in errors[0]
    assert said in errors[0]
    assert not (two / "out").exists(), "nothing partial is left"


def test_frames_that_the_size_of_training_would_squeeze_are_refused(model: Path, two: Path) -> None:
    known = load_card(model)
    shaped = aerialseg.ModelCard("a", known.legend, 0.05, training={"frame_size": [64, 96]})
    with pytest.raises(InputError, match="--size"):
        find_frames(shaped, two)
    assert find_frames(shaped, two, size=(64, 64)).size == (64, 64)


@pytest.mark.slow
def test_a_model_is_scored_by_eight_looks_where_asked(model: Path, drawn_data: Path, tmp_path: Path) -> None:
    done = of_model(model, drawn_data, "--split", drawn_data / "split.csv", "--tta", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "mean of 8 turns" in done.stderr
    said = scores(tmp_path / "out")
    assert said["test_time_averaging"] is True

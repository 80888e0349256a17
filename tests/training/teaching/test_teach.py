"""A model from a few labels: reproducible, resumed exactly, judged on ground that it keeps, with its parents' terms."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch

import aerialseg
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.model.card import Architecture
from aerialseg.model.store import load_card, load_network, save
from aerialseg.progress import Silent
from aerialseg.raster.georef import GeoGrid
from aerialseg.training.teaching import fine_tune
from aerialseg.training.teaching.candidates import HEAD, MEAN, TUNED, TaughtModel
from aerialseg.training.teaching.chip_pixels import ChipPixels
from aerialseg.training.teaching.fine_tune import TUNED_SHARE, Tuning, mean_of_both
from aerialseg.training.teaching.lesson import Lesson, OrthoReading, Taught, prepare_lesson
from tests.model.nets import NARROW, card, lively_network
from tests.raster.drawing import TEN_CM, UTM, picture, write

CELL = 32
HEIGHT, WIDTH = 256, 320
NAMES = ("grass", "roof", "road")
COLOURS = np.array([(70, 140, 60), (170, 70, 50), (120, 120, 125)])
NON_COMMERCIAL = "Weights: non-commercial use only."


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def classes() -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.kron(rng.integers(0, 3, (HEIGHT // CELL, WIDTH // CELL)), np.ones((CELL, CELL), np.int64))


def squares() -> tuple[list[Any], list[str]]:
    """A square in each cell of the ground, on one class, and the names of these."""
    geo = GeoGrid(HEIGHT, WIDTH, tuple(TEN_CM)[:6], UTM)
    shapes, names = [], []
    for row in range(0, HEIGHT, CELL):
        for col in range(0, WIDTH, CELL):
            corners = [geo.at(col + x, row + y) for x, y in ((4, 4), (28, 4), (28, 28), (4, 28))]
            shapes.append(shapely.Polygon(corners))
            names.append(NAMES[classes()[row, col]])
    return shapes, names


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orthophoto of three colours, labels on it, and a model to start from."""
    folder = tmp_path_factory.mktemp("place")
    noise = np.random.default_rng(0).normal(0, 12, (3, HEIGHT, WIDTH))
    write(folder / "ortho.tif", np.clip(COLOURS[classes()].transpose(2, 0, 1) + noise, 1, 255).astype(np.uint8))
    shapes, names = squares()
    geopandas.GeoDataFrame({"class": names}, geometry=shapes, crs=UTM).to_file(folder / "labels.gpkg")
    network = lively_network(classes=5)
    save(folder / "parent", card(network, licence=NON_COMMERCIAL, lineage=("A data set",)), network.state_dict())
    return folder


def taught(place: Path, out: Path, labels: str | Path = "labels.gpkg", **options: Any) -> TaughtModel:
    orthos = options.pop("orthos", [place / "ortho.tif"])
    given = {"start": None if "more" in options else place / "parent", "minutes": 0.0, **options}
    return aerialseg.teach(orthos, place / labels, out, **given)


@pytest.fixture(scope="module")
def first(place: Path) -> TaughtModel:
    return taught(place, place / "first", steps=20)


def test_the_model_knows_the_classes_of_the_labels(first: TaughtModel) -> None:
    legend = load_card(first.folder).legend
    assert legend.names == tuple(sorted(NAMES))
    assert set(first.scores) == {HEAD, TUNED, MEAN}
    best = max(found.confusion.mean_iou for found in first.scores.values())
    assert first.evaluation.confusion.mean_iou == best > 0.8


def test_the_mean_of_both_lies_between_the_weights_before_and_after_fine_tuning() -> None:
    counted = torch.tensor(3)
    found = mean_of_both({"a": torch.zeros(2), "n": counted}, {"a": torch.ones(2), "n": counted + 1})
    assert found["a"].tolist() == pytest.approx([TUNED_SHARE] * 2)
    assert 0 < TUNED_SHARE < 1
    assert int(found["n"]) == 4


def test_the_folder_is_whole_and_nothing_else(first: TaughtModel) -> None:
    model = {"card.json", "weights.safetensors", "network.onnx", "history.json"}
    wanted = {*model, "labels.gpkg", "teaching.json", "report"}
    assert {path.name for path in first.folder.iterdir()} == wanted
    assert "held-out" in first.text()
    aerialseg.load_model(first.folder)  # which compares the files with the card
    assert first.report.read_text(encoding="utf-8").count("data:image") > 3


def test_licence_and_lineage_travel(first: TaughtModel, place: Path) -> None:
    made, parent = load_card(first.folder), load_card(place / "parent")
    assert made.licence == NON_COMMERCIAL
    assert made.lineage[0] == "A data set"
    assert parent.weights_sha256[:12] in made.lineage[-1]


@pytest.mark.slow
def test_the_same_seed_and_steps_give_the_same_model(first: TaughtModel, place: Path, tmp_path: Path) -> None:
    again = taught(place, tmp_path / "again", steps=20)
    assert load_card(again.folder).weights_sha256 == load_card(first.folder).weights_sha256


@pytest.mark.slow
def test_bands_in_another_order_teach_the_same_model_and_more_keeps_them(place: Path, tmp_path: Path) -> None:
    with rasterio.open(place / "ortho.tif") as file:
        write(tmp_path / "bgr.tif", file.read()[::-1])
    plain, given = taught(place, tmp_path / "plain"), {"orthos": [tmp_path / "bgr.tif"], "bands": (3, 2, 1)}
    turned = taught(place, tmp_path / "turned", **given)
    assert load_card(turned.folder).weights_sha256 == load_card(plain.folder).weights_sha256
    assert turned.text().endswith(f"--model {turned.folder} --bands 3,2,1")
    more = taught(place, tmp_path / "more", more=turned.folder, orthos=[])
    assert Taught.read(more.folder).reading.bands == (3, 2, 1)


def lesson(place: Path, **options: Any) -> Lesson:
    given: dict[str, Any] = {"field": None, "layer": None, "width_m": None, "more": None, "legend": None}
    given |= {"resolution": "native", "progress": Silent(), **options}
    return prepare_lesson([place / "ortho.tif"], place / "labels.gpkg", **given)


def test_orthophotos_without_crs_are_taught_with_the_size_of_their_pixels(tmp_path: Path) -> None:
    write(tmp_path / "ortho.tif", picture(HEIGHT, WIDTH), crs=None)
    shapes, names = squares()
    frame = geopandas.GeoDataFrame({"class": names}, geometry=shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is no CRS
        frame.to_file(tmp_path / "labels.gpkg")
    with pytest.raises(InputError, match="give --pixel-size METRES"):
        lesson(tmp_path)
    found = lesson(tmp_path, reading=OrthoReading(pixel_size_m=0.035), resolution=0.07)
    assert found.view.gsd_m == pytest.approx((0.07, 0.07))
    assert found.reading.options == " --pixel-size 0.035", "what a map of them needs"
    old = lesson(tmp_path, gsd=0.035)
    assert (old.resolution, old.reading.pixel_size_m) == ("native", 0.035)
    assert old.view.gsd_m == (0.035, 0.035)


def test_the_old_name_teaches_the_resolution_that_was_asked_for(place: Path) -> None:
    assert lesson(place, gsd=0.2).resolution == 0.2
    with pytest.raises(UsageError, match="in place of --gsd"):
        lesson(place, gsd=0.2, resolution=0.2)


def test_more_keeps_the_resolution_of_its_teaching(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Taught(("a.tif",), UTM, "0.2", 64, (0, 0), (1, 1), (1, 1), {}, OrthoReading(bands=(3, 2, 1)))
    monkeypatch.setattr(Taught, "read", lambda _: replace(kept, orthos=()))
    again = lesson(place, more=place, reading=OrthoReading(alpha="none"))
    assert (again.resolution, again.reading) == (0.2, OrthoReading(bands=(3, 2, 1), alpha="none"))
    with pytest.raises(UsageError, match=r"keeps the resolution of its teaching \(0.2\)"):
        lesson(place, more=place, resolution=0.1)
    assert replace(kept, crs="").scale == ("native", 0.2), "of an earlier version, for orthophotos without CRS"


@pytest.mark.slow
def test_more_keeps_classes_labels_and_held_out_ground(first: TaughtModel, place: Path, tmp_path: Path) -> None:
    shapes, names = squares()
    frame = geopandas.GeoDataFrame({"class": names[:3]}, geometry=[shape.buffer(-0.5) for shape in shapes[:3]], crs=UTM)
    frame.to_file(tmp_path / "new.geojson")
    notes = Notes()
    more = taught(place, tmp_path / "more", tmp_path / "new.geojson", more=first.folder, orthos=[], progress=notes)
    before, after = Taught.read(first.folder), Taught.read(more.folder)
    assert after.held_out == before.held_out
    assert any(before.held_out.values())
    assert load_card(more.folder).legend == load_card(first.folder).legend
    assert len(geopandas.read_file(more.folder / "labels.gpkg", layer="labels")) == len(shapes) + 3
    assert load_card(more.folder).licence == NON_COMMERCIAL
    assert any("those held out before" in note for note in notes.said)


def test_more_refuses_a_class_that_the_model_does_not_know(first: TaughtModel, place: Path, tmp_path: Path) -> None:
    shapes, _ = squares()
    geopandas.GeoDataFrame({"class": ["rooof"]}, geometry=shapes[:1], crs=UTM).to_file(tmp_path / "new.gpkg")
    with pytest.raises(InputError, match=r"1 label of the class 'rooof'.*is it 'roof'"):
        taught(place, tmp_path / "more", tmp_path / "new.gpkg", more=first.folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minutes": -1}, "--minutes -1"),
        ({"steps": 4}, "--steps 4: wanted 0 .*, or 20 or more"),
        ({"width_m": 0.0}, "--width 0"),
        ({"width_m": float("nan")}, "--width nan"),
        ({"held_out": 1.5}, "--held-out 1.5"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_before_anything_is_written(
    place: Path, tmp_path: Path, options: dict[str, float], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        aerialseg.teach(place / "ortho.tif", place / "labels.gpkg", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_labels_off_the_imagery_are_refused_before_anything_is_written(place: Path, tmp_path: Path) -> None:
    far = [shapely.affinity.translate(shape, 5000) for shape in squares()[0]]
    geopandas.GeoDataFrame({"class": squares()[1]}, geometry=far, crs=UTM).to_file(tmp_path / "far.gpkg")
    with pytest.raises(InputError, match="do not overlap"):
        taught(place, tmp_path / "out", tmp_path / "far.gpkg")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_there_is_not_replaced_unasked(first: TaughtModel, place: Path) -> None:
    with pytest.raises(UsageError, match="--overwrite replaces it"):
        taught(place, first.folder)


def test_a_folder_of_other_things_is_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(UsageError, match=r"holds thesis.docx"):
        taught(place, tmp_path)


@pytest.mark.slow
def test_a_class_raster_teaches_the_classes_that_it_has(place: Path, tmp_path: Path) -> None:
    truth = np.where(np.arange(WIDTH) % CELL < 3, 255, classes() + 4).astype(np.uint8)
    write(tmp_path / "truth.tif", truth[None], nodata=255)
    made = taught(place, tmp_path / "out", tmp_path / "truth.tif")
    assert load_card(made.folder).legend.names == ("class 4", "class 5", "class 6")
    assert made.evaluation.confusion.pixel_accuracy > 0.9
    assert not (made.folder / "labels.gpkg").exists()


def test_more_needs_a_taught_model(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no teaching.json"):
        taught(place, tmp_path / "out", more=place / "parent")


def test_another_output_named_in_the_card_is_the_model_s_name(first: TaughtModel) -> None:
    assert load_card(first.folder).name == "first"
    assert load_card(first.folder).architecture == Architecture(NARROW, "stage-heads")


class Interrupting(Silent):
    def __init__(self, after: int) -> None:
        self.left = after + 1  # the first call tells what was done before

    def advance(self, amount: float) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def pixels(folder: Path) -> ChipPixels:
    """Two chips of noise with labels."""
    from aerialseg.raster.image import write_png

    rng = np.random.default_rng(5)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(exist_ok=True)
    for name in ("a", "b"):
        write_png(folder / "images" / f"{name}.png", rng.integers(0, 255, (3, 64, 64), np.uint8))
        write_png(folder / "masks" / f"{name}.png", rng.integers(0, 3, (64, 64), np.uint8))
    return ChipPixels(folder, ("a", "b"), 3, card(lively_network(classes=3)))


def test_an_interrupted_fine_tuning_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fine_tune, "CHECKPOINTS", 4)
    chips, tuning = pixels(tmp_path), Tuning(8, seed=1, crop=64)

    def tuned(work: str, progress: Callable[[], Silent] = Silent) -> dict[str, torch.Tensor]:
        (tmp_path / work).mkdir(exist_ok=True)
        network = lively_network(classes=3, decoder="stage-heads")
        fine_tune.fine_tune(network, chips, tuning, tmp_path / work, progress())
        return network.state_dict()

    whole = tuned("whole")
    with pytest.raises(KeyboardInterrupt):
        tuned("cut", lambda: Interrupting(5))
    resumed = tuned("cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    start = lively_network(classes=3, decoder="stage-heads").state_dict()
    same = {name for name in whole if torch.equal(whole[name], start[name])}
    assert "heads.0.weight" not in same
    assert any(name.startswith("enlarge") for name in whole)
    assert all(name in same for name in whole if name.startswith("enlarge"))  # else the confidence would show dots


@pytest.mark.slow
def test_an_interrupted_teaching_goes_on_with_what_was_planned(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> list[float]:
        raise KeyboardInterrupt

    monkeypatch.setattr("aerialseg.training.teaching.candidates.time_step", lambda *_: 0.1)
    with monkeypatch.context() as patched:
        patched.setattr("aerialseg.training.teaching.candidates.fine_tune", interrupted)
        with pytest.raises(KeyboardInterrupt):
            taught(place, tmp_path / "cut", minutes=1.0)
    planned = json.loads((tmp_path / "cut" / "teaching" / "plan.json").read_text())["steps"]
    steps: list[int] = []

    def counted(*given: Any) -> list[float]:
        steps.append(given[2].steps)
        return fine_tune.fine_tune(given[0], given[1], replace(given[2], steps=1), *given[3:])

    monkeypatch.setattr("aerialseg.training.teaching.candidates.fine_tune", counted)
    taught(place, tmp_path / "cut", minutes=1.0)
    assert steps == [planned]
    assert load_network(tmp_path / "cut")[0].exact


@pytest.mark.slow
def test_minutes_that_hold_too_few_steps_are_said_with_those_that_would_do(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aerialseg.training.teaching.candidates.time_step", lambda *_: 60.0)
    notes = Notes()
    assert set(taught(place, tmp_path / "head", minutes=2.0, progress=notes).scores) == {HEAD}
    said = next(note for note in notes.said if "each step" in note)
    assert "60.00 s for each step of fine-tuning here: no time for 20, the least" in said
    advised = re.search(r"--minutes (\d+) would do", said)
    assert advised
    assert 20 <= int(advised[1]) <= 22  # 20 of a minute each, and what else was done in the two
    with pytest.raises(UsageError, match="needs more --minutes or --steps"):
        taught(place, tmp_path / "scratch", minutes=2.0, start="scratch")

"""What a model of one's own gets from the base classes, and what it must say itself."""

from __future__ import annotations

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio

import aerialseg
from aerialseg.datasets.demo import GSD_M
from aerialseg.errors import UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.device import choose
from aerialseg.model.interface import Prediction, Predictor, PredictorSpec, Tile
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.store import save
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, Contextual, Oracle, with_halo
from tests.mapping.test_segment import classes_of
from tests.model.nets import card, lively_network

PIXELS = np.random.default_rng(0).integers(0, 9, (3, 50, 70), dtype=np.uint8)


@dataclass(frozen=True)
class Plain(Predictor, PredictorSpec):
    """As little as one can write: a field without a default, and no default of the base classes changed."""

    card: ModelCard

    def load(self) -> Plain:
        return self

    def predict(self, tile: Tile) -> Prediction:
        classes = tile.pixels[0][tile.core.within(tile.window)] % 5
        return Prediction(classes, classes)


def test_a_model_that_changes_no_default_says_so() -> None:
    plain = Plain(CARD)
    assert (plain.concurrent_calls, plain.tile) == (1, None)
    assert (plain.numerics, plain.tta, plain.device) == ("", False, "cpu")
    assert plain.on_workers() is plain
    plain.release()


def test_a_model_that_changes_no_default_makes_a_map(tmp_path: Path, write_raster: WriteRaster) -> None:
    pixels = land_cover(120, 150)
    aerialseg.segment(
        write_raster(pixels), tmp_path / "map.gpkg", model=Plain(CARD), raster=tmp_path / "classes.tif", block_px=64
    )
    assert np.array_equal(classes_of(tmp_path / "classes.tif"), pixels[0] % 5)


@pytest.mark.parametrize("missing", ["load", "predict"])
def test_a_model_without_a_method_that_it_needs_cannot_be_made(missing: str) -> None:
    methods = {"load": Plain.load, "predict": Plain.predict}
    partial = type("Partial", (Predictor, PredictorSpec), {n: m for n, m in methods.items() if n != missing})
    with pytest.raises(TypeError, match=missing):
        partial()


def test_what_only_looks_like_a_model_is_refused_with_the_class_to_derive_from(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    class Duck:
        card = CARD

    with pytest.raises(UsageError, match=r"model is a Duck: wanted .* a PredictorSpec of aerialseg.model.interface"):
        aerialseg.segment(write_raster(land_cover(64, 64)), tmp_path / "map.gpkg", model=Duck())  # type: ignore[arg-type]


def test_the_gate_is_one_for_all_threads_and_stays_behind_when_the_model_travels() -> None:
    plain = Plain(CARD)
    with ThreadPoolExecutor(8) as threads:
        gates = set(threads.map(lambda _: plain.gate, range(64)))
    assert gates == {plain.gate}
    again = pickle.loads(pickle.dumps(plain))
    assert again == plain
    assert again.gate is not plain.gate


@pytest.mark.parametrize("concurrent_calls", [1, 3])
def test_an_array_is_predicted_by_as_many_threads_as_pay(concurrent_calls: int) -> None:
    inside: set[int] = set()
    most = 0

    class Crowded(Plain):
        def predict(self, tile: Tile) -> Prediction:
            nonlocal most
            inside.add(threading.get_ident())
            most = max(most, len(inside))
            time.sleep(0.01)
            inside.discard(threading.get_ident())
            return super().predict(tile)

    Crowded.concurrent_calls = concurrent_calls
    crowded = Crowded(CARD)
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: crowded.predict_array(PIXELS), range(12)))
    assert most == concurrent_calls


def test_an_array_is_asked_for_as_a_raster_of_one_block_would_be() -> None:
    asked: list[Tile] = []

    class Echo(Plain):
        def predict(self, tile: Tile) -> Prediction:
            asked.append(tile)
            return super().predict(tile)

    answer = Echo(CARD).predict_array(PIXELS)
    assert np.array_equal(answer.classes, PIXELS[0] % 5)
    assert asked[0].window.shape == (64, 96)
    assert asked[0].core.shape == (50, 70)
    assert asked[0].valid.sum() == 50 * 70


def test_an_array_is_nodata_where_it_is_not_valid() -> None:
    valid = np.ones((50, 70), bool)
    valid[10:20, 5:60] = False
    answer = Oracle().predict_array(PIXELS, valid)
    for band in (answer.classes, answer.confidence):
        assert np.array_equal(band == 255, ~valid)


@pytest.mark.parametrize("fake", [Oracle(), Contextual(with_halo(64))], ids=["oracle", "contextual"])
def test_an_array_is_labelled_as_the_raster_is(tmp_path: Path, write_raster: WriteRaster, fake: Plain) -> None:
    pixels, mask = land_cover(130, 170), np.ones((130, 170), bool)
    mask[30:60, 40:90] = False
    source = write_raster(pixels, mask=mask)
    aerialseg.segment(source, tmp_path / "map.gpkg", model=fake, raster=tmp_path / "classes.tif", block_px=64)
    assert np.array_equal(classes_of(tmp_path / "classes.tif"), fake.predict_array(pixels, mask).classes)


@pytest.mark.parametrize(
    ("pixels", "valid", "message"),
    [
        (PIXELS.astype(float), None, r"pixels are float64 \(3, 50, 70\): wanted uint8 \(3, height, width\)"),
        (PIXELS.transpose(1, 2, 0), None, r"pixels are uint8 \(50, 70, 3\)"),
        (PIXELS[0], None, r"pixels are uint8 \(50, 70\)"),
        (PIXELS[:, :0], None, r"pixels are uint8 \(3, 0, 70\)"),
        (PIXELS, np.ones((70, 50), bool), r"valid is bool \(70, 50\): wanted bool \(50, 70\)"),
        (PIXELS, np.ones((50, 70), np.uint8), r"valid is uint8 \(50, 70\): wanted bool"),
    ],
)
def test_an_array_of_another_kind_is_refused(pixels: np.ndarray, valid: np.ndarray | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Oracle().predict_array(pixels, valid)


@pytest.mark.slow
def test_load_model_labels_the_demo_scene_as_segment_does(tmp_path: Path) -> None:
    network = lively_network()
    save(tmp_path / "model", card(network, gsd_m=GSD_M), network.state_dict())
    ortho, _ = aerialseg.draw_demo(tmp_path, width=200, height=150)
    how = {"device": "cpu", "precision": "fp32", "runtime": "torch"}
    outputs = {"raster": tmp_path / "classes.tif", "confidence": tmp_path / "confidence.tif"}
    result = aerialseg.segment(ortho, tmp_path / "map.gpkg", model=tmp_path / "model", block_px=64, **outputs, **how)
    with rasterio.open(ortho) as file:
        pixels, valid = file.read(), file.dataset_mask() > 0
    assert not valid.all()
    # An array's lattice begins at its corner, a map's at the origin of the CRS: so many pixels further up and left.
    grid = result.plan.grid
    more = (grid.top % grid.stride, 0), (grid.left % grid.stride, 0)
    found = aerialseg.load_model(tmp_path / "model", **how).predict_array(
        np.pad(pixels, ((0, 0), *more)), np.pad(valid, more)
    )
    classes, confidence = (band[more[0][0] :, more[1][0] :] for band in (found.classes, found.confidence))
    assert len(np.unique(classes[valid])) > 2
    assert np.array_equal(classes, classes_of(tmp_path / "classes.tif"))
    steps = np.abs(confidence.astype(int) - classes_of(tmp_path / "confidence.tif"))
    assert steps.max() <= 1


def test_models_on_one_device_share_its_gate() -> None:
    networks = [lively_network(seed=seed) for seed in (0, 1)]
    one, other = (ModelPredictor(network, card(network), choose("cpu", "fp32", "torch")) for network in networks)
    assert one.gate is other.gate

"""Mean confidence and the share below 50 %, of the whole map and by class, and what is said of foreign imagery."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import InputError
from aerialseg.legend import NODATA
from aerialseg.mapping.polygonize import polygonize
from aerialseg.mapping.segment import segment
from aerialseg.mapping.trust import FOREIGN_MEAN, Certainty, Trust, rate_map
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, Oracle
from tests.vector.drawn import write


def test_certainty_counts_pixels_that_have_a_class(tmp_path: Path) -> None:
    classes = np.array([[1, 1, 1, 2], [2, 2, 2, NODATA]], np.uint8)
    percent = np.array([[100, 40, 10, 50], [49, 51, 90, NODATA]], np.uint8)
    trust = rate_map(write(tmp_path / "c.tif", classes), write(tmp_path / "p.tif", percent))
    assert trust.whole == Certainty(7, pytest.approx(390 / 700), pytest.approx(3 / 7))
    assert trust.by_class == {
        1: Certainty(3, pytest.approx(0.5), pytest.approx(2 / 3)),
        2: Certainty(4, pytest.approx(0.6), pytest.approx(1 / 4)),
    }


def test_a_map_without_a_class_has_no_certainty(tmp_path: Path) -> None:
    empty = np.full((4, 4), NODATA, np.uint8)
    trust = rate_map(write(tmp_path / "c.tif", empty), write(tmp_path / "p.tif", empty), calibrated=True)
    assert (trust.whole, trust.doubt, trust.to_json({})) == (None, "", {})


@pytest.mark.parametrize(
    ("mean", "calibrated", "said"), [(-0.01, True, True), (0.0, True, False), (-0.3, False, False)]
)
def test_low_confidence_is_said_of_models_whose_confidence_was_checked(
    mean: float, calibrated: bool, said: bool
) -> None:
    trust = Trust(Certainty(100, FOREIGN_MEAN + mean, 0.5), {}, calibrated)
    assert bool(trust.doubt) == said
    assert not said or "does not look like what the model knows" in trust.doubt


def test_a_run_on_foreign_imagery_says_so_once_and_its_layer_keeps_it(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    card = replace(CARD, scores={"calibration": {"ece_before": 0.1, "ece_after_cross_fitted": 0.1}})
    source = write_raster(np.minimum(land_cover(64, 64), 60))  # band 2 is the Oracle's confidence
    result = segment(source, tmp_path / "m.gpkg", model=Oracle(card=card), report=tmp_path / "r.json")
    assert result.trust.whole
    assert result.trust.whole.mean < FOREIGN_MEAN
    assert sum("does not look like" in one for one in result.doubts) == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["confidence"]["mean"] == pytest.approx(result.trust.whole.mean, abs=1e-4)
    assert set(report["confidence"]["classes"]) == set(report["area_m2"])
    with closing(sqlite3.connect(tmp_path / "m.gpkg")) as database:
        rows = [text for (text,) in database.execute("SELECT metadata FROM gpkg_metadata")]
    assert len(rows) == 2
    assert all("does not look like what the model knows" in text and "onfidence" in text for text in rows)


def test_a_redrawn_layer_carries_source_model_and_licence_on_and_refuses_another_runs_confidence(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    card = replace(CARD, licence="for tests only")
    one, other = write_raster(land_cover(40, 40)), write_raster(land_cover(40, 40, seed=1), name="other.tif")
    for name, source in (("one", one), ("two", other)):
        files = {kind: tmp_path / f"{name}.{kind}.tif" for kind in ("raster", "confidence")}
        segment(source, tmp_path / f"{name}.gpkg", model=Oracle(card=card), **files)
    polygonize(tmp_path / "one.raster.tif", tmp_path / "again.gpkg", confidence=tmp_path / "one.confidence.tif")
    with closing(sqlite3.connect(tmp_path / "again.gpkg")) as database:
        text = " ".join(text for (text,) in database.execute("SELECT metadata FROM gpkg_metadata"))
    assert "<rights>for tests only</rights>" in text
    assert f"made from: {one.name}" in text
    assert "one.raster.tif" in text
    with pytest.raises(InputError, match="of another run"):
        polygonize(tmp_path / "one.raster.tif", tmp_path / "no.gpkg", confidence=tmp_path / "two.confidence.tif")

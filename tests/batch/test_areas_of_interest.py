"""An area of interest in a job: relative to the job file, told by its content, and blocks stay when it changes."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest
import shapely

from tests.batch.conftest import SIDE, Folder
from tests.batch.test_batch import Counted

RIGHT = 500_000 + SIDE * 0.1


def save(path: Path, right: float) -> Path:
    path.unlink(missing_ok=True)
    shape = shapely.Polygon([(500_000, 5_000_000), (right, 5_000_000), (right, 4_999_990), (500_000, 4_999_990)])
    geopandas.GeoDataFrame(geometry=[shape], crs="EPSG:32633").to_file(path, layer="flight")
    return path


@pytest.mark.slow
def test_a_file_lies_beside_the_job_and_its_content_counts(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    area = save(folder.path / "area.gpkg", RIGHT - 1)
    job = {"settings": {"aoi": "area.gpkg:flight"}, "inputs": {"glob": "in/a.tif"}, "keep": {"runs": True}}
    assert folder.run(**job).counts == {"done": 1}
    assert folder.entries()["a.tif"].valid_px == (SIDE - 10) * SIDE
    assert folder.run(**job).counts == {"unchanged": 1}
    save(area, RIGHT - 2)
    assert folder.run(**job).counts == {"done": 1}
    assert folder.reasons()["a.tif"].count("area.gpkg:flight (SHA-256 ") == 2
    assert folder.entries()["a.tif"].valid_px == (SIDE - 20) * SIDE


def test_another_area_keeps_the_blocks_of_a_kept_run(folder: Folder) -> None:
    job = {"inputs": {"glob": "in/a.tif"}, "keep": {"runs": True}}
    corners = [(500_000, 5_000_000), (RIGHT, 5_000_000), (RIGHT, 4_999_990), (RIGHT - 1, 4_999_990)]
    frame = geopandas.GeoDataFrame(geometry=[shapely.Polygon(corners)], crs="EPSG:32633")
    frame.to_file(folder.path / "slanted.gpkg")
    folder.run(**job)
    counted = Counted()
    folder.run(predictor=counted, settings={"aoi": "slanted.gpkg"}, **job)
    assert not counted.seen
    assert 0 < folder.entries()["a.tif"].valid_px < SIDE * SIDE


def test_an_input_beside_the_area_fails_alone(folder: Folder) -> None:
    """A second raster meets the box, the third does not."""
    summary = folder.run(settings={"aoi": f"500001,4999996,{RIGHT + 1},4999999"}, retry={"times": 0})
    assert summary.counts == {"done": 2, "failed": 1}
    assert "do not overlap" in folder.reasons()["deep/c.tif"] + str(folder.entries()["deep/c.tif"])

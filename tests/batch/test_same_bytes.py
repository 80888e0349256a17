"""The same input gives the same bytes, whenever and however often it is computed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import aerialseg
from aerialseg.batch.collect import Wanted, collect
from aerialseg.errors import UsageError
from aerialseg.mapping.segment import segment
from aerialseg.raster.describe import source_date
from aerialseg.vector.formats import ENDINGS
from tests.batch.conftest import Folder, draw
from tests.conftest import land_cover
from tests.fakes import Oracle
from tests.faults.test_outputs import project

OUTPUTS = {"layer": "out/{stem}.gpkg", "raster": "out/{stem}.tif", "confidence": "out/{stem}-confidence.tif"}


def await_next_second() -> None:
    """Times in the products have seconds: a run in the same one would prove nothing."""
    time.sleep(1.01 - time.time() % 1)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return draw(tmp_path / "a.tif", land_cover(120, 150))


@pytest.mark.slow
def test_segment_and_polygonize_twice_give_the_same_bytes(tmp_path: Path, source: Path) -> None:
    theirs = project(tmp_path / "theirs.gpkg")
    made, given = [], tmp_path / "given.tif"
    for number in range(2):
        await_next_second()
        folder = tmp_path / f"out{number}"
        for ending in ENDINGS:
            (place := folder / ending).mkdir(parents=True)
            layer, classes, confidence = place / f"map{ending}", place / "classes.tif", place / "confidence.tif"
            segment(source, layer, model=Oracle(), raster=classes, confidence=confidence, dissolve=True)
            if not given.exists():  # beside both folders: a QGIS project has relative paths
                shutil.copy2(classes, given)
            aerialseg.polygonize(given, place / f"again{ending}", dissolve=True)
        shutil.copy(theirs, folder / "project.gpkg")
        segment(source, folder / "project.gpkg", model=Oracle(), overwrite=True)
        shutil.copy(tmp_path / "out0/project.gpkg", folder / "replaced.gpkg")
        segment(source, folder / "replaced.gpkg", model=Oracle(), overwrite=True, dissolve=True, simplify_m=0)
        made.append(files_in(folder))
    assert made[0] == made[1]
    assert len(made[0]) > 4 * len(ENDINGS)


@pytest.mark.slow
def test_a_batch_and_what_is_collected_of_it_twice_give_the_same_bytes(folder: Folder) -> None:
    pytest.importorskip("pystac")
    made = []
    for _ in range(2):
        await_next_second()
        for name in ("out", "night.job", "stac"):
            shutil.rmtree(folder.path / name, ignore_errors=True)
        assert folder.run(outputs=OUTPUTS).exit_code == 0
        wanted = Wanted(*(folder.path / "out" / name for name in ("all.gpkg", "all.vrt")), folder.path / "stac")
        collect(folder.path / "night.job", wanted)
        collect(folder.path / "night.job", Wanted(mosaic=folder.path / "out/all.tif"))
        made.append(files_in(folder.path / "out") | files_in(folder.path / "stac"))
    assert made[0] == made[1]
    assert {"all.gpkg", "all.vrt", "all.tif", "a.gpkg", "a.tif", "collection.json"} <= set(made[0])


def dates(layer: Path) -> set[str]:
    query = (
        "SELECT last_change FROM gpkg_contents UNION SELECT timestamp FROM gpkg_metadata_reference "
        "UNION SELECT update_time FROM layer_styles"
    )
    with closing(sqlite3.connect(layer)) as database:
        return {date for (date,) in database.execute(query)}


def test_the_times_in_a_geopackage_are_those_of_the_input_or_the_one_asked_for(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(source, (1_000_000_000.9, 1_000_000_000.9))
    segment(source, tmp_path / "own.gpkg", model=Oracle())
    assert dates(tmp_path / "own.gpkg") == {"2001-09-09T01:46:40.000Z"}
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    segment(source, tmp_path / "asked.gpkg", model=Oracle())
    assert dates(tmp_path / "asked.gpkg") == {"2023-11-14T22:13:20.000Z"}


def test_any_time_of_a_file_gives_a_date_and_a_wrong_wish_is_refused_before_the_network_runs(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = draw(tmp_path / "classes.tif", land_cover(9, 9)[:1])
    assert source_date("https://example.org/a.tif").year == 1970
    monkeypatch.setattr(os.path, "getmtime", lambda path: 1e15)
    assert source_date(source).year == 9999
    for wish in ("today", "1e9", str(10**20)):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wish)
        with pytest.raises(UsageError, match=f"SOURCE_DATE_EPOCH is '{wish}'"):
            segment(source, tmp_path / "map.gpkg", model=None)
        with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
            aerialseg.polygonize(classes, tmp_path / "map.gpkg")

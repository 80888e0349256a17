"""Jobs whose files are one orthophoto, one for each folder or one of all; only what changed is computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from aerialseg.batch.dry_run import dry_run
from aerialseg.errors import UsageError
from aerialseg.mapping.segment import segment
from tests.batch.conftest import SIDE, Folder, draw
from tests.batch.test_batch import Counted
from tests.conftest import land_cover
from tests.fakes import Oracle
from tests.mapping.test_segment import read_layer

JOB = {"outputs": {"layer": "out/{stem}.gpkg", "raster": "out/{stem}.tif"}, "settings": {"min-area": 0.1}}


@pytest.fixture
def flights(tmp_path: Path) -> Folder:
    for flight in range(2):
        for number in range(3):
            left = 500_000 + (flight * 10 + number) * SIDE * 0.1
            draw(tmp_path / "in" / f"f{flight}" / f"{number}.tif", land_cover(SIDE, SIDE, seed=number), left=left)
    return Folder(tmp_path)


def test_the_files_of_each_folder_are_one_orthophoto(flights: Folder) -> None:
    found = flights.run(inputs={"glob": "in/**/*.tif", "mosaic": "{folder}"}, **JOB)
    assert found.counts == {"done": 2}
    assert set(flights.entries()) == {"f0", "f1"}
    segment(flights.path / "in" / "f1", flights.path / "alone.gpkg", model=Oracle(), min_area_m2=0.1)
    assert (
        read_layer(flights.path / "out" / "f1.gpkg").to_wkb().equals(read_layer(flights.path / "alone.gpkg").to_wkb())
    )
    again = flights.run(inputs={"glob": "in/**/*.tif", "mosaic": "{folder}"}, **JOB)
    assert again.counts == {"unchanged": 2}


def test_all_files_may_be_one_orthophoto(flights: Folder) -> None:
    inputs = {"glob": "in/f0/*.tif", "mosaic": True}
    estimate = dry_run(flights.job(inputs=inputs, **JOB), predictor=Oracle())
    assert [line.pixels for line in estimate.lines] == [3 * SIDE * SIDE]
    assert flights.run(inputs=inputs, **JOB).counts == {"done": 1}
    assert (flights.path / "out" / "night.gpkg").exists()


@pytest.mark.slow
def test_a_renewed_tile_renews_its_mosaic_alone_and_only_what_sees_it(flights: Folder) -> None:
    inputs, counted = {"glob": "in/**/*.tif", "mosaic": "{folder}"}, Counted()
    flights.run(inputs=inputs, predictor=counted, **JOB)
    counted.seen.clear()
    draw(flights.path / "in" / "f1" / "1.tif", land_cover(SIDE, SIDE, seed=77), left=500_000 + 11 * SIDE * 0.1)
    assert flights.run(inputs=inputs, predictor=counted, **JOB).counts == {"done": 1, "unchanged": 1}
    assert len(counted.seen) == 1
    segment(flights.path / "in" / "f1", flights.path / "alone.gpkg", model=Oracle(), min_area_m2=0.1)
    assert (
        read_layer(flights.path / "out" / "f1.gpkg").to_wkb().equals(read_layer(flights.path / "alone.gpkg").to_wkb())
    )


@pytest.mark.parametrize("pattern", ["{flight}", "{folder", "{folder.x}"])
def test_a_pattern_that_says_nothing_is_refused(flights: Folder, pattern: str) -> None:
    with pytest.raises(UsageError, match=r"inputs\.mosaic"):
        flights.run(inputs={"glob": "in/**/*.tif", "mosaic": pattern}, **JOB)


def test_an_output_that_is_a_tile_of_a_mosaic_is_refused(flights: Folder) -> None:
    with pytest.raises(UsageError, match="never to be overwritten"):
        flights.run(
            inputs={"glob": "in/f0/*.tif", "mosaic": "{folder}"},
            outputs={"layer": "out/{stem}.gpkg", "raster": "in/f0/1.tif"},
        )

"""Another layer of a job's finished inputs: drawn from what was kept, without the network, and equal to a clean run."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aerialseg.batch.dry_run import describe_estimate, dry_run
from aerialseg.batch.job import run_job
from tests.batch.conftest import SIDE, Folder, draw
from tests.batch.test_batch import Counted
from tests.conftest import land_cover
from tests.fakes import Flaky, Oracle
from tests.mapping.test_segment import read_layer

RASTERS = {
    "layer": "out/{folder}/{stem}.gpkg",
    "raster": "out/{folder}/{stem}.tif",
    "confidence": "out/{folder}/{stem}_c.tif",
}
KEPT: list[dict[str, Any]] = [
    {"outputs": RASTERS},
    {"keep": {"runs": True}},
    {"outputs": RASTERS, "keep": {"runs": True}},
]
OTHER = {"settings": {"min-area": 2, "smooth": True}}


def layers(folder: Folder, out: str = "out") -> dict[str, Any]:
    found = sorted((folder.path / out).rglob("*.gpkg"))
    return {str(path.relative_to(folder.path / out)): read_layer(path).to_wkb() for path in found}


def rasters(folder: Folder, out: str = "out") -> dict[str, bytes]:
    found = sorted((folder.path / out).rglob("*.tif"))
    return {str(path.relative_to(folder.path / out)): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("kept", KEPT, ids=["rasters", "runs", "both"])
def test_a_changed_layer_setting_redraws_without_the_network(
    folder: Folder, tmp_path_factory: pytest.TempPathFactory, kept: dict[str, Any]
) -> None:
    folder.run(**kept)
    counted = Counted()
    assert folder.run(predictor=counted, **kept, **OTHER).counts == {"done": 3}
    assert not counted.seen
    assert set(folder.reasons().values()) == {
        "min-area changed from the default to 2.0, smooth changed from the default to True"
    }
    assert folder.run(predictor=counted, **kept, **OTHER).counts == {"unchanged": 3}

    os.rename(folder.path / "out", folder.path / "redrawn")
    os.rename(folder.path / "night.job", folder.path / "old.job")
    folder.run(**kept, **OTHER)
    redrawn, clean = layers(folder, "redrawn"), layers(folder)
    assert redrawn.keys() == clean.keys()
    assert all(redrawn[name].equals(clean[name]) for name in clean)
    assert rasters(folder, "redrawn") == rasters(folder)


@pytest.mark.slow
def test_a_dry_run_says_redraw_and_what_it_cannot_redraw_it_says(folder: Folder) -> None:
    folder.run(outputs=RASTERS)
    lines = describe_estimate(dry_run(folder.job(outputs=RASTERS, **OTHER), predictor=Oracle()))
    assert [line.split()[0] for line in lines[:3]] == ["redraw"] * 3
    assert "0 of 3 inputs to compute" in lines[-1]
    assert "3 to redraw without the network" in lines[-1]
    plain = {name: RASTERS[name] for name in ("layer", "raster")}
    folder.run(outputs=plain)
    lines = describe_estimate(dry_run(folder.job(outputs=plain, **OTHER), predictor=Oracle()))
    assert lines[0].startswith("compute a.tif: min-area changed")
    assert "nothing was kept to redraw from" in lines[0]


@pytest.mark.slow
def test_a_missing_layer_is_redrawn(folder: Folder) -> None:
    folder.run(outputs=RASTERS)
    (folder.path / "out/b.gpkg").unlink()
    counted = Counted()
    assert folder.run(outputs=RASTERS, predictor=counted).counts == {"done": 1, "unchanged": 2}
    assert not counted.seen
    assert (folder.path / "out/b.gpkg").exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["input", "bands", "raster touched", "raster missing", "another raster"])
def test_what_is_not_as_it_was_is_computed(folder: Folder, what: str) -> None:
    folder.run(outputs=RASTERS)
    raster, settings = folder.path / "out/b.tif", dict(OTHER["settings"])
    if what == "input":
        draw(folder.path / "in/b.tif", land_cover(SIDE, SIDE, seed=9))
    elif what == "bands":
        settings["bands"] = [3, 2, 1]
    elif what == "raster touched":
        os.utime(raster)
    elif what == "raster missing":
        raster.unlink()
    else:
        old = raster.stat()
        raster.write_bytes((folder.path / "out/a.tif").read_bytes())
        os.utime(raster, ns=(old.st_atime_ns, old.st_mtime_ns))
    counted = Counted()
    assert folder.run(outputs=RASTERS, predictor=counted, settings=settings).counts == {"done": 3}
    assert len(counted.seen) == (3 if what == "bands" else 1)


def test_a_dry_run_counts_only_the_blocks_that_are_not_done(folder: Folder, tmp_path: Path) -> None:
    job = folder.job()
    job = replace(job, settings={**job.settings, "block_px": 32})
    assert run_job(job, predictor=Flaky(tmp_path / "log", 3)).exit_code == 1
    first, *others = dry_run(job, predictor=Oracle()).lines
    assert re.fullmatch(r"failed before; resuming: 2 of \d blocks are done", first.reason)
    assert 0 < first.pixels < SIDE * SIDE
    assert [line.pixels for line in others] == [SIDE * SIDE] * 2

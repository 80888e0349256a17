"""A dry run says what the run does, fails where the run fails early, and writes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from aerialseg.cli.segment_command import segment_command
from aerialseg.errors import InputError, OutputError, ResourceError, UsageError
from aerialseg.locks import locked
from aerialseg.mapping.estimate import RunEstimate, describe_run
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.segment import plan_run, segment
from aerialseg.raster.grid import Box
from tests.fakes import Contextual
from tests.mapping.test_mosaics import Counting, Heard, asked, cut, run, scene, write_tile

__all__ = ["asked"]


@contextmanager
def nothing_written(folder: Path) -> Iterator[None]:
    def state() -> list[tuple[Path, int]]:
        return [(path, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*")) if path.name != "asked"]

    before = state()
    yield
    assert state() == before


def estimate(source: Any, folder: Path, **options: Any) -> RunEstimate:
    """A dry run of what `tests.mapping.test_mosaics.run` does."""
    options = {"model": Contextual(), "block_px": 96, "min_area_m2": 0.1, "overwrite": True} | options
    with nothing_written(folder):
        return plan_run(source, folder / "map.fgb", **options)


def test_a_new_run_computes_all_blocks(tmp_path: Path) -> None:
    cut(scene(), tmp_path / "tiles", (101, 160), (64, 203))
    found = estimate(tmp_path / "tiles", tmp_path, keep_run=tmp_path / "runs" / "one")
    made, _, _ = run(tmp_path / "tiles", tmp_path)
    assert found.plan.digest == made.plan.digest
    assert (found.blocks, found.pixels) == (len(made.plan.grid), made.plan.pixels)
    assert found.seconds
    assert found.paths == (tmp_path / "map.fgb", tmp_path / "map.qml")
    lines = describe_run(found)
    assert lines[0] == "sources  9 used, 0 resampled, 0 refused"
    assert "grid     340 x 300 px (0.10 Mpx) from (500003.7, 5000001.9), WGS 84 / UTM zone 33N (EPSG:32633)" in lines
    assert f"blocks   {found.blocks} of {found.blocks} to compute, 0.10 Mpx: all" in lines
    assert lines[-2] == f"output   {tmp_path / 'map.fgb'}"


@pytest.mark.slow
def test_what_would_be_computed_is_what_is_computed(tmp_path: Path, asked: Any) -> None:
    tiles = cut(scene(), tmp_path / "tiles", (101, 160), (64, 203))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    blocks = len(run(tmp_path / "tiles", tmp_path, **keep)[0].plan.grid)
    write_tile(tiles[3], scene(seed=9), Box(160, 203, 300, 340))
    found = estimate(tmp_path / "tiles", tmp_path, **keep)
    asked()  # the tile that tells the time
    heard = Heard()
    run(tmp_path / "tiles", tmp_path, **keep, overwrite=True, progress=heard)
    assert 0 < found.blocks == asked() < blocks
    assert found.reason.startswith("1 source changed since")
    assert found.reason in heard.notes


def test_blocks_that_are_done_are_not_computed_again(tmp_path: Path, asked: Any) -> None:
    cut(scene(), tmp_path / "tiles", (150,), (170,))
    keep = {"model": Counting(), "keep_run": tmp_path / "run"}
    blocks = len(run(tmp_path / "tiles", tmp_path, **keep)[0].plan.grid)
    found = estimate(tmp_path / "tiles", tmp_path, **keep, smooth=True)
    assert (found.blocks, found.redraw, found.seconds) == (0, True, 0.0)
    assert "--smooth" in found.reason
    for path in ("mosaic.json", "blocks/r00000_c00000.tif"):
        (tmp_path / "run" / path).unlink(missing_ok=True)
    gone = sorted((tmp_path / "run" / "blocks").glob("*.tif"))[:2]
    for path in gone:
        path.unlink()
    found = estimate(tmp_path / "tiles", tmp_path, **keep)
    assert (found.blocks, found.redraw) == (2, False)
    assert found.reason == f"resuming: {blocks - 2} of {blocks} blocks are done"


def test_another_order_of_files_that_overlap_is_named(tmp_path: Path) -> None:
    keep = {"keep_run": tmp_path / "run"}
    (tmp_path / "tiles").mkdir()
    for name, seed, box in (("a", 0, Box(0, 0, 300, 200)), ("b", 9, Box(0, 150, 300, 340))):
        write_tile(tmp_path / "tiles" / f"{name}.tif", scene(seed=seed), box)
    tiles = sorted((tmp_path / "tiles").iterdir())
    blocks = len(run(tiles, tmp_path, **keep, order="given")[0].plan.grid)
    found = estimate(tiles[::-1], tmp_path, **keep, order="given")
    assert 0 < found.blocks < blocks
    assert found.reason.startswith("the order of sources changed since: ")


def test_sources_that_are_resampled_or_refused_are_counted_and_named(tmp_path: Path) -> None:
    cut(scene(), tmp_path / "tiles", (150,), (170,))
    (tmp_path / "tiles" / "page.tif").write_text("<html>")
    with pytest.raises(InputError, match="1 of 5 rasters cannot be used"):
        estimate(tmp_path / "tiles", tmp_path)
    found = estimate(tmp_path / "tiles", tmp_path, on_read_error="nodata", resolution_m=0.23)
    lines = describe_run(found)
    assert lines[0] == "sources  4 used, 4 resampled, 1 refused"
    assert "page.tif" in lines[1]
    assert found.to_json()["refused"][0]["path"].endswith("page.tif")


def test_it_fails_where_the_run_fails_before_its_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = scene(60, 60)
    source = write_tile(tmp_path / "a.tif", pixels, Box(0, 0, 60, 60))
    with pytest.raises(UsageError, match="is the input itself"):
        estimate(source, tmp_path, raster=source)
    with pytest.raises(InputError, match="max-pixels"):
        estimate(source, tmp_path, max_pixels=10)
    segment(source, tmp_path / "b.fgb", model=Contextual(), keep_run=tmp_path / "run")
    with pytest.raises(OutputError, match="another value of the size of blocks"):
        estimate(source, tmp_path, keep_run=tmp_path / "run")
    with locked(tmp_path / "run" / "lock", lambda: ""), pytest.raises(OutputError, match="in use by another run"):
        estimate(source, tmp_path, keep_run=tmp_path / "run")
    with pytest.raises(OutputError, match="cannot write"):
        estimate(source, tmp_path, keep_run=source / "run")
    monkeypatch.setattr(Plan, "disk_bytes", shutil.disk_usage(tmp_path).total * 2)
    with pytest.raises(ResourceError, match="the run may take"):
        estimate(source, tmp_path)


@pytest.mark.slow
def test_the_command_says_it_on_stdout(tmp_path: Path) -> None:
    source = write_tile(tmp_path / "a.tif", scene(60, 60), Box(0, 0, 60, 60))
    arguments = [str(source), str(tmp_path / "map.gpkg"), "--resolution", "native", "--dry-run"]
    with nothing_written(tmp_path):
        done = CliRunner().invoke(segment_command, arguments)
    assert done.exit_code == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "sources", "reading", "grid", "blocks", "time", "disk", "output",
    ]  # fmt: skip
    (tmp_path / "map.gpkg").write_text("x")
    assert CliRunner().invoke(segment_command, arguments).exit_code == 2

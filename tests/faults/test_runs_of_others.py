"""Fault 35: a run directory that somebody else made is refused, and nothing outside it is written or removed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import OutputError
from aerialseg.files import identity
from aerialseg.mapping.run import Run
from aerialseg.mapping.segment import segment
from aerialseg.raster.blocks import write_block
from tests.batch.conftest import Folder, draw, folder
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Flaky, Oracle

__all__ = ["folder"]

NAMES = ["plan.json", "lock", "publishing.json", "run.json", "mosaic.json", "classes.tif", "confidence.tif"]
FILES = [*NAMES, *(f"{name}.part" for name in NAMES if name != "lock"), "blocks/r00000_c00000.tif"]
FILES += ["blocks/r00001_c00001.tif.part", "blocks/r00000_c00000.json"]
FOLDERS = ["blocks", "products", "blocks/parts-0123456789abcdef"]


def outside_of(tmp_path: Path) -> Path:
    """A folder with files of somebody else, of all names that a run has."""
    outside = tmp_path / "outside"
    for name in (*FILES, "products/layer.gpkg", "parts/a.tif", "gone-1"):
        path = outside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"precious")
    return outside


def content_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace_by(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    make(path)


@pytest.fixture
def source(tmp_path: Path, write_raster: WriteRaster) -> Path:
    """A raster, a run of it that died after three of four blocks, and files of others."""
    source = write_raster(land_cover(64, 64))
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 4), block_px=32, keep_run=tmp_path / "run")
    return source


def check_refused(source: Path, outside: Path) -> None:
    before = content_of(outside)
    with pytest.raises(OutputError):
        segment(source, source.with_name("map.gpkg"), model=Oracle(), block_px=32, keep_run=source.with_name("run"))
    assert content_of(outside) == before
    assert not source.with_name("map.gpkg").exists()


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_row_35_a_link_in_the_run_directory_is_not_followed(tmp_path: Path, source: Path, name: str) -> None:
    outside = outside_of(tmp_path)
    replace_by(tmp_path / "run" / name, lambda path: path.symlink_to(outside / name))
    check_refused(source, outside)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".part")])
def test_row_35_a_second_name_of_a_file_elsewhere_is_not_written_through(
    tmp_path: Path, source: Path, name: str
) -> None:
    outside = outside_of(tmp_path)
    replace_by(tmp_path / "run" / name, lambda path: os.link(outside / name, path))
    check_refused(source, outside)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", NAMES)
def test_row_35_what_is_no_file_is_refused_at_once(
    tmp_path: Path, source: Path, name: str, make: Callable[[Path], object]
) -> None:
    replace_by(tmp_path / "run" / name, make)
    check_refused(source, outside_of(tmp_path))


def test_row_35_a_run_directory_that_is_a_link_is_refused(tmp_path: Path, source: Path) -> None:
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    check_refused(source, tmp_path / "elsewhere")


OTHER_TYPES = ["[]", "5", '"x"', "null", "{", "[" * 100_000, '{"view": [], "layer": {}}', "\udcff"]
OTHER_TYPES += ['{"settings": {}, "layer": {}, "sources": [5]}', '{"settings": {}, "layer": {}, "sources": [["a", 5]]}']


@pytest.mark.parametrize("text", OTHER_TYPES, ids=range(len(OTHER_TYPES)))
def test_row_35_a_plan_of_another_type_is_refused(tmp_path: Path, source: Path, text: str) -> None:
    (tmp_path / "run" / "plan.json").write_text(text, errors="surrogateescape")
    check_refused(source, outside_of(tmp_path))


@pytest.mark.parametrize("lost", ["5", '[["a"]]', "[[1, 2]]", '{"a": 1}'])
def test_row_35_lost_pixels_of_another_type_are_refused(tmp_path: Path, source: Path, lost: str) -> None:
    block = next((tmp_path / "run" / "blocks").glob("*.tif"))
    block.with_suffix(".json").write_text(f'{{"lost": {lost}}}')
    check_refused(source, outside_of(tmp_path))


def test_row_35_a_block_of_another_size_is_refused(tmp_path: Path, source: Path) -> None:
    from aerialseg.batch.task import plan_of

    plan = plan_of([str(source)], {"block_px": 32}, Oracle())
    task = next(plan.tasks(Oracle(), tmp_path / "run" / "blocks"))
    write_block(task.path, *np.zeros((2, 8, 8), np.uint8), key=task.key)
    check_refused(source, outside_of(tmp_path))


@pytest.mark.parametrize("content", [b"no raster", None], ids=["no raster", "another size"])
def test_row_35_a_planted_mosaic_is_refused(tmp_path: Path, source: Path, content: bytes | None) -> None:
    from aerialseg.batch.task import plan_of

    run = Run(tmp_path / "run")
    for path in (run.classes, run.confidence):
        draw(path, np.zeros((1, 8, 8), np.uint8)) if content is None else path.write_bytes(content)
    digest = plan_of([str(source)], {"block_px": 32}, Oracle()).blocks_digest
    files = [identity(path) for path in (run.classes, run.confidence)]
    (run.folder / "mosaic.json").write_text(json.dumps({"blocks_digest": digest, "files": files}))
    check_refused(source, outside_of(tmp_path))


def test_row_35_a_planted_seal_without_rasters_is_no_seal(tmp_path: Path, source: Path) -> None:
    from aerialseg.batch.task import plan_of

    digest = plan_of([str(source)], {"block_px": 32}, Oracle()).blocks_digest
    (tmp_path / "run" / "mosaic.json").write_text(json.dumps({"blocks_digest": digest, "files": []}))
    assert segment(source, tmp_path / "map.gpkg", model=Oracle(), block_px=32, keep_run=tmp_path / "run").valid_px


@pytest.mark.slow
@pytest.mark.parametrize("known", [[[8, 1, 2]], 5, {}, [None], "x"])
def test_row_35_files_that_a_run_names_are_neither_written_nor_removed(
    tmp_path: Path, source: Path, known: object
) -> None:
    outside = outside_of(tmp_path)
    names = [*map(str, content_of(outside)), "a\0b", "/", ""]
    (tmp_path / "run" / "publishing.json").write_text(json.dumps({"files": dict.fromkeys(names, known)}))
    before = content_of(outside)
    segment(source, tmp_path / "map.gpkg", model=Oracle(), block_px=32, keep_run=tmp_path / "run")
    assert content_of(outside) == before


@pytest.mark.parametrize("name", ["runs", "reports", "lock", "owner.json", "ledger.sqlite", "ledger.sqlite-journal"])
def test_row_35_a_link_in_a_jobs_folder_is_not_followed(folder: Folder, name: str) -> None:
    outside = outside_of(folder.path)
    job = folder.path / "night.job"
    job.mkdir()
    (job / name).symlink_to(outside if name in ("runs", "reports") else outside / "lock")
    before = content_of(outside)
    with pytest.raises(OutputError, match="is a link"):
        folder.run()
    assert content_of(outside) == before


def test_row_35_a_run_of_a_job_that_is_a_link_is_not_followed(folder: Folder) -> None:
    folder.run(keep={"runs": True})
    runs = sorted((folder.path / "night.job" / "runs").iterdir())
    outside = folder.path / "outside"
    runs[0].rename(outside)
    runs[0].symlink_to(outside)
    before = content_of(outside)
    shutil.rmtree(folder.path / "out")
    assert folder.run(keep={"runs": True}).exit_code == 1
    assert [entry.error_kind for entry in folder.entries().values() if entry.status == "failed"] == ["output"]
    assert content_of(outside) == before


@pytest.mark.parametrize("known", ["5", "[5]", '[["a"]]', '[["a", 1, 2, 3]]'])
def test_row_35_sources_of_another_type_are_refused(tmp_path: Path, source: Path, known: str) -> None:
    (tmp_path / "run" / "sources.json").write_text(f'{{"sources": {known}}}')
    check_refused(source, outside_of(tmp_path))

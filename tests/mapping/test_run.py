"""A run's directory: taken up, refused, left alone; and results that appear only when they are whole."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features

from aerialseg.errors import InputError, OutputError, ResourceError, UsageError
from aerialseg.mapping import publishing
from aerialseg.mapping import run as run_module
from aerialseg.mapping.segment import segment
from aerialseg.model.interface import Tile
from aerialseg.progress import Silent
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, Flaky, Oracle, with_halo
from tests.mapping.test_segment import classes_of, damaged, read_layer


def test_row_22_an_interrupted_run_resumes_and_gives_the_same_result(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(160, 160))
    segment(source, tmp_path / "clean.gpkg", model=Oracle(), raster=tmp_path / "clean.tif", block_px=32)
    with pytest.raises(RuntimeError, match="died"):
        segment(
            source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 12), raster=tmp_path / "c.tif", block_px=32
        )
    run = tmp_path / "map.gpkg.run"
    done = len(list((run / "blocks").glob("*.tif")))
    assert 1 <= done < 25
    assert not (tmp_path / "map.gpkg").exists()
    (tmp_path / "log").write_text("")
    segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 1000), raster=tmp_path / "c.tif", block_px=32)
    assert len((tmp_path / "log").read_text()) == 25 - done
    assert not run.exists()
    assert (tmp_path / "c.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()
    one, other = (read_layer(tmp_path / name) for name in ("map.gpkg", "clean.gpkg"))
    assert one.to_wkb().equals(other.to_wkb())


def test_a_failure_leaves_an_earlier_result_as_it_was(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    (tmp_path / "map.fgb").write_bytes(b"an earlier map")
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.fgb", model=Flaky(tmp_path / "log", 2), overwrite=True, block_px=32)
    assert (tmp_path / "map.fgb").read_bytes() == b"an earlier map"


def test_a_failure_before_the_first_block_leaves_nothing_behind(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    before = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 1), block_px=64)
    assert {path.name for path in tmp_path.iterdir()} - before == {"log"}


def test_a_kept_run_is_never_mixed_with_other_settings(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    segment(source, tmp_path / "map.gpkg", model=Oracle(), keep_run=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["polygons"] > 0
    other = Oracle(replace(CARD, weights_sha256="1" * 64))
    for options, word in (
        ({"model": other}, "--model"),
        ({"bands": (3, 2, 1)}, "--bands"),
        ({"resolution_m": 0.2}, "--resolution or --pixel-size"),
        ({"block_px": 32}, "the size of blocks"),
    ):
        with pytest.raises(OutputError, match=f"another value of .*{word}"):
            segment(source, tmp_path / "m2.gpkg", keep_run=tmp_path / "run", **({"model": Oracle()} | options))


def test_a_kept_run_goes_on_with_another_input_as_a_run_from_the_start(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source, maps = write_raster(land_cover(64, 64)), [tmp_path / f"{number}.fgb" for number in range(3)]
    segment(source, maps[0], model=Oracle(), keep_run=tmp_path / "run")
    write_raster(land_cover(64, 64, seed=2))
    segment(source, maps[1], model=Oracle(), keep_run=tmp_path / "run")
    segment(source, maps[2], model=Oracle())
    shapes = [[shape.wkb for shape in geopandas.read_file(path).geometry] for path in maps]
    classes = [geopandas.read_file(path)["class_id"].tolist() for path in maps]
    assert classes[1] == classes[2] != classes[0]
    assert shapes[1] == shapes[2]


def test_a_kept_run_is_only_taken_up_if_all_that_decides_its_blocks_is_the_same(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source, kept = write_raster(land_cover(64, 64)), tmp_path / "run"
    segment(source, tmp_path / "map.gpkg", model=Oracle(), keep_run=kept)
    plan = json.loads((kept / "plan.json").read_text())
    assert {"model", "model_digest", "numerics", "tiling", "version", "pixel"} < set(plan["settings"])
    for name in plan["settings"]:
        other = {"settings": plan["settings"] | {name: "another"}}
        (kept / "plan.json").write_text(json.dumps(plan | other))
        with pytest.raises(OutputError, match="was made with another value of"):
            segment(source, tmp_path / "m2.gpkg", model=Oracle(), keep_run=kept)


def test_row_26_an_input_that_changes_during_the_run_gives_no_result(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))

    class Meddling(Oracle):
        def predict(self, tile: Tile):  # type: ignore[no-untyped-def]
            write_raster(land_cover(64, 64, seed=9))
            return super().predict(tile)

    with pytest.raises(OutputError, match="changed during the run"):
        segment(source, tmp_path / "map.gpkg", model=Meddling())
    assert not (tmp_path / "map.gpkg").exists()


def test_a_disk_without_room_for_the_run_ends_it_before_any_work(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    petabytes = {"resolution_m": 1e-7, "max_pixels": 10**16}  # 64 million px square from a raster of 64

    class Begun(Silent):
        def note(self, message: str) -> None:
            pytest.fail(f"the run began: {message}")

    with pytest.raises(ResourceError, match=r"has .* free and the run may take .*: free some"):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), progress=Begun(), **petabytes)
    assert list(tmp_path.iterdir()) == [source]


def test_row_23_a_run_directory_in_use_is_refused_and_that_of_a_killed_run_is_taken_over(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(64, 64))
    code = (
        "import sys, time; from aerialseg.mapping.run import Run\n"
        "with Run(sys.argv[1]).lock(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "map.gpkg.run")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(OutputError, match="in use by another run"):
            segment(source, tmp_path / "map.gpkg", model=Oracle())
    finally:
        holder.kill()
        holder.communicate()
    segment(source, tmp_path / "map.gpkg", model=Oracle())  # a killed run's lock is taken over


def test_a_run_directory_that_is_none_is_left_alone(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    mine = tmp_path / "folder" / "products" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(UsageError, match="holds other things than a run"):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), keep_run=tmp_path / "folder")
    assert mine.read_text() == "precious"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["products"]


def test_nothing_of_the_users_may_lie_in_the_run_directory(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    segment(source, tmp_path / "map.gpkg", model=Oracle(), keep_run=tmp_path / "run")
    inside = tmp_path / "run" / "classes.tif"
    with pytest.raises(UsageError, match="lies in the run directory"):
        segment(inside, tmp_path / "m.gpkg", model=Oracle(), keep_run=tmp_path / "run")
    with pytest.raises(UsageError, match="lies in the run directory"):
        segment(source, tmp_path / "run" / "m.gpkg", model=Oracle(), keep_run=tmp_path / "run")
    with pytest.raises(UsageError, match="empty name"):
        segment(source, tmp_path / "m.gpkg", model=Oracle(), keep_run="")


def test_a_file_of_the_users_in_the_default_run_directory_survives(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 4), block_px=32)
    (tmp_path / "map.gpkg.run" / "notes.txt").write_text("mine")
    segment(source, tmp_path / "map.gpkg", model=Oracle(), block_px=32)
    assert {path.name for path in (tmp_path / "map.gpkg.run").iterdir()} - {"lock"} == {"notes.txt"}


def test_products_of_one_name_in_two_folders_stay_apart(tmp_path: Path, write_raster: WriteRaster) -> None:
    pixels = land_cover(64, 64)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source, a, b = write_raster(pixels), tmp_path / "a" / "x.tif", tmp_path / "b" / "x.tif"
    segment(source, tmp_path / "map.gpkg", model=Oracle(), raster=a, confidence=b)
    assert np.array_equal(classes_of(a), pixels[0])
    assert np.array_equal(classes_of(b), pixels[1])


def test_names_of_an_older_raster_do_not_stick_to_the_new_one(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    segment(source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "x.tif")
    with pytest.raises(UsageError, match=r"x\.tif exists"):
        segment(source, tmp_path / "map2.gpkg", model=Oracle(), confidence=tmp_path / "x.tif")
    segment(source, tmp_path / "map2.gpkg", model=Oracle(), confidence=tmp_path / "x.tif", overwrite=True)
    assert not (tmp_path / "x.tif.aux.xml").exists()
    with rasterio.open(tmp_path / "x.tif") as file:
        assert file.colorinterp[0].name == "gray"


def test_cut_off_while_publishing_the_same_call_finishes(
    tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, raster = write_raster(land_cover(64, 64)), tmp_path / "x.tif"
    moved = publishing.move_to_name

    def cut_off(part: Path, final: Path) -> None:
        if final.suffix == ".gpkg":
            raise RuntimeError("the power went")
        moved(part, final)

    monkeypatch.setattr(publishing, "move_to_name", cut_off)
    with pytest.raises(RuntimeError, match="power"):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), raster=raster)
    assert raster.exists()
    assert not (tmp_path / "map.gpkg").exists()
    monkeypatch.setattr(publishing, "move_to_name", moved)
    segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 1), raster=raster)
    assert (tmp_path / "map.gpkg").exists()
    assert not (tmp_path / "map.gpkg.run").exists()


@pytest.mark.parametrize("name", ["run.json", "plan.json", "publishing.json"])
def test_row_22_killed_while_its_directory_is_removed_the_same_call_finishes(
    tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = write_raster(land_cover(64, 64))
    remove = run_module.remove_if_there

    def cut_off(path: Path) -> None:
        if path.name == name:
            raise RuntimeError("the power went")
        remove(path)

    monkeypatch.setattr(run_module, "remove_if_there", cut_off)
    with pytest.raises(RuntimeError, match="power"):
        segment(source, tmp_path / "map.gpkg", model=Oracle())
    monkeypatch.setattr(run_module, "remove_if_there", remove)
    segment(source, tmp_path / "map.gpkg", model=Oracle())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.gpkg", "ortho.tif"]


def test_an_output_that_appears_during_the_run_is_not_overwritten(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))

    class Meddling(Oracle):
        def predict(self, tile: Tile):  # type: ignore[no-untyped-def]
            (tmp_path / "map.gpkg").write_bytes(b"somebody else's")
            return super().predict(tile)

    with pytest.raises(UsageError, match="exists"):
        segment(source, tmp_path / "map.gpkg", model=Meddling())
    assert (tmp_path / "map.gpkg").read_bytes() == b"somebody else's"


def test_row_27_a_layer_held_open_as_qgis_does_is_not_replaced(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    segment(source, tmp_path / "map.gpkg", model=Oracle())
    holder = sqlite3.connect(tmp_path / "map.gpkg")
    try:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("SELECT * FROM gpkg_contents").fetchall()
        before = (tmp_path / "map.gpkg").read_bytes()
        with pytest.raises(OutputError, match="open in another program"):
            segment(source, tmp_path / "map.gpkg", model=Oracle(), overwrite=True)
        assert (tmp_path / "map.gpkg").read_bytes() == before
    finally:
        holder.close()
    segment(source, tmp_path / "map.gpkg", model=Oracle(), overwrite=True)
    with closing(sqlite3.connect(tmp_path / "map.gpkg")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert not list(tmp_path.glob("map.gpkg-*"))


def test_row_27_the_log_that_a_killed_program_left_is_not_lost(tmp_path: Path, write_raster: WriteRaster) -> None:
    """What QGIS wrote last is in the log alone: a new file under the old log would be damaged."""
    source, layer = write_raster(land_cover(64, 64)), tmp_path / "map.gpkg"
    segment(source, layer, model=Oracle())
    edit = (
        "import os, sqlite3, sys; database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA journal_mode=WAL')\n"
        "database.execute('CREATE TABLE notes (text)'); database.execute(\"INSERT INTO notes VALUES ('mine')\")\n"
        "database.commit(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", edit, str(layer)], check=True)
    assert (tmp_path / "map.gpkg-wal").exists()
    with suppress(OutputError):
        segment(source, layer, model=Oracle(), overwrite=True)
    with closing(sqlite3.connect(layer)) as database:
        assert database.execute("SELECT * FROM notes").fetchall() == [("mine",)]
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_lost_pixels_are_remembered_when_a_run_is_taken_up(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = damaged(write_raster)
    options = {"block_px": 32, "min_area_m2": 0}
    with pytest.raises(InputError):
        segment(source, tmp_path / "map.gpkg", model=Oracle(with_halo(0)), **options)
    died = Flaky(tmp_path / "log", 9, inner=Oracle(with_halo(0)))
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=died, on_read_error="nodata", **options)
    result = segment(source, tmp_path / "map.gpkg", model=Oracle(with_halo(0)), on_read_error="nodata", **options)
    assert result.lost_px == 64 * 64

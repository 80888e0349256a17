"""Blocks at work side by side: what is read, in flight, timed, joined, and what a power cut leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from aerialseg.mapping import classify as classify_module
from aerialseg.mapping.segment import segment
from aerialseg.model.interface import Prediction, Tile
from aerialseg.raster.blocks import is_whole, read_block, write_block
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Fake, Flaky, Oracle, Slow, with_halo
from tests.mapping.test_segment import classes_of, read_layer


@dataclass
class Crowd(Fake):
    """An oracle that counts how many are in it at a time; ``concurrent_calls`` may be."""

    concurrent_calls: int = 1
    inner: Oracle = field(default_factory=Oracle)
    inside: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.card, self.guard = self.inner.card, threading.Lock()

    def predict(self, tile: Tile) -> Prediction:
        with self.guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.01)
        with self.guard:
            self.inside -= 1
        return self.inner.predict(tile)


@pytest.mark.slow
@pytest.mark.parametrize("concurrent_calls", [1, 2])
def test_as_many_predict_at_a_time_as_pay(tmp_path: Path, write_raster: WriteRaster, concurrent_calls: int) -> None:
    crowd = Crowd(concurrent_calls)
    segment(write_raster(land_cover(160, 160)), tmp_path / "map.gpkg", model=crowd, block_px=32)
    assert crowd.most == concurrent_calls


@pytest.mark.slow
def test_runs_that_share_a_model_wait_for_each_other_at_its_gate(tmp_path: Path, write_raster: WriteRaster) -> None:
    """And the wait is not taken for predicting."""
    crowd, results = Crowd(), {}

    def work(name: str) -> None:
        source = write_raster(land_cover(160, 160), f"{name}.tif")
        results[name] = segment(source, tmp_path / f"{name}.gpkg", model=crowd, block_px=32)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert crowd.most == 1
    for result in results.values():
        seconds = {line.stage: line.thread_seconds for line in result.timeline}
        assert seconds["predict"] < 25 * 0.02 < seconds["queue"]


@pytest.mark.slow
def test_reading_goes_on_while_the_device_is_at_work(tmp_path: Path, write_raster: WriteRaster) -> None:
    """So the device is never waited for: it is at work nearly all the time from its first to its last block."""
    source = write_raster(land_cover(320, 320))
    result = segment(source, tmp_path / "map.gpkg", model=Slow(0.04), block_px=64)
    stages = {line.stage: line for line in result.timeline}
    assert stages["predict"].span_share > 0.7
    assert stages["queue"].thread_seconds > stages["predict"].seconds  # blocks stood ready
    assert stages["predict"].thread_seconds == pytest.approx(stages["predict"].seconds, rel=0.01)
    assert stages["read"].begin <= stages["predict"].begin


def test_blocks_in_flight_are_bounded(
    tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way: set[int] = set()
    most = 0
    run = classify_module.run_block

    def counting(task, shared=None):  # type: ignore[no-untyped-def]
        nonlocal most
        under_way.add(task.index)
        most = max(most, len(under_way))
        report = run(task, shared)
        under_way.discard(task.index)
        return report

    monkeypatch.setattr(classify_module, "run_block", counting)
    monkeypatch.setattr(classify_module, "cores", lambda: 8)
    segment(write_raster(land_cover(320, 320)), tmp_path / "map.gpkg", model=Slow(0.002), block_px=32)
    assert 2 <= most <= 8


def test_a_cpu_network_gets_few_readers_and_a_gpu_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify_module, "cores", lambda: 64)
    assert classify_module.local_workers("cpu torch fp32") == 3
    assert classify_module.local_workers("cuda torch bf16") == 16
    monkeypatch.setattr(classify_module, "cores", lambda: 1)
    assert classify_module.local_workers("cuda torch bf16") == 3


def test_the_timeline_says_what_every_stage_took(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, run = write_raster(land_cover(200, 300)), tmp_path / "run"
    result = segment(
        source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", keep_run=run,
        report=tmp_path / "report.json", block_px=64,
    )  # fmt: skip
    stages = [line.stage for line in result.timeline]
    assert stages == ["blocks", "read", "queue", "predict", "write", "mosaic", "hash", "polygons", "rasters"]
    for line in result.timeline:
        assert 0 <= line.begin <= line.end <= result.seconds["total"]
        assert 0 <= line.seconds <= line.thread_seconds + 1e-9
        if line.stage != "queue":
            assert line.mpx_per_s is not None
            assert line.mpx_per_s * line.seconds == pytest.approx(0.06, rel=1e-6)
    report = json.loads((run / "run.json").read_text())
    assert list(report["timeline"]) == stages
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert tmp_path / "report.json" in result.paths


def test_a_block_that_a_power_cut_tore_is_done_anew(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(160, 160))
    segment(source, tmp_path / "clean.gpkg", model=Oracle(), raster=tmp_path / "clean.tif", block_px=32)
    options = {"raster": tmp_path / "c.tif", "block_px": 32}
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 12), **options)
    done = sorted((tmp_path / "map.gpkg.run" / "blocks").glob("*.tif"))
    assert len(done) >= 3
    done[0].write_bytes(b"")
    done[1].write_bytes(done[1].read_bytes()[:-100])
    done[2].write_bytes(bytes(len(done[2].read_bytes())))
    (tmp_path / "log").write_text("")
    segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 1000), **options)
    assert len((tmp_path / "log").read_text()) == 25 - len(done) + 3
    assert (tmp_path / "c.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()


def test_blocks_whose_plan_a_power_cut_emptied_are_of_no_plan(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(64, 64))
    with pytest.raises(RuntimeError, match="died"):
        segment(source, tmp_path / "map.gpkg", model=Flaky(tmp_path / "log", 3), block_px=32)
    (tmp_path / "map.gpkg.run" / "plan.json").write_bytes(bytes(300))
    write_raster(land_cover(64, 64, seed=2))
    for name in ("map.gpkg", "clean.gpkg"):
        segment(source, tmp_path / name, model=Oracle(), block_px=32)
    assert read_layer(tmp_path / "map.gpkg").to_wkb().equals(read_layer(tmp_path / "clean.gpkg").to_wkb())


@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b[:40] + b"?" + b[41:], lambda b: b""]
)
def test_a_block_file_that_is_not_as_it_was_written_is_found(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    path, bands = tmp_path / "b.tif", land_cover(50, 70)[:2]
    write_block(path, *bands)
    assert is_whole(path)
    assert np.array_equal(read_block(path), bands)
    path.write_bytes(change(path.read_bytes()))
    assert not is_whole(path)


@pytest.mark.slow
def test_labels_do_not_depend_on_how_many_are_at_work(
    tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = land_cover(300, 333)
    source, found = write_raster(pixels), []
    for workers in (1, 2, 9):
        monkeypatch.setattr(classify_module, "local_workers", lambda numerics, n=workers: n)
        raster = tmp_path / f"{workers}.tif"
        segment(source, tmp_path / f"{workers}.gpkg", model=Oracle(with_halo(96)), raster=raster, block_px=64)
        assert np.array_equal(classes_of(raster), pixels[0])
        found.append(raster.read_bytes())
    assert len(set(found)) == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1500)  # a hundred seconds of a core, which may be shared
def test_a_thousand_small_rasters_leave_memory_and_descriptors_as_they_were() -> None:
    """In a process of its own, because one that runs many tests holds gigabytes, which come and go."""
    command = [sys.executable, "benchmarks/soak.py", "--minutes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout + done.stderr

"""Blocks computed elsewhere: whoever comes late, or from another run, does no harm."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import ModelError, OutputError, ResourceError
from aerialseg.mapping import workers
from aerialseg.mapping.block import BlockTask, run_block
from aerialseg.mapping.plan import Plan, make_plan
from aerialseg.mapping.settings import MapSettings
from aerialseg.mapping.workers import (
    Delivery,
    Handles,
    OnWorkers,
    close_idle_sources,
    deliver_block,
    run_blocks,
    task_pool,
)
from aerialseg.model.interface import PredictorSpec
from aerialseg.raster.describe import describe
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Contextual, Oracle


class Threads:
    """A cluster that is none: the threads of this process."""

    def __init__(self) -> None:
        self.let_go = 0

    def fitted(self, predictor: PredictorSpec) -> PredictorSpec:
        return predictor

    def everywhere(self, function: Callable[[], object]) -> None:
        self.let_go += 1
        function()

    def executor(self) -> Executor:
        return ThreadPoolExecutor(3)

    def in_flight(self) -> int:
        return 6


@pytest.fixture
def plan(write_raster: WriteRaster) -> Plan:
    return make_plan([describe(write_raster(land_cover(150, 100)))], Contextual(), MapSettings(block_px=64))


def tasks_of(plan: Plan, folder: Path, predictor: PredictorSpec | None = None) -> list[BlockTask]:
    folder.mkdir()
    return list(plan.tasks(predictor or Contextual(), folder))


def test_blocks_computed_elsewhere_are_the_same_files(plan: Plan, tmp_path: Path) -> None:
    here, there = tasks_of(plan, tmp_path / "here"), tasks_of(plan, tmp_path / "there")
    for task in here:
        run_block(task)
    cluster = Threads()
    reports = list(run_blocks(cluster, there, plan.digest))
    assert sorted(report.index for report in reports) == [task.index for task in here]
    assert cluster.let_go == 1
    assert {path.name for path in (tmp_path / "there").iterdir()} == {task.path.name for task in here}
    for one, other in zip(here, there, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert list(run_blocks(cluster, [], plan.digest)) == []


def test_a_straggler_of_the_same_plan_writes_the_same_block_again(plan: Plan, tmp_path: Path) -> None:
    task = tasks_of(plan, tmp_path / "blocks")[0]
    parts = tmp_path / "blocks" / "parts"
    parts.mkdir()
    threads = [threading.Thread(target=deliver_block, args=(Delivery(task, parts, (None,)),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = task.path.read_bytes()
    run_block(replace(task, path=tmp_path / "alone.tif"))
    assert found == (tmp_path / "alone.tif").read_bytes()
    assert not list(parts.iterdir())


def test_a_straggler_of_another_plan_finds_no_place_to_write(plan: Plan, tmp_path: Path) -> None:
    task = tasks_of(plan, tmp_path / "blocks")[0]
    with pytest.raises(OutputError, match="put it on storage shared with the job"):
        deliver_block(Delivery(task, tmp_path / "blocks" / "parts-of-another-plan", (None,)))
    assert not list((tmp_path / "blocks").iterdir())


def test_a_worker_that_sees_another_input_than_the_job_computes_nothing(plan: Plan, tmp_path: Path) -> None:
    task = tasks_of(plan, tmp_path / "blocks")[0]
    size = os.path.getsize(plan.view.path)
    for source, seen in ((plan.view.path, size + 1), (str(tmp_path / "elsewhere.tif"), size)):
        piece = replace(task.view.pieces[0], path=source)
        elsewhere = replace(task, view=replace(task.view, pieces=(piece,)))
        with pytest.raises(ResourceError, match="not the one that the job sees: put it on shared storage"):
            deliver_block(Delivery(elsewhere, tmp_path, (seen,)))
    deliver_block(Delivery(task, tmp_path, (size,)))
    assert task.path.exists()


def test_a_predictor_on_a_worker_that_computes_in_something_else_is_refused() -> None:
    assert OnWorkers(Oracle(), "").load() == Oracle()
    assert OnWorkers(Oracle(), "cuda bf16").card == Oracle().card
    with pytest.raises(ModelError, match="the run in cuda bf16"):
        OnWorkers(Oracle(), "cuda bf16").load()


def test_a_predictor_on_workers_says_of_itself_what_it_does_here() -> None:
    @dataclass(frozen=True)
    class Averaging(Oracle):
        tta: bool = True
        device: str = "cuda"

    there = OnWorkers(Averaging(), "cuda bf16")
    assert (there.tta, there.device, there.numerics) == (True, "cuda", "cuda bf16")


def test_a_raster_is_opened_once_for_many_blocks_and_anew_when_it_was_replaced(
    plan: Plan, tmp_path: Path, write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = workers.Source
    monkeypatch.setattr(workers, "Source", lambda *args, **named: opened.append(1) or real(*args, **named))
    tasks = tasks_of(plan, tmp_path / "blocks")
    first = [Handles(plan.view, allow_remote=False).read(plan.view.local(task.window))[0] for task in tasks]
    assert len(opened) == 1
    write_raster(land_cover(150, 100, seed=5), "new.tif").replace(plan.view.path)
    assert not np.array_equal(
        Handles(plan.view, allow_remote=False).read(plan.view.local(tasks[0].window))[0], first[0]
    )
    assert len(opened) == 2
    close_idle_sources()
    assert not [entry for entry in os.listdir("/proc/self/fd") if _target(entry) == plan.view.path]


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def test_blocks_that_never_appear_are_an_error_and_not_a_hole(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "VISIBLE_S", 0.0)
    monkeypatch.setattr(workers, "deliver_block", _forget)
    tasks = tasks_of(plan, tmp_path / "blocks")
    with pytest.raises(OutputError, match="6 blocks that cannot be seen here"):
        list(run_blocks(Threads(), tasks, plan.digest))


def _forget(delivery: Delivery) -> object:
    return delivery.task.index


def test_only_large_rasters_are_drawn_elsewhere() -> None:
    there: list[object] = []

    class Counting(Threads):
        def executor(self) -> Executor:
            there.append(self)
            return super().executor()

    for cluster, pixels, times in ((None, 10**9, 0), (Counting(), 1000, 0), (Counting(), 10**9, 1)):
        with task_pool(cluster, pixels) as workers:
            assert list(workers.spread(abs, range(-9, 0))) == list(range(9, 0, -1))
        assert len(there) == times


def test_blocks_carry_their_lost_tiles_along(tmp_path: Path, write_raster: WriteRaster) -> None:
    from tests.mapping.test_segment import damaged

    view = make_plan([describe(damaged(write_raster))], Oracle(), MapSettings(on_read_error="nodata", block_px=64))
    tasks = tasks_of(view, tmp_path / "blocks", Oracle())
    list(run_blocks(Threads(), tasks, view.digest))
    notes = {path.stem for path in (tmp_path / "blocks").glob("*.json")}
    assert 0 < len(notes) <= len(tasks)
    assert notes <= {task.path.stem for task in tasks}

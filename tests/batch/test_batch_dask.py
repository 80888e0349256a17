"""The job on workers in processes of their own: small rasters whole, large ones by blocks, the same results."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.batch.conftest import Folder, cut_in_half, draw
from tests.conftest import land_cover
from tests.worker_fakes import Watched

pytest.importorskip("distributed")
from aerialseg.batch.job import run_job
from aerialseg.cluster.dask_cluster import connect
from tests.dask_processes import Processes, kill_tree

pytestmark = pytest.mark.dask


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("dask")) as started:
        for _ in range(2):
            started.start_worker("--nthreads", "1")
        started.await_workers(2)
        yield started


def rasters(folder: Folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder.path / "out").rglob("*.tif"))}


def test_a_job_on_workers_gives_the_same_to_the_byte(folder: Folder, processes: Processes, tmp_path: Path) -> None:
    draw(folder.path / "in/wide.tif", land_cover(40, 4300, cell=40))  # three blocks
    cut_in_half(folder.path / "in/b.tif")
    log = tmp_path / "log"
    log.mkdir()
    watched, job = Watched(log), folder.job(run={"spread_blocks": 2})
    assert run_job(job, predictor=watched).counts == {"done": 3, "failed": 1}
    wanted = rasters(folder)
    for path in (folder.path / "out").rglob("*.*"):
        path.unlink()
    with connect(processes.address) as cluster:
        summary = run_job(job, predictor=watched, cluster=cluster)
    assert summary.counts == {"done": 3, "failed": 1}
    assert rasters(folder) == wanted
    gantt = json.loads(summary.reports[0].read_text())["workers"]
    assert sum(bar["kind"] == "blocks" for bars in gantt.values() for bar in bars) >= 1
    assert all(name.startswith("tcp://") or "raster" in name for name in gantt)
    with connect(processes.address) as cluster:
        assert run_job(job, predictor=watched, cluster=cluster).counts == {"unchanged": 3, "failed": 1}


def test_a_worker_killed_in_the_middle_of_a_raster_costs_nothing_but_time(
    folder: Folder, processes: Processes, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    watched = Watched(log, 1.0)
    with connect(processes.address) as cluster, ThreadPoolExecutor(1) as aside:
        running = aside.submit(
            run_job, folder.job(retry={"times": 2, "wait_s": 0.2}), predictor=watched, cluster=cluster
        )
        deadline = time.monotonic() + 60
        while not (begun := list(log.glob("*.begun"))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(int(begun[0].stem.split("-")[2]), signal.SIGKILL)
        summary = running.result(timeout=120)
    assert (summary.exit_code, summary.counts) == (0, {"done": 3})
    assert list((folder.path / "night.job/runs").iterdir()) == []


def test_a_job_whose_scheduler_dies_reports_exit_code_6_and_resumes_on_the_next_one(
    folder: Folder, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.mkdir()
    (tmp_path / "dask").mkdir()
    job = folder.job(retry={"times": 2, "wait_s": 0.2})
    with Processes(tmp_path / "dask") as processes:
        processes.start_worker()
        processes.await_workers(1)
        with connect(processes.address) as cluster, ThreadPoolExecutor(1) as aside:
            running = aside.submit(run_job, job, predictor=Watched(log, 1.0), cluster=cluster)
            deadline = time.monotonic() + 60
            while not list(log.glob("*.begun")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for process in (processes.scheduler, *processes.workers):
                kill_tree(process)
            summary = running.result(timeout=60)
        assert summary.exit_code == 6
        assert summary.counts.get("done", 0) < 3
        assert "lost the Dask scheduler" in summary.reports[0].read_text()
        processes.start_scheduler()
        processes.start_worker()
        processes.await_workers(1)
        with connect(processes.address) as cluster:
            again = run_job(job, predictor=Watched(log), cluster=cluster)
    assert again.exit_code == 0
    assert len(rasters(folder)) == 3

"""What is wrong with a cluster is found before any work, and said in a line that tells what to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import rasterio

from aerialseg._version import __version__
from aerialseg.datasets.demo import draw_demo
from aerialseg.errors import ModelError, ResourceError, UsageError
from aerialseg.executor import run_tasks
from aerialseg.mapping.segment import segment
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle
from tests.worker_fakes import Absent, Watched, process_of

pytest.importorskip("distributed")
import distributed

from aerialseg.cluster import dask_cluster, dask_executor
from aerialseg.cluster.dask_cluster import connect, local_cluster
from tests.dask_processes import ROOT, Processes, kill_tree

pytestmark = pytest.mark.dask


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A scheduler without workers."""
    with Processes(tmp_path_factory.mktemp("dask")) as started:
        yield started


@pytest.fixture
def alone(processes: Processes) -> Iterator[Processes]:
    """The scheduler, to which the test adds workers; they are gone when it ends."""
    yield processes
    from distributed import Client

    for worker in processes.workers:
        kill_tree(worker)
    processes.workers.clear()
    with Client(processes.address, set_as_default=False) as client:
        deadline = time.monotonic() + 20
        while client.nthreads() and time.monotonic() < deadline:
            time.sleep(0.05)


def site(folder: Path, version: str | None) -> dict[str, str]:
    """The environment of a Python that has everything but aerialseg, or has it in another version."""
    folder.mkdir()
    for entry in Path(distributed.__file__).parents[1].iterdir():
        if "aerialseg" not in entry.name:
            (folder / entry.name).symlink_to(entry)
    if version is not None:
        (folder / "aerialseg").mkdir()
        for entry in (ROOT / "aerialseg").iterdir():
            if entry.name != "_version.py":
                (folder / "aerialseg" / entry.name).symlink_to(entry)
        (folder / "aerialseg" / "_version.py").write_text(f"__version__ = {version!r}\n")
    return {"PYTHONPATH": str(folder)}


def ready(address: str) -> None:
    """Ask the cluster whether it can do the work, as every run does first."""
    with connect(address) as cluster:
        cluster.fitted(Oracle())


BARE_PYTHON = str(getattr(sys, "_base_executable", sys.executable))


def test_a_worker_without_aerialseg_is_named_before_any_work(alone: Processes, tmp_path: Path) -> None:
    alone.start_worker()
    alone.start_worker(python=BARE_PYTHON, env=site(tmp_path / "site", None))
    alone.await_workers(2)
    with pytest.raises(
        ResourceError, match=rf"worker tcp://\S+: it has no aerialseg\S*: install aerialseg {__version__}"
    ):
        ready(alone.address)


def test_a_worker_of_another_version_is_named_before_any_work(alone: Processes, tmp_path: Path) -> None:
    alone.start_worker()
    alone.start_worker(python=BARE_PYTHON, env=site(tmp_path / "site", "0.0.1"))
    alone.await_workers(2)
    with pytest.raises(ResourceError, match=rf"worker tcp://\S+: aerialseg 0\.0\.1 runs there and {__version__} here"):
        ready(alone.address)


def test_a_worker_of_another_version_that_joins_later_computes_nothing(alone: Processes, tmp_path: Path) -> None:
    first = alone.start_worker()
    alone.await_workers(1)
    with connect(alone.address) as cluster:
        alone.start_worker(python=BARE_PYTHON, env=site(tmp_path / "site", "0.0.1"))
        alone.await_workers(2)
        kill_tree(first)
        with pytest.raises(ResourceError, match=r"aerialseg 0\.0\.1 runs there"):
            list(run_tasks(cluster.executor(), process_of, range(4), in_flight=2))


def test_a_scheduler_without_aerialseg_is_told_apart(tmp_path: Path) -> None:
    with Processes(tmp_path, site(tmp_path / "site", None), python=BARE_PYTHON) as bare:
        bare.start_worker(env={"PYTHONPATH": str(ROOT)})
        bare.await_workers(1)
        with pytest.raises(ResourceError, match=r"the scheduler tcp://\S+: it has no aerialseg"):
            ready(bare.address)


def test_a_worker_that_lacks_the_model_is_named_and_nothing_is_left_behind(
    alone: Processes, tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(64, 64))
    alone.start_worker()
    alone.start_worker(env={"TEST_NO_MODEL": "1"})
    alone.await_workers(2)
    before = set(tmp_path.iterdir())
    with connect(alone.address) as cluster, pytest.raises(ModelError, match=r"the worker tcp://\S+: there is no model"):
        segment(source, tmp_path / "map.gpkg", model=Absent(tmp_path), cluster=cluster)
    assert set(tmp_path.iterdir()) == before


def test_workers_that_would_compute_in_two_ways_are_refused(
    alone: Processes, tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(64, 64))
    for kind in ("cpu fp32", "cuda bf16"):
        alone.start_worker(env={"TEST_NUMERICS": kind})
    alone.await_workers(2)
    with connect(alone.address) as cluster, pytest.raises(ModelError, match="compute in cpu fp32 and cuda bf16"):
        segment(source, tmp_path / "map.gpkg", model=Watched(tmp_path), cluster=cluster)


def test_a_cluster_without_workers_is_an_error_after_a_while(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_cluster, "WORKERS_S", 0.5)
    with pytest.raises(ResourceError, match=r"no workers for \d+ s: start some: `dask worker tcp://"):
        ready(processes.address)


def test_workers_that_all_go_away_are_waited_for_and_then_missed(
    alone: Processes, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_executor, "PATIENCE_S", 1.0)
    worker = alone.start_worker("--no-nanny")
    alone.await_workers(1)
    with connect(alone.address) as cluster:
        executor = cluster.executor()
        futures = [executor.submit(process_of, number) for number in range(3)]
        assert futures[0].result(timeout=30) > 0
        kill_tree(worker)
        later = executor.submit(process_of, 4)
        with pytest.raises(ResourceError, match="has had no workers for 1 s"):
            later.result(timeout=60)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(started(*arguments), capture_output=True, text=True, timeout=120, check=False)


def started(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "aerialseg", "segment", *map(str, arguments)]


def test_no_scheduler_at_the_address_is_exit_6_within_seconds(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, begin = write_raster(land_cover(64, 64)), time.monotonic()
    done = command(source, tmp_path / "map.gpkg", "--dask", "tcp://127.0.0.1:9")
    assert done.returncode == 6
    assert "no Dask scheduler answers at 'tcp://127.0.0.1:9'" in done.stderr
    assert "start one with `dask scheduler`" in done.stderr
    assert len(done.stderr.splitlines()) == 2  # the first line, and the error
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize("options", [("--dask", "tcp://127.0.0.1:9", "--workers", "2"), ("--workers", "0")])
def test_options_that_make_no_sense_are_usage_errors(
    options: tuple[str, ...], tmp_path: Path, write_raster: WriteRaster
) -> None:
    done = command(write_raster(land_cover(64, 64)), tmp_path / "map.gpkg", *options)
    assert done.returncode == 2
    assert "--workers" in done.stderr


def test_an_address_that_is_none_is_an_error_of_ours() -> None:
    with pytest.raises((ResourceError, UsageError), match="tcp://host:8786"):
        connect("carrier-pigeon://nowhere")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene of several blocks, blown up from a small one, and a small real model beside it."""
    from aerialseg.model.store import save
    from tests.model.nets import card, lively_network

    folder = tmp_path_factory.mktemp("scene")
    network = lively_network()
    save(folder / "model", card(network, gsd_m=0.035), network.state_dict())
    ortho, _ = draw_demo(folder / "demo", width=650, height=650)
    with rasterio.open(ortho) as file:
        pixels, profile = file.read(), file.profile
    pixels = pixels.repeat(4, axis=1).repeat(4, axis=2)
    profile.update(width=2600, height=2600)
    with rasterio.open(folder / "scene.tif", "w", **profile) as file:
        file.write(pixels)
    return folder / "scene.tif"


def test_the_command_on_worker_processes_makes_the_same_map_and_stops_when_told_to(scene: Path, tmp_path: Path) -> None:
    model = ("--model", scene.parent / "model")
    clean = command(scene, tmp_path / "clean.gpkg", "--raster", tmp_path / "clean.tif", *model, "--device", "cpu")
    assert clean.returncode == 0, clean.stderr
    arguments = (scene, tmp_path / "map.gpkg", "--raster", tmp_path / "map.tif", *model, "--workers", "2")
    job = subprocess.Popen(started(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    blocks = tmp_path / "map.gpkg.run" / "blocks"
    while not list(blocks.glob("r*.tif")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    workers = psutil.Process(job.pid).children(recursive=True)
    assert len(workers) >= 2
    job.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    _, said = job.communicate(timeout=30)
    assert job.returncode == 130
    assert time.monotonic() - begin < 5
    assert "the same command resumes" in said
    assert not psutil.wait_procs(workers, timeout=10)[1]
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.split() == [str(tmp_path / "map.gpkg"), str(tmp_path / "map.tif")]
    assert "resuming: " in again.stderr
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()


@pytest.mark.long
def test_a_command_whose_scheduler_was_killed_exits_6_in_one_line_and_the_same_command_resumes(
    scene: Path, tmp_path: Path
) -> None:
    model = ("--model", scene.parent / "model", "--device", "cpu")
    clean = command(scene, tmp_path / "clean.gpkg", "--raster", tmp_path / "clean.tif", *model)
    assert clean.returncode == 0, clean.stderr
    blocks = tmp_path / "map.gpkg.run" / "blocks"
    (tmp_path / "dask").mkdir()
    with Processes(tmp_path / "dask") as processes:
        arguments = (
            scene,
            tmp_path / "map.gpkg",
            "--raster",
            tmp_path / "map.tif",
            *model,
            "--dask",
            processes.address,
        )
        processes.start_worker()
        job = subprocess.Popen(
            started(*arguments, "--quiet"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not list(blocks.glob("r*.tif")):
            assert job.poll() is None, job.communicate()
            time.sleep(0.05)
        kill_tree(processes.scheduler)
        paths, said = job.communicate(timeout=30)
        assert (job.returncode, paths) == (6, "")
        assert said.startswith(f"error: lost the Dask scheduler {processes.address} and the tasks that it had")
        assert "then repeat the same command, which resumes" in said
        assert len(said.splitlines()) == 1
        assert not (tmp_path / "map.tif").exists()
        kill_tree(processes.workers.pop())
        kept = len(list(blocks.glob("r*.tif")))
        processes.start_scheduler()
        processes.start_worker()
        done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert f"{kept} of 9 blocks are done" in done.stderr
    assert (tmp_path / "map.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()


KILLED = """
import sys
from pathlib import Path
from aerialseg.mapping.segment import segment
from aerialseg.cluster.dask_cluster import connect
from tests.worker_fakes import Watched

source, output, log, address = sys.argv[1:]
with connect(address) as cluster:
    model = Watched(Path(log), 0.05)
    segment(source, output, model=model, raster=output + ".tif", block_px=64, cluster=cluster)
"""


def test_a_job_killed_at_any_moment_ends_as_if_nothing_had_happened(
    alone: Processes, tmp_path: Path, log: Path, write_raster: WriteRaster
) -> None:
    source, output = write_raster(land_cover(300, 260)), tmp_path / "map.gpkg"
    segment(source, tmp_path / "clean.gpkg", model=Watched(log), raster=tmp_path / "clean.tif", block_px=64)
    for path in log.iterdir():
        path.unlink()
    for _ in range(2):
        alone.start_worker()
    alone.await_workers(2)
    arguments = [sys.executable, "-c", KILLED, str(source), str(output), str(log), alone.address]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    for blocks in (1, 8, 16):
        job = subprocess.Popen(arguments, env=settings, stderr=subprocess.PIPE)
        while len(list(log.glob("*.done"))) < blocks:
            assert job.poll() is None, job.communicate()
            time.sleep(0.01)
        kill_tree(job)
        job.communicate()
    done = subprocess.run(arguments, env=settings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(f"{output}.tif").read_bytes() == (tmp_path / "clean.tif").read_bytes()
    assert len(list(log.glob("*.done"))) <= 25 + 3 * 4  # at most what was in hand and in waiting when it was killed
    assert not Path(f"{output}.run").exists()


def test_a_cluster_of_this_machine_shares_its_cores(tmp_path: Path) -> None:
    with local_cluster(2) as cluster:
        assert cluster.in_flight() == 2 * 2 * max(1, (os.cpu_count() or 1) // 2)
        found = set(run_tasks(cluster.executor(), process_of, range(20), in_flight=cluster.in_flight))
        workers = [psutil.Process(pid) for pid in found]
    assert len(found) == 2
    assert not psutil.wait_procs(workers, timeout=10)[1]

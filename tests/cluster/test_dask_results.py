"""On workers in processes of their own: the same results, whatever happens to the workers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from aerialseg.errors import ModelError, ResourceError
from aerialseg.executor import TaskPool, run_tasks
from aerialseg.mapping import workers
from aerialseg.mapping.segment import segment
from aerialseg.model.interface import PredictorSpec
from aerialseg.vector.layers import polygonize
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Contextual
from tests.mapping.test_segment import read_layer
from tests.worker_fakes import Hungry, Watched, fails_at, process_of, threads_of_torch

pytest.importorskip("distributed")
from distributed import Client, LocalCluster

from aerialseg.cluster.dask_cluster import connect
from tests.dask_processes import Processes, kill_tree

pytestmark = pytest.mark.dask


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A scheduler and two workers of two threads, for the tests that harm neither."""
    with Processes(tmp_path_factory.mktemp("dask")) as started:
        for _ in range(2):
            started.start_worker("--nthreads", "2")
        started.await_workers(2)
        yield started


def products(folder: Path, name: str) -> tuple[bytes, bytes, bytes]:
    """Class raster and confidence raster as bytes, and the geometries and attributes of the layer."""
    layer = read_layer(folder / f"{name}.gpkg").to_wkb().to_csv().encode()
    return (folder / f"{name}.tif").read_bytes(), (folder / f"{name}-confidence.tif").read_bytes(), layer


def run(source: Path, name: str, model: PredictorSpec | Path, **options: object) -> tuple[bytes, bytes, bytes]:
    folder = source.parent
    files = {"raster": folder / f"{name}.tif", "confidence": folder / f"{name}-confidence.tif"}
    segment(source, folder / f"{name}.gpkg", model=model, **{"block_px": 64, **files, **options})  # type: ignore[arg-type]
    return products(folder, name)


@pytest.fixture
def source(write_raster: WriteRaster) -> Path:
    return write_raster(land_cover(300, 260))  # 5 x 5 blocks


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    return folder


@pytest.fixture
def expected(source: Path, log: Path) -> tuple[bytes, bytes, bytes]:
    """What one process makes of it."""
    found = run(source, "clean", Watched(log))
    for path in log.iterdir():
        path.unlink()
    return found


def begun(log: Path, count: int = 1) -> list[str]:
    """Names of the blocks that are in the making, once there are ``count``."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        names = [path.stem for path in log.glob("*.begun") if not path.with_suffix(".done").exists()]
        if len(names) >= count:
            return names
        time.sleep(0.01)
    raise AssertionError("no block was begun")


def test_a_raster_spread_over_workers_is_the_same_to_the_byte(
    processes: Processes, source: Path, expected: tuple[bytes, bytes, bytes], log: Path
) -> None:
    with connect(processes.address) as cluster:
        assert run(source, "spread", Watched(log, 0.02), cluster=cluster) == expected
    done = [path.read_text().split()[0] for path in log.glob("*.done")]
    assert len(done) == 25
    assert len(set(done)) == 2  # both workers took part
    assert str(os.getpid()) not in done
    assert not (source.parent / "spread.gpkg.run").exists()


def test_a_cluster_is_reached_by_all_that_dask_users_have_and_theirs_stays_open(
    processes: Processes, tmp_path: Path
) -> None:
    file = tmp_path / "scheduler.json"
    with (
        Client(processes.address, set_as_default=False) as client,
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as local,
    ):
        file.write_text(json.dumps({"address": processes.address}))
        for where in (processes.address, str(file), file, client, local):
            with connect(where) as cluster:
                assert sorted(run_tasks(cluster.executor(), abs, range(-3, 0), in_flight=2)) == [1, 2, 3]
        assert client.submit(abs, -1).result(timeout=10) == 1
        assert local.status.name == "running"


def test_a_real_network_gives_the_same_bytes_on_workers(
    processes: Processes, write_raster: WriteRaster, tmp_path: Path
) -> None:
    from aerialseg.model.store import save
    from tests.model.nets import card, lively_network

    network = lively_network()
    save(tmp_path / "model", card(network, gsd_m=0.1), network.state_dict())
    pixels = np.random.default_rng(3).integers(0, 256, (3, 200, 330), np.uint8)
    source = write_raster(pixels)
    alone = run(source, "alone", tmp_path / "model", block_px=128, device="cpu")
    with connect(processes.address) as cluster:
        assert run(source, "spread", tmp_path / "model", block_px=128, cluster=cluster) == alone


def test_polygons_drawn_on_workers_are_the_same_to_the_byte(
    processes: Processes, source: Path, expected: tuple[bytes, bytes, bytes], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WORTH_SPREADING_PX", 1)
    told = []
    with connect(processes.address) as cluster:
        cluster.listen = lambda name, record: told.append(name)
        assert run(source, "spread", Watched(log), cluster=cluster) == expected
    assert told.count("deliver_block") == 25
    assert {"survey", "trace_task"} <= set(told)


@pytest.mark.parametrize("strip_rows", [7, 64])
def test_strips_of_any_height_make_the_same_polygons_on_workers(
    processes: Processes, tmp_path: Path, write_raster: WriteRaster, strip_rows: int
) -> None:
    classes = write_raster(land_cover(150, 220, cell=5)[:1], "classes.tif", nodata=255)
    settings = {"min_pixels": 12, "tolerance_px": 1.5}
    polygonize(classes, None, tmp_path / "here.gpkg", **settings)
    with connect(processes.address) as cluster, cluster.executor() as executor, TaskPool(1, executor) as pool:
        polygonize(classes, None, tmp_path / "there.gpkg", strip_rows=strip_rows, pool=pool, **settings)
    here, there = (read_layer(tmp_path / name).to_wkb() for name in ("here.gpkg", "there.gpkg"))
    assert there.equals(here)


# Python's catch_warnings, with which blocks are opened, is not for several threads: one's end undoes another's.
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_many_rasters_at_once_share_the_workers(
    processes: Processes, tmp_path: Path, write_raster: WriteRaster
) -> None:
    sources = [write_raster(land_cover(130, 100, seed=seed), f"ortho{seed}.tif") for seed in range(5)]
    clean = [run(source, f"clean{number}", Contextual()) for number, source in enumerate(sources)]
    with connect(processes.address) as cluster, ThreadPoolExecutor(5) as pool:
        jobs = [
            pool.submit(run, source, f"many{number}", Contextual(), cluster=cluster)
            for number, source in enumerate(sources)
        ]
        assert [job.result() for job in jobs] == clean


def test_a_worker_killed_in_the_middle_of_a_block_is_replaced_by_another(
    tmp_path: Path, source: Path, expected: tuple[bytes, bytes, bytes], log: Path
) -> None:
    with Processes(tmp_path) as processes:
        first = processes.start_worker("--no-nanny")
        processes.await_workers(1)
        with connect(processes.address) as cluster:
            job = Background(lambda: run(source, "spread", Watched(log, 0.2), cluster=cluster))
            half_done = begun(log)
            processes.start_worker()
            kill_tree(first)
            assert job.result() == expected
    assert not any((log / f"{name}.done").exists() for name in half_done)


def test_a_run_whose_scheduler_dies_ends_at_once_and_resumes_on_the_next_one(
    tmp_path: Path, source: Path, expected: tuple[bytes, bytes, bytes], log: Path
) -> None:
    with Processes(tmp_path) as processes:
        processes.start_worker()
        processes.await_workers(1)
        with connect(processes.address) as cluster:
            job = Background(lambda: run(source, "spread", Watched(log, 0.2), cluster=cluster))
            begun(log)
            time.sleep(0.5)
            for process in (processes.scheduler, *processes.workers):
                kill_tree(process)
            killed = time.monotonic()
            with pytest.raises(ResourceError, match=r"lost the Dask scheduler tcp://\S+ .* repeat the same command"):
                job.result()
            assert time.monotonic() - killed < 10
        done = len(list((tmp_path / "spread.gpkg.run" / "blocks").glob("r*.tif")))
        assert 0 < done < 25
        before = len(list(log.glob("*.done")))
        processes.start_scheduler()
        processes.start_worker()
        processes.await_workers(1)
        with connect(processes.address) as cluster:
            assert run(source, "spread", Watched(log), cluster=cluster) == expected
    assert len(list(log.glob("*.done"))) - before == 25 - done


def test_a_block_that_no_worker_has_the_memory_for_ends_the_run_and_it_can_be_taken_up(
    tmp_path: Path, source: Path, expected: tuple[bytes, bytes, bytes], log: Path
) -> None:
    with Processes(tmp_path, {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}) as processes:
        for _ in range(2):
            processes.start_worker("--memory-limit", "500MB")
        processes.await_workers(2)
        with connect(processes.address) as cluster:
            with pytest.raises(ResourceError, match="2 workers died in turn of the same task"):
                run(source, "spread", Hungry(log), cluster=cluster)
            assert len(list(log.glob("0-0-*.begun"))) == 2
            assert run(source, "spread", Watched(log), cluster=cluster) == expected  # on workers that came back


def test_an_error_on_a_worker_is_the_same_error_here_and_names_the_worker(processes: Processes, log: Path) -> None:
    with connect(processes.address) as cluster:
        numbers = range(100)
        with pytest.raises(ModelError, match="number 3 is the wrong one") as caught:
            list(run_tasks(cluster.executor(), Fails(3, str(log)), numbers, in_flight=4))
        assert any(note.startswith("on the worker tcp://") for note in caught.value.__notes__)
        assert len(list(log.iterdir())) < 16  # the rest was not begun
        assert sorted(run_tasks(cluster.executor(), Fails(-1, str(log)), range(8), in_flight=cluster.in_flight)) == [
            *range(8)
        ]


class Fails:
    def __init__(self, at: int, log: str) -> None:
        self.at, self.log = at, log

    def __call__(self, number: int) -> int:
        return fails_at(number, self.at, self.log)


def test_a_task_that_is_cancelled_does_not_run(processes: Processes, log: Path) -> None:
    with connect(processes.address) as cluster:
        executor = cluster.executor()
        futures = [executor.submit(process_of, number) for number in range(200)]
        assert futures[-1].cancel()
        assert futures[-1].cancelled()
        executor.shutdown(wait=True, cancel_futures=True)
        assert all(future.done() for future in futures)
        assert sum(future.cancelled() for future in futures) > 100


def test_torch_uses_the_threads_that_the_worker_was_given(processes: Processes) -> None:
    with connect(processes.address) as cluster:
        answers = list(run_tasks(cluster.executor(), lambda _: threads_of_torch(), range(8), in_flight=8))
    assert {threads for _, threads in answers} == {2}  # Dask itself would have said 1


def test_workers_tell_when_they_did_what(processes: Processes) -> None:
    told = []
    with connect(processes.address) as cluster:
        cluster.listen = lambda name, record: told.append((name, record))
        list(run_tasks(cluster.executor(), process_of, range(4), in_flight=4))
    assert [name for name, _ in told] == ["process_of"] * 4
    assert all(record.worker.startswith("tcp://") and record.ended - record.began >= 0.05 for _, record in told)


def test_a_gpu_worker_takes_one_block_at_a_time_and_others_none(tmp_path: Path, source: Path, log: Path) -> None:
    with Processes(tmp_path) as processes:
        processes.start_worker("--nthreads", "4", "--resources", "GPU=1", env={"TEST_NUMERICS": "cuda bf16"})
        processes.start_worker("--nthreads", "4", env={"TEST_NUMERICS": "cpu fp32"})
        processes.await_workers(2)
        with connect(processes.address) as cluster:
            run(source, "spread", Watched(log, 0.02, device="auto"), cluster=cluster)
            assert cluster.in_flight() == 2
    spans = sorted(tuple(map(float, path.read_text().split())) for path in log.glob("*.done"))
    assert len({pid for pid, _, _ in spans}) == 1
    assert all(one[2] <= other[1] for one, other in pairwise(spans))


class Background:
    """A call in a thread; ``result`` waits for what it returns or raises."""

    def __init__(self, call: Callable[[], tuple[bytes, bytes, bytes]]) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._future = self._pool.submit(call)

    def result(self) -> tuple[bytes, bytes, bytes]:
        try:
            return self._future.result(timeout=120)
        finally:
            self._pool.shutdown(wait=False)

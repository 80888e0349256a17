"""Who works: order, bounds and errors, on threads, in processes, or alone."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aerialseg.executor import PER_WORKER, TaskPool, split_evenly
from aerialseg.vector.layers import find_shapes
from tests.vector.drawn import LEGEND, blobs, shapes_of, write


@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_in_the_order_of_tasks(workers: int) -> None:
    wait = threading.Event()

    def slow_first(number: int) -> int:
        if workers > 1 and number == 0:
            assert wait.wait(10)
        if number == 1:
            wait.set()
        return number

    with TaskPool(workers) as pool:
        assert list(pool.share(slow_first, range(20))) == list(range(20))


def test_no_more_tasks_are_handed_out_than_asked_for() -> None:
    handed: list[int] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: object, **options: object) -> Future[int]:  # type: ignore[override]
            handed.append(len(handed))
            return super().submit(*arguments, **options)  # type: ignore[arg-type]

    with Counting(2) as executor, TaskPool(1, executor, in_flight=3) as pool:
        results = pool.spread(abs, iter(range(100)))
        for taken in range(1, 50):
            next(results)
            assert len(handed) <= taken + 2
        results.close()
        assert len(handed) <= 51


def test_the_first_error_ends_it_when_what_is_under_way_is_done() -> None:
    running, done = threading.Semaphore(0), []

    def task(number: int) -> None:
        if number == 0:
            running.acquire()
            raise ValueError("the first one")
        running.release()
        done.append(number)

    with TaskPool(2) as pool:
        with pytest.raises(ValueError, match="the first one"):
            list(pool.share(task, range(1000)))
        assert len(done) < 4 * PER_WORKER
        assert list(pool.share(abs, [-1])) == [1]  # the pool is there still


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 9))
def test_ranges_cover_everything_once(sizes: list[int], parts: int) -> None:
    found = split_evenly(np.cumsum([0, *sizes]), parts)
    assert len(found) <= parts
    assert [item for start, stop in found for item in range(start, stop)] == list(range(len(sizes)))


@pytest.mark.slow
def test_strips_may_be_worked_on_in_other_processes(tmp_path: Path) -> None:
    """As on other machines: nothing is shared but files."""
    from aerialseg.raster.classes import ClassRaster

    drawn = blobs(120, 90)
    expected = shapes_of(drawn, min_pixels=5)
    raster = ClassRaster(write(tmp_path / "c.tif", drawn), strip_rows=11)
    raster.task_rows = 33
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor, TaskPool(2, executor) as pool:
        shapes = find_shapes(raster, LEGEND, 5, pool=pool)
    assert np.array_equal(shapes.arcs.vertices, expected.arcs.vertices)
    assert np.array_equal(shapes.rings.halves, expected.rings.halves)

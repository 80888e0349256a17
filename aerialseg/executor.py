"""Where tasks run: anything with the interface of ``concurrent.futures``.

Threads are enough on one machine: GDAL and torch release the interpreter's lock, so one thread reads or writes while
another one computes. (Workers of a Dask cluster come in as an executor, too: ``workers.Cluster``.)
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")

LOCAL_WORKERS = 3
"""One block being read, one computed, one written."""


def local_threads(workers: int = LOCAL_WORKERS) -> Executor:
    """Threads of this process."""
    return ThreadPoolExecutor(max_workers=workers, thread_name_prefix="aerialseg")


class Inline(Executor):
    """Does at once, in this thread, what is handed to it: for work that a thread would cost more than it saves."""

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        done: Future[R] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def run_tasks(
    executor: Executor, function: Callable[[T], R], tasks: Iterable[T], in_flight: int | Callable[[], int]
) -> Iterator[R]:
    """Results as they are done, with at most ``in_flight`` tasks handed out at a time (asked anew if it is a function).

    The first error ends it: what has not begun is cancelled, what is under way is waited for (so that nothing is
    written any more when this returns), and the error is raised. Memory does not grow with the number of tasks, which
    may come from a generator. The executor is shut down at the end.
    """
    limit = in_flight if callable(in_flight) else lambda: in_flight
    pending: set[Future[R]] = set()
    waiting = iter(tasks)
    try:
        while True:
            for task in waiting:
                pending.add(executor.submit(function, task))
                if len(pending) >= limit():
                    break
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def run_in_thread(function: Callable[[], R]) -> R:
    """What the function returns or raises. It runs in a thread, so that this one sees a signal at once.

    Python looks at signals between two steps of the main thread only, and one step of GDAL can take minutes. The
    thread is left behind when this is interrupted: leave the process then.
    """
    done: Future[R] = Future()

    def work() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=work, name="aerialseg-job", daemon=True).start()
    while not done.done():
        wait([done], timeout=0.2)
    return done.result()


PER_WORKER = 2
"""Tasks handed out at a time, for each worker: one under way, one waiting."""


class TaskPool:
    """``workers`` threads (None: one a core; 1: no thread, all in the caller's), and an executor for strips.

    executor: for picklable functions; without one, the threads. in_flight: tasks to hand to it at a time, if that is
    not a matter of this machine's cores. A context manager that ends its threads; the executor stays the giver's.
    """

    def __init__(
        self, workers: int | None = None, executor: Executor | None = None, in_flight: int | None = None
    ) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self.workers, "aerialseg-vector") if self.workers > 1 else None
        self._executor = executor or self._threads
        self._in_flight = in_flight or PER_WORKER * self.workers

    def __enter__(self) -> TaskPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def spread(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results of a picklable function for tasks over strips of the raster, wherever they are computed."""
        return in_order(self._executor, function, tasks, self._in_flight)

    def share(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results of a function of arrays in memory, computed on threads of this process."""
        return in_order(self._threads, function, tasks, PER_WORKER * self.workers)

    def ranges(self, function: Callable[[int, int], object], offsets: NDArray[np.int64]) -> None:
        """Call ``function(start, stop)`` for ranges of items of about equal size; item k ends at ``offsets[k + 1]``."""
        parts = split_evenly(offsets, 4 * self.workers if self.workers > 1 else 1)
        for _ in self.share(lambda part: function(*part), parts):
            pass


def in_order(executor: Executor | None, function: Callable[[T], R], tasks: Iterable[T], in_flight: int) -> Iterator[R]:
    """Results in the order of the tasks, with at most ``in_flight`` tasks handed out; without executor, done here.

    The first error ends it: what has not begun is cancelled, what is under way is waited for, the error is raised.
    """
    if executor is None:
        yield from map(function, tasks)
        return
    pending: deque[Future[R]] = deque()
    try:
        for task in tasks:
            pending.append(executor.submit(function, task))
            if len(pending) >= in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        wait([future for future in pending if not future.cancel()])


def split_evenly(offsets: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """At most ``parts`` half-open ranges of items with about the same sum of sizes: ``np.diff(offsets)``."""
    count = len(offsets) - 1
    wanted = offsets[0] + (offsets[-1] - offsets[0]) * np.arange(1, parts) // parts
    cuts = np.unique(np.concatenate([[0], np.searchsorted(offsets, wanted), [count]])).tolist()
    return list(pairwise(cuts))


def single_thread(pool: TaskPool | None) -> TaskPool:
    """The pool, or one that does everything in the caller's thread."""
    return pool or TaskPool(1)

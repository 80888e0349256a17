"""Who does the work: threads of this process, and for bands of the raster any executor, here or on other machines.

Two kinds of work go through here. A task on a *stretch* of the raster is a picklable function of paths, numbers and
small arrays that returns arrays: it may run anywhere. A task on *ranges* of arrays that lie in memory runs on threads
of this process (the kernels release the interpreter's lock). Results come in the order of the tasks, so nothing
depends on who did what when.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from itertools import pairwise
from types import TracebackType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")

PER_WORKER = 2
"""Tasks handed out at a time, for each worker: one under way, one waiting."""


class Crew:
    """``workers`` threads (None: one a core; 1: no thread, all in the caller's), and an executor for stretches.

    A context manager that ends its threads; an executor that was given stays the giver's. It says how many tasks to
    hand out at a time by an attribute ``in_flight``, if that is not a matter of this machine's cores.
    """

    def __init__(self, workers: int | None = None, executor: Executor | None = None) -> None:
        self.workers = workers or os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(self.workers, "aerialseg-vector") if self.workers > 1 else None
        self._executor = executor or self._threads
        self._in_flight = getattr(executor, "in_flight", PER_WORKER * self.workers)

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def spread(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results of a picklable function for stretches of the raster, wherever they are computed."""
        return in_order(self._executor, function, tasks, self._in_flight)

    def share(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results of a function of arrays in memory, computed on threads of this process."""
        return in_order(self._threads, function, tasks, PER_WORKER * self.workers)

    def ranges(self, function: Callable[[int, int], object], offsets: NDArray[np.int64]) -> None:
        """Call ``function(start, stop)`` for ranges of items of about equal size; item k ends at ``offsets[k + 1]``."""
        parts = split(offsets, 4 * self.workers if self.workers > 1 else 1)
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


def split(offsets: NDArray[np.int64], parts: int) -> list[tuple[int, int]]:
    """At most ``parts`` half-open ranges of items with about the same sum of sizes: ``np.diff(offsets)``."""
    count = len(offsets) - 1
    wanted = offsets[0] + (offsets[-1] - offsets[0]) * np.arange(1, parts) // parts
    cuts = np.unique(np.concatenate([[0], np.searchsorted(offsets, wanted), [count]])).tolist()
    return list(pairwise(cuts))


def alone(crew: Crew | None) -> Crew:
    """The crew, or one that does everything in the caller's thread."""
    return crew or Crew(1)

"""Where tasks run: anything with the interface of ``concurrent.futures``.

Threads are enough on one machine: GDAL and torch release the interpreter's lock, so one thread reads or writes while
another one computes. (Workers of a Dask cluster come in as an executor, too: ``workers.Cluster``.)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

LOCAL_WORKERS = 3
"""One block being read, one computed, one written."""


def local(workers: int = LOCAL_WORKERS) -> Executor:
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


def aside(function: Callable[[], R]) -> R:
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

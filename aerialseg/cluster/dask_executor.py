"""Dask's own executor, which here also says where tasks ran, what to do when it fails, and never waits for ever.

Dask gives the tasks of a worker that died to others. A scheduler that dies takes its tasks with it: they fail with an
error that says so, and the same command resumes from the finished blocks.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from distributed import Client, get_worker
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

from aerialseg._version import __version__
from aerialseg.errors import ResourceError
from aerialseg.model.cpu import use_threads

T = TypeVar("T")

AWAY = (OSError, TimeoutError, CancelledError, asyncio.CancelledError)
"""What a client raises when the scheduler is not there, or not any more."""
RETRIES = 2
"""How often Dask runs a task again that raised an error: shared storage has hiccups."""
WATCH_EVERY_S = 1.0
PATIENCE_S = 300.0
"""How long tasks wait while there are no workers."""


class Record(NamedTuple):
    """Where and when a task ran: the worker's address, and seconds since the epoch on its clock."""

    worker: str
    began: float
    ended: float


def work(version: str, payload: bytes) -> tuple[Any, Record]:
    """(what the task returns, where and when it ran), on a worker. The task comes as bytes: the scheduler unpacks what
    it passes on, and need not load torch for it."""
    worker, began = get_worker(), time.time()
    try:
        check_version(version)  # the worker may have joined later
        function, args, kwargs = pickle.loads(payload)
        fit_threads(worker.state.nthreads)
        value = function(*args, **kwargs)
    except Exception as error:
        error.add_note(f"on the worker {worker.address}")
        raise
    return value, Record(worker.address, began, time.time())


def check_version(version: str) -> None:
    """Raise ResourceError in a process whose aerialseg is not the job's: two versions may give two results."""
    if version != __version__:
        raise ResourceError(
            f"aerialseg {__version__} runs there and {version} here: install the same version everywhere, and restart "
            "the scheduler and the workers"
        )


def fit_threads(threads: int) -> None:
    """Let networks use all threads of the worker (Dask says one): its blocks take turns in the network."""
    use_threads(threads)
    if "torch" not in sys.modules:
        return
    import torch  # which waits where another thread has begun it

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


class DaskExecutor(Executor):
    """An executor of its own: ending it ends its tasks and nobody else's."""

    def __init__(self, client: Client, resources: Mapping[str, float], listen: Callable[[str, Record], None]) -> None:
        self._client, self._address = client, client.scheduler.address
        self._listen = listen
        self._dask = client.get_executor(pure=False, retries=RETRIES, resources=dict(resources) or None)
        self._under_way: dict[Future[Any], str] = {}
        """The key of each task; whoever takes one out answers it."""
        self._shut = threading.Event()
        threading.Thread(target=self._watch, name="aerialseg-dask", daemon=True).start()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The future of ``function(*args, **kwargs)``, all of which must be picklable and importable on workers."""
        name, answer = getattr(function, "__name__", "task").strip("_<>"), Future[T]()
        key = f"{name}-{uuid.uuid4().hex}"
        try:
            remote = self._dask.submit(work, __version__, pickle.dumps((function, args, kwargs)), key=key)
        except Exception:
            if self._client.status == "running":
                raise
            answer.set_exception(lost(self._address))
            return answer
        self._under_way[answer] = key
        answer.add_done_callback(lambda answer: remote.cancel() if answer.cancelled() else None)
        remote.add_done_callback(partial(self._settle, answer, name))
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As any executor's: what a worker is computing at this moment comes to its end, the rest can be cancelled."""
        self._shut.set()
        under_way = dict(self._under_way)
        if cancel_futures and under_way:
            with suppress(*AWAY):
                at_work = {key for stacks in self._client.call_stack().values() for key in stacks}
                for answer in (answer for answer, key in under_way.items() if key not in at_work):
                    answer.cancel()
        if wait:
            wait_for(under_way)

    def _settle(self, answer: Future[Any], name: str, remote: Future[Any]) -> None:
        """Pass on what Dask has to say of a task, unless it was answered already."""
        if not self._under_way.pop(answer, None) or not answer.set_running_or_notify_cancel():
            return
        try:
            value, record = remote.result()
        except CancelledError:
            answer.set_exception(lost(self._address))
        except Exception as error:
            answer.set_exception(translated(error))
        else:
            self._listen(name, record)
            answer.set_result(value)

    def _watch(self) -> None:
        """End what Dask leaves waiting for ever: tasks without workers, a result on its way when the scheduler died."""
        seen = time.monotonic()
        while not self._shut.wait(WATCH_EVERY_S) or self._under_way:
            running = self._client.status == "running"
            with suppress(*AWAY):
                if not self._under_way or self._client.nthreads():
                    seen = time.monotonic()
            if running and time.monotonic() - seen < PATIENCE_S:
                continue
            error = no_workers(self._address, PATIENCE_S) if running else lost(self._address)
            for answer in list(self._under_way):
                if self._under_way.pop(answer, None) and answer.set_running_or_notify_cancel():
                    answer.set_exception(error)


def lost(address: str) -> ResourceError:
    return _resumable(f"lost the Dask scheduler {address} and the tasks that it had", "start it and its workers again")


def no_workers(address: str, seconds: float) -> ResourceError:
    return _resumable(
        f"the Dask scheduler has had no workers for {seconds:.0f} s", f"start some: `dask worker {address}`"
    )


def _resumable(what: str, remedy: str) -> ResourceError:
    return ResourceError(f"{what}: {remedy}, then repeat the same command, which resumes")


def translated(error: BaseException) -> BaseException:
    """The error as one of aerialseg's, where Dask has something to say that a person can act upon."""
    if isinstance(error, KilledWorker):
        return _resumable(
            f"{error.allowed_failures + 1} workers died in turn of the same task, most likely for lack of memory",
            "give workers more (dask worker --memory-limit, fewer --nworkers)",
        )
    missing = re.search(r"No module named \\?'([\w.]+)", str(error))  # Dask passes on such errors as text, too
    if missing:
        return ResourceError(f"it has no {missing[1]}: install aerialseg {__version__} with the extra `dask` there")
    return error

"""Tasks on a Dask cluster through the interface of ``concurrent.futures``; they outlive the scheduler that had them.

Dask sees to workers that die: their tasks go to others. What it does not see to is a scheduler that dies, for it takes
the list of tasks with it. So the tasks that are under way are remembered here and sent again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from distributed import Client, get_worker
from distributed.comm.core import CommClosedError
from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

from aerialseg._version import __version__
from aerialseg.errors import AerialsegError, ResourceError

logger = logging.getLogger("aerialseg.cluster")
T = TypeVar("T")

WATCH_EVERY_S = 0.2
LOOK_FOR_WORKERS_EVERY_S = 5.0
AWAY = (OSError, TimeoutError, CancelledError, asyncio.CancelledError)
"""What a client raises when the scheduler is not there, or not any more."""
TRIES = 5
"""How often a task is sent again whose result was lost while the scheduler was alive."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where and when a task ran: the worker's address, and seconds since the epoch on its clock."""

    worker: str
    began: float
    ended: float


def work(version: str, payload: bytes) -> tuple[Any, Record]:
    """(what the task returns, where and when it ran), on a worker. The task comes as bytes: the scheduler, which looks
    into what it passes on, need not load torch for it."""
    worker = get_worker()
    if version != __version__:
        raise ResourceError(
            f"the worker {worker.address} runs aerialseg {__version__}, this job {version}: install the same everywhere"
        )
    began = time.time()
    try:
        function, args, kwargs = pickle.loads(payload)
        fit_threads(worker.state.nthreads)
        value = function(*args, **kwargs)
    except Exception as error:
        error.add_note(f"on the worker {worker.address}")
        raise
    return value, Record(worker.address, began, time.time())


def fit_threads(threads: int) -> None:
    """Let torch compute with as many threads as the worker was given: Dask tells every library to use one.

    Blocks of one worker take turns in the network (ModelPredictor), so its threads are its cores, not more.
    """
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@dataclass(eq=False, slots=True)
class Errand:
    """A task under way: what was sent, and the future that its owner waits on."""

    name: str
    payload: bytes
    resources: Mapping[str, float]
    listen: Callable[[str, Record], None] | None
    answer: Future[Any] = field(default_factory=Future)
    sent: int = 0
    tries: int = 0
    lost: bool = False
    key: str = ""
    remote: Any = None


class Line:
    """The connection to a scheduler, and the tasks that are under way over it.

    ``address`` is what people know it by. ``connect`` opens a client or raises OSError; ``check`` raises AerialsegError
    when the workers found by it are none that may be used. When the scheduler goes away, or all workers do, they are
    waited for, up to ``patience_s``.
    """

    def __init__(
        self,
        address: str,
        connect: Callable[[], Client],
        check: Callable[[Client], None],
        patience_s: float,
    ) -> None:
        self.address, self._connect, self._check, self.patience_s = address, connect, check, patience_s
        self.client = connect()
        self._errands: set[Errand] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._workers_seen = time.monotonic()
        threading.Thread(target=self._watch, name="aerialseg-dask", daemon=True).start()

    def close(self) -> None:
        """Send nothing any more; what is under way is given up."""
        self._closed.set()
        self._fail(ResourceError("the connection to the Dask scheduler was closed"))
        _quietly_close(self.client)

    def send(self, errand: Errand) -> None:
        with self._lock:
            self._errands.add(errand)
        self._dispatch(errand)

    def withdraw(self, errands: list[Errand]) -> None:
        """Give up tasks: those that have not begun are cancelled, those at work go on to their end."""
        remotes = [errand.remote for errand in errands if errand.remote is not None]
        known = [errand for errand in errands if self._forget(errand)]
        for errand in known:
            errand.answer.cancel()
        if remotes and self.client.status == "running":
            self.client.cancel(remotes)

    def executing(self) -> set[str]:
        """Keys of the tasks that workers are computing at this moment."""
        if self.client.status != "running":
            return set()
        answers = self.client.run(_executing, on_error="ignore")
        return {key for keys in answers.values() for key in keys}

    def _dispatch(self, errand: Errand) -> None:
        client, errand.lost = self.client, False
        errand.sent += 1
        errand.key = f"{errand.name}-{uuid.uuid4().hex}"
        try:
            remote = client.submit(
                work, __version__, errand.payload, key=errand.key, pure=False, resources=dict(errand.resources) or None
            )
        except Exception:
            if client.status == "running":
                raise
            return  # the watch sends it again when there is a connection
        errand.remote = remote
        client.loop.add_callback(self._await, errand, errand.sent, client, remote)

    async def _await(self, errand: Errand, sent: int, client: Client, remote: Any) -> None:
        try:
            outcome: Any = await client.gather(remote, asynchronous=True)
        except (CancelledError, asyncio.CancelledError, CommClosedError):
            errand.lost = errand.sent == sent  # with the scheduler, or with the worker that held the result
            return
        except Exception as error:
            outcome = error
        if errand.sent != sent or not self._forget(errand) or not errand.answer.set_running_or_notify_cancel():
            return
        if isinstance(outcome, Exception):
            errand.answer.set_exception(translated(outcome))
            return
        value, record = outcome
        if errand.listen is not None:
            errand.listen(errand.name, record)
        errand.answer.set_result(value)

    def _forget(self, errand: Errand) -> bool:
        with self._lock:
            known = errand in self._errands
            self._errands.discard(errand)
        errand.remote = None
        return known

    def _under_way(self) -> list[Errand]:
        with self._lock:
            return list(self._errands)

    def _fail(self, error: AerialsegError) -> None:
        for errand in self._under_way():
            if self._forget(errand) and errand.answer.set_running_or_notify_cancel():
                errand.answer.set_exception(error)

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._closed.wait(WATCH_EVERY_S):
            try:
                if self.client.status != "running":
                    self._reconnect()
                    continue
                self._send_lost()
                if time.monotonic() - looked > LOOK_FOR_WORKERS_EVERY_S:
                    looked = time.monotonic()
                    self._look_for_workers()
            except AerialsegError as error:
                self._fail(error)
            except AWAY:
                continue  # the connection: seen at the next look
            except Exception as error:
                self._fail(ResourceError(f"the Dask cluster cannot be used: {type(error).__name__}: {error}"))

    def _send_lost(self) -> None:
        for errand in self._under_way():
            if not errand.lost:
                continue
            errand.tries += 1
            if errand.tries > TRIES:
                raise ResourceError(f"the result of {errand.name} was lost {TRIES} times: look at the workers' logs")
            self._dispatch(errand)

    def _look_for_workers(self) -> None:
        if not self._under_way() or self.client.nthreads():
            self._workers_seen = time.monotonic()
        elif time.monotonic() - self._workers_seen > self.patience_s:
            raise ResourceError(
                f"the Dask cluster has had no workers for {self.patience_s:.0f} s: start some, then give the same "
                "command again; what is done is kept"
            )

    def _reconnect(self) -> None:
        deadline = time.monotonic() + self.patience_s
        logger.warning("lost the Dask scheduler: waiting for it for up to %.0f s", self.patience_s)
        _quietly_close(self.client)
        while not self._closed.is_set() and time.monotonic() < deadline:
            try:
                client = self._connect()
            except OSError:
                self._closed.wait(WATCH_EVERY_S)
                continue
            if self._resume(client, deadline):
                return
        raise ResourceError(
            f"the Dask scheduler {self.address} went away and did not come back within {self.patience_s:.0f} s: "
            "start it and its workers, then give the same command again; what is done is kept"
        )

    def _resume(self, client: Client, deadline: float) -> bool:
        """Whether the new connection holds: its workers are checked, and what was under way is sent again."""
        try:
            while not client.nthreads() and time.monotonic() < deadline:
                if self._closed.wait(WATCH_EVERY_S):
                    break
            self._check(client)
        except OSError:
            _quietly_close(client)
            return False
        self.client = client
        under_way = self._under_way()
        logger.warning("the Dask scheduler is back: sending %d tasks again", len(under_way))
        for errand in under_way:
            self._dispatch(errand)
        return True


async def _executing(dask_worker: Any) -> list[str]:
    return [str(task.key) for task in dask_worker.state.executing]


def _quietly_close(client: Client) -> None:
    try:
        client.close(timeout=1)
    except (*AWAY, RuntimeError):
        logger.debug("closing a broken connection", exc_info=True)


def translated(error: Exception) -> Exception:
    """The error as one of aerialseg's, where Dask has something to say that a person can act upon."""
    if isinstance(error, KilledWorker):
        return ResourceError(
            f"{error.allowed_failures + 1} workers died in turn of the same task, most likely for lack of memory: give "
            "workers more (dask worker --memory-limit, fewer --nworkers), then give the same command again; what is "
            "done is kept"
        )
    module = missing_module(error)
    if module:
        return ResourceError(f"a worker lacks the module {module}: install there what is installed here")
    return error


def missing_module(error: Exception) -> str:
    """The name of the module that a worker could not import, or nothing. Dask passes on such errors as text, too."""
    found = re.search(r"No module named \\?'([\w.]+)", str(error))
    return found[1] if found else ""


class DaskExecutor(Executor):
    """An executor of its own over a connection: ending it ends its tasks and nobody else's."""

    def __init__(
        self,
        line: Line,
        resources: Mapping[str, float] | None = None,
        listen: Callable[[str, Record], None] | None = None,
    ) -> None:
        self._line, self._resources, self._listen = line, resources or {}, listen
        self._errands: dict[Future[Any], Errand] = {}
        self._lock = threading.Lock()
        self._shut = False

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """The future of ``function(*args, **kwargs)``, all of which must be picklable and importable on workers."""
        if self._shut:
            raise RuntimeError("cannot schedule new futures after shutdown")
        name = getattr(function, "__name__", "task").strip("_<>")
        errand = Errand(name, pickle.dumps((function, args, kwargs)), self._resources, self._listen)
        with self._lock:
            self._errands[errand.answer] = errand
        errand.answer.add_done_callback(self._done)
        self._line.send(errand)
        return errand.answer

    def _done(self, answer: Future[Any]) -> None:
        with self._lock:
            errand = self._errands.pop(answer, None)
        if errand is not None and answer.cancelled():
            answer.set_running_or_notify_cancel()  # those who wait on it are told only now
            self._line.withdraw([errand])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._shut = True
        with self._lock:
            errands = list(self._errands.values())
        if cancel_futures and errands:
            executing = self._line.executing()
            self._line.withdraw([errand for errand in errands if errand.key not in executing])
        if wait:
            _wait_for([errand.answer for errand in errands])


def _wait_for(answers: list[Future[Any]]) -> None:
    wait(answers)

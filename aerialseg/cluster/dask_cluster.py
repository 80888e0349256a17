"""A Dask cluster to work on: reaching it, and finding out before any work whether it can do the work.

>>> from aerialseg.cluster.dask_cluster import connect, local_cluster
>>> with connect("tcp://scheduler:8786") as cluster:
...     aerialseg.segment("ortho.tif", "landcover.gpkg", cluster=cluster)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__
from aerialseg.errors import AerialsegError, ModelError, ResourceError, UsageError
from aerialseg.mapping.workers import OnWorkers

try:
    import dask
    from distributed import Client, LocalCluster
    from distributed.comm.core import CommClosedError
    from distributed.versions import VersionMismatchWarning

    from aerialseg.cluster.dask_executor import AWAY, DaskExecutor, Line, Record, fit_threads, missing_module
except ModuleNotFoundError as error:
    if error.name not in ("dask", "distributed"):
        raise
    raise UsageError("--dask and --workers need the extra of that name: pip install 'aerialseg[dask]'") from error

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec

logger = logging.getLogger("aerialseg.cluster")

CONNECT_S = 5.0
WORKERS_S = 60.0
"""How long the first worker is waited for; clusters that grow on demand need to be asked first."""
PATIENCE_S = 300.0
"""How long a scheduler that went away, or workers that all went away, are waited for."""
NEVER_PAUSE = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
"""A worker that Dask pauses for the model that it holds would never go on; and it holds no results to spill."""
ALIKE = ("torch", "rasterio", "numpy")
"""Packages whose versions should be the same everywhere: results may differ at ties otherwise."""


def connect(address: str, *, patience_s: float = PATIENCE_S) -> DaskCluster:
    """The cluster whose scheduler listens at ``address`` (``tcp://host:8786``).

    Raises ResourceError when no scheduler answers, it has no workers, or one of them lacks this version of aerialseg.
    """

    def client() -> Client:
        return _client(address)

    try:
        line = Line(address, client, _check_versions, patience_s)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"no Dask scheduler answers at {address!r} ({_short(error)}): start one with `dask scheduler`, or correct "
            "the address (tcp://host:8786)"
        ) from error
    return _ready(DaskCluster(line))


def local_cluster(workers: int, *, memory_limit: str | int = "auto") -> DaskCluster:
    """A cluster of worker processes on this machine, which end with it. They share the cores and the memory evenly."""
    if workers < 1:
        raise UsageError(f"--workers is {workers}: wanted 1 or more")
    threads = max(1, (os.cpu_count() or 1) // workers)
    with dask.config.set(NEVER_PAUSE):
        local = LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            dashboard_address="127.0.0.1:0",  # any free port: nobody else looks at it
            memory_limit=memory_limit,
            silence_logs=logging.CRITICAL,
        )
    try:
        line = Line("of this machine", lambda: _client(local), _check_versions, PATIENCE_S)
        return _ready(DaskCluster(line, local.close))
    except BaseException:
        local.close()
        raise


def say_less() -> None:
    """Keep what Dask says off the terminal, for the whole process: our errors and warnings say what to do."""
    warnings.simplefilter("ignore", VersionMismatchWarning)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)


class DaskCluster:
    """Workers that can compute blocks, and any other picklable function. Close it, or use it in a ``with``."""

    def __init__(self, line: Line, close: Callable[[], object] = lambda: None) -> None:
        self._line, self._close = line, close
        self._resources: Mapping[str, float] = {}
        self._slots = (0.0, 0)
        self.listen: Callable[[str, Record], None] | None = None
        """Told the name of each task that is done, and where and when it ran."""

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._line.close()
        self._close()

    def everywhere(self, function: Callable[[], object]) -> None:
        """Call the function in each worker that can be reached, and wait for it; what goes wrong is of no interest."""
        with contextlib.suppress(*AWAY, RuntimeError):
            self._line.client.run(function, on_error="ignore")

    def executor(self) -> Executor:
        """An executor of its own: shutting it down ends its tasks, not the cluster."""
        return DaskExecutor(self._line, self._resources, self.listen)

    def slots(self) -> int:
        """How many tasks the workers that are there can do at a time, at least 1; looked up every two seconds."""
        seen, slots = self._slots
        if time.monotonic() - seen > 2:
            with contextlib.suppress(*AWAY):  # what is under way waits for the scheduler
                slots = sum(self._slots_of(worker) for worker in self._workers().values()) or slots
            self._slots = time.monotonic(), slots
        return max(1, slots)

    def in_flight(self) -> int:
        """How many tasks to hand out at a time: one in hand and one in waiting for each slot."""
        return 2 * self.slots()

    def fitted(self, predictor: PredictorSpec) -> PredictorSpec:
        """The predictor, once every worker has loaded it and all of them compute in the same numerics.

        Raises ModelError where a worker has another model or none, or they differ; ResourceError where one lacks the
        device or the memory.
        """
        predictor = predictor.on_workers()
        gpus = [worker for worker in self._workers().values() if worker.get("resources", {}).get("GPU")]
        self._resources = {"GPU": 1.0} if gpus and predictor.device != "cpu" else {}
        self._slots = (0.0, 0)
        found = self._ask(_load, predictor)
        kinds = sorted(set(found.values()))
        if len(kinds) > 1:
            raise ModelError(
                f"the workers compute in {' and '.join(kinds)}, which would mix two kinds of results: give --device "
                "cpu, or start the workers with a GPU as `dask worker --resources GPU=1`"
            )
        return OnWorkers(predictor, kinds[0])

    def check_shared(self, folder: Path, source: str) -> None:
        """Raise ResourceError where a worker cannot write into ``folder``, or reads another ``source`` than is here."""
        token = folder / "token"
        token.write_text(os.urandom(8).hex())
        size = os.path.getsize(source) if os.path.exists(source) else None
        self._ask(_look, str(token), token.read_text(), source, size)

    def _workers(self) -> dict[str, Any]:
        """The workers that are there, with what they say of themselves; only GPU workers when those are wanted."""
        try:
            info = self._line.client.scheduler_info(n_workers=-1)
        except TypeError:  # before 2025.4
            info = self._line.client.scheduler_info()
        return {address: worker for address, worker in info["workers"].items() if self._is_wanted(worker)}

    def _is_wanted(self, worker: Mapping[str, Any]) -> bool:
        return all(worker.get("resources", {}).get(name, 0) >= amount for name, amount in self._resources.items())

    def _slots_of(self, worker: Mapping[str, Any]) -> int:
        limits = [worker["resources"][name] // amount for name, amount in self._resources.items()]
        return int(min([worker["nthreads"], *limits]))

    def _ask(self, question: Callable[..., Any], *args: object) -> dict[str, Any]:
        """The answer of each worker, at least one. Raises what the first one raises, and tells how many others failed.

        A scheduler that is away at this moment is waited for.
        """
        deadline = time.monotonic() + self._line.patience_s
        while True:
            try:
                _await_workers(self._line.client)
                workers = list(self._workers())
                answers: dict[str, Any] = self._line.client.run(question, *args, workers=workers, on_error="return")
                answers = {
                    where: answer for where, answer in answers.items() if not isinstance(answer, CommClosedError)
                }
            except AWAY as error:
                if time.monotonic() > deadline:
                    raise ResourceError(f"the Dask scheduler {self._line.address} does not answer any more") from error
                answers = {}
            if answers:
                _raise_first(answers)
                return answers
            time.sleep(0.5)


async def _load(predictor: PredictorSpec, dask_worker: Any) -> str:
    """The numerics of the predictor, once it is loaded (on a worker)."""

    def load() -> str:
        fit_threads(dask_worker.state.nthreads)
        predictor.load()
        return predictor.numerics

    return await asyncio.to_thread(load)


async def _look(token: str, text: str, source: str, size: int | None) -> None:
    """Compare what this worker sees of the shared storage with what the job sees."""

    def look() -> None:
        folder = os.path.dirname(token)
        try:
            found = Path(token).read_text()
        except OSError:
            found = ""
        if found != text:
            raise ResourceError(f"the run directory {folder} is not on storage shared with the job")
        if not os.access(folder, os.W_OK):
            raise ResourceError(f"the run directory {folder} cannot be written")
        if size is not None and (not os.path.exists(source) or os.path.getsize(source) != size):
            raise ResourceError(f"the input {source} is not the one that the job sees: put it on shared storage")

    await asyncio.to_thread(look)


def _client(address: str | LocalCluster) -> Client:
    return Client(address, timeout=CONNECT_S, set_as_default=False, name="aerialseg")


def _ready(cluster: DaskCluster) -> DaskCluster:
    """The cluster, once it has a worker and all that are there have this version of aerialseg."""
    try:
        _await_workers(cluster._line.client)
        _check_versions(cluster._line.client)
    except BaseException:
        cluster.close()
        raise
    return cluster


def _await_workers(client: Client) -> None:
    if client.nthreads():
        return
    logger.warning("the Dask cluster has no workers yet: waiting for up to %.0f s", WORKERS_S)
    asked = client.submit(abs, 1, pure=False)  # a cluster that grows on demand sees a demand
    deadline = time.monotonic() + WORKERS_S
    while not client.nthreads():
        if time.monotonic() > deadline:
            raise ResourceError(
                f"the Dask scheduler has no workers: start some with `dask worker {client.scheduler.address}`"
            )
        time.sleep(0.1)
    asked.release()


def _check_versions(client: Client) -> None:
    """Raise ResourceError unless scheduler and workers have this version of aerialseg; warn where others differ."""
    found = client.run(_version, on_error="return")
    try:
        found[f"the scheduler {client.scheduler.address}"] = client.run_on_scheduler(_version)
    except Exception as error:
        found[f"the scheduler {client.scheduler.address}"] = error
    _raise_first(found)
    others = {where: version for where, version in found.items() if version != __version__}
    if others:
        where, version = next(iter(others.items()))
        raise ResourceError(
            f"{where} runs aerialseg {version}, this job {__version__}: install the same version everywhere, and start "
            f"the scheduler and the workers anew{_and_more(len(others))}"
        )
    packages = client.get_versions(packages=ALIKE)
    here = packages["client"]["packages"]
    for name in ALIKE:
        theirs = {worker["packages"].get(name) for worker in packages["workers"].values()} - {here.get(name)}
        if theirs:
            logger.warning("%s is %s here and %s on workers", name, here.get(name), ", ".join(map(str, theirs)))


def _version() -> str:
    return __version__


def _raise_first(answers: Mapping[str, Any]) -> None:
    failed = {where: answer for where, answer in answers.items() if isinstance(answer, Exception)}
    if not failed:
        return
    where, error = next(iter(failed.items()))
    where = where if where.startswith("the ") else f"the worker {where}"
    more = _and_more(len(failed))
    if missing_module(error).startswith("aerialseg"):
        raise ResourceError(
            f"{where} has no aerialseg: install aerialseg {__version__} with the extra `dask` there{more}"
        ) from error
    if isinstance(error, AerialsegError):
        raise type(error)(f"{where}: {error}{more}") from error
    raise ResourceError(f"{where} cannot be used: {type(error).__name__}: {_short(error)}{more}") from error


def _and_more(count: int) -> str:
    return f" (and {count - 1} more)" if count > 1 else ""


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

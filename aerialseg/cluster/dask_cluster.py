"""A Dask cluster to work on: reaching it, and finding out before any work whether it can do the work.

>>> from aerialseg.cluster.dask_cluster import connect
>>> with connect("tcp://scheduler:8786") as cluster:
...     aerialseg.segment("ortho.tif", "landcover.gpkg", cluster=cluster)
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster
from distributed.comm.core import CommClosedError
from distributed.protocol import pickle

from aerialseg._version import __version__
from aerialseg.cluster import dask_executor as tasks
from aerialseg.cluster.dask_executor import AWAY, DaskExecutor, Record
from aerialseg.errors import AerialsegError, ModelError, ResourceError, UsageError
from aerialseg.mapping.workers import OnWorkers

if TYPE_CHECKING:
    from distributed.deploy import Cluster

    from aerialseg.model.interface import PredictorSpec

CONNECT_S = 5.0
WORKERS_S = 60.0
"""How long the first worker is waited for; clusters that grow on demand need to be asked first."""
NEVER_PAUSE = {f"distributed.worker.memory.{what}": False for what in ("target", "spill", "pause")}
"""A worker that Dask pauses for the model that it holds would never go on; and it holds no results to spill."""


def connect(where: str | Path | Client | Cluster) -> DaskCluster:
    """The cluster of a scheduler: by its address (``tcp://host:8786``), by the file that ``dask scheduler
    --scheduler-file`` wrote, or by a Dask ``Client`` or cluster (``LocalCluster``, ``SLURMCluster``), which stay open.

    Raises ResourceError when no scheduler answers.
    """
    try:
        client = where if isinstance(where, Client) else _client(where)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"no Dask scheduler answers at {str(where)!r}: start one with `dask scheduler`, or correct the address "
            "(tcp://host:8786, or the scheduler's file)"
        ) from error
    return DaskCluster(client) if client is where else DaskCluster(client, client.close)


def local_cluster(workers: int) -> DaskCluster:
    """A cluster of worker processes on this machine, which end with it. They share the cores and the memory evenly."""
    if workers < 1:
        raise UsageError(f"--workers is {workers}: wanted 1 or more")
    with dask.config.set(NEVER_PAUSE):
        local = LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, (os.cpu_count() or 1) // workers),
            dashboard_address="127.0.0.1:0",  # any free port: nobody else looks at it
            silence_logs=logging.CRITICAL,
        )
    client = _client(local)
    return DaskCluster(client, local.close, client.close)


def _client(where: object) -> Client:
    place = str(where) if isinstance(where, Path) else where
    key = "scheduler_file" if isinstance(place, str) and os.path.isfile(place) else "address"
    return Client(**{key: place}, timeout=CONNECT_S, set_as_default=False, name="aerialseg")


class DaskCluster(ExitStack):
    """Workers that can compute blocks, and any other picklable function. Close it, or use it in a ``with``."""

    def __init__(self, client: Client, *close: Callable[[], object]) -> None:
        """close: what ends with the cluster, last things first."""
        super().__init__()
        for each in close:
            self.callback(each)
        self._client, self._address = client, client.scheduler.address
        self._resources: Mapping[str, float] = {}
        self._slots = (0.0, 0)
        self._lost = ""
        self.listen: Callable[[str, Record], None] = lambda name, record: None
        """Told the name of each task that is done, and where and when it ran."""

    @property
    def lost(self) -> str:
        """Why nothing can be computed here any more; "" while the scheduler has been there whenever this was asked."""
        if self._client.status != "running":
            self._lost = str(tasks.lost(self._address))
        return self._lost

    def everywhere(self, function: Callable[[], object]) -> None:
        """Call the function in each worker that can be reached, and wait for it; what goes wrong is of no interest."""
        if self._client.status == "running":
            with suppress(*AWAY):
                self._client.run(function, on_error="ignore")

    def executor(self) -> Executor:
        """An executor of its own: shutting it down ends its tasks, not the cluster."""
        return DaskExecutor(self._client, self._resources, self.listen)

    def in_flight(self) -> int:
        """How many tasks to hand out: one in hand and one in waiting for each that the workers can do at a time. Looked
        up every two seconds: workers come and go."""
        seen, slots = self._slots
        if time.monotonic() - seen > 2:
            with suppress(*AWAY):  # whoever waits for a task gets the error
                slots = sum(map(_gpus if self._resources else _threads, self._workers().values())) or slots
            self._slots = time.monotonic(), slots
        return 2 * max(1, slots)

    def fitted(self, predictor: PredictorSpec) -> PredictorSpec:
        """The predictor, once every worker has loaded it and all of them compute in the same numerics.

        Raises ModelError where a worker has another model or none, or they differ; ResourceError where there is no
        worker, or one lacks the device or the memory, or it or the scheduler lacks this version of aerialseg.
        """
        predictor = predictor.on_workers()
        kinds = sorted({*self._ask(predictor).values()})
        if len(kinds) > 1:
            raise ModelError(
                f"the workers compute in {' and '.join(kinds)}, which would mix two kinds of results: give --device "
                "cpu, or start the workers with a GPU as `dask worker --resources GPU=1`"
            )
        return OnWorkers(predictor, kinds[0])

    def _ask(self, predictor: PredictorSpec) -> dict[str, str]:
        """The numerics of each worker, at least one; of GPU workers alone, where the predictor can use them."""
        demand = self._client.submit(abs, 1, pure=False)  # clusters that grow on demand see it
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_S)
            workers = self._workers()
            wants_gpu = predictor.device != "cpu"
            gpus = [address for address, worker in workers.items() if wants_gpu and _gpus(worker)]
            self._resources, self._slots = {"GPU": 1.0} if gpus else {}, (0.0, 0)
            question = (_load, __version__, pickle.dumps(predictor))
            answers = self._client.run(*question, workers=gpus or list(workers), on_error="return")
        except TimeoutError as error:
            raise tasks.no_workers(self._address, WORKERS_S) from error
        except AWAY as error:
            raise tasks.lost(self._address) from error
        finally:
            demand.release()
        found = {f"worker {of}": answer for of, answer in answers.items() if not isinstance(answer, CommClosedError)}
        try:
            self._client.run_on_scheduler(tasks.check_version, __version__)
        except Exception as error:
            found[f"scheduler {self._address}"] = error
        _raise_first(found)
        return found

    def _workers(self) -> dict[str, Any]:
        """The workers that are there, with what they say of themselves; none while the scheduler is away."""
        workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1).get("workers", {})
        return workers


def _threads(worker: Mapping[str, Any]) -> int:
    return int(worker["nthreads"])


def _gpus(worker: Mapping[str, Any]) -> int:
    """Blocks that the worker can do at a time on its GPU; 0 without one."""
    return min(_threads(worker), int(worker.get("resources", {}).get("GPU", 0)))


async def _load(version: str, payload: bytes, dask_worker: Any) -> str:
    """The numerics of the predictor, once it is loaded (on a worker). It comes as bytes: versions are checked first."""
    tasks.check_version(version)

    def load() -> str:
        predictor = pickle.loads(payload)
        tasks.fit_threads(dask_worker.state.nthreads)
        predictor.load()
        return str(predictor.numerics)

    return await asyncio.to_thread(load)


def _raise_first(answers: Mapping[str, Any]) -> None:
    """Raise what the first one raised, with the number of the others; none may have answered, either."""
    if not answers:
        raise ResourceError("all Dask workers went away while they loaded the model: repeat the same command")
    failed = [(who, tasks.translated(answer)) for who, answer in answers.items() if isinstance(answer, Exception)]
    if failed:
        who, error = failed[0]
        kind = type(error) if isinstance(error, AerialsegError) else ResourceError
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise kind(f"the {who}: {error}{more}") from error

"""Where tasks run: threads of this process, or the workers of a cluster."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from aerialseg.batch.task import InputResult, InputTask, plan_of, run_input
from aerialseg.errors import AerialsegError

if TYPE_CHECKING:
    from aerialseg.cluster.dask_cluster import DaskCluster
    from aerialseg.model.interface import PredictorSpec

LARGE_AT_A_TIME = 2
"""While one large raster is drawn as polygons, the workers have the blocks of the next one."""


class Backend(Protocol):
    numerics: str

    @property
    def lost(self) -> str:
        """Why nothing more can be done here; "" while something can."""

    def room(self, under_way: int) -> bool:
        """Whether one more task may be handed out."""

    def submit(self, task: InputTask) -> Future[InputResult]: ...

    def stop(self) -> None:
        """Begin nothing more; let blocks that are under way come to their end."""

    def close(self) -> None: ...


class ThreadBackend:
    """``rasters`` at a time in this process; the model is loaded once."""

    lost = ""

    def __init__(self, predictor: PredictorSpec, rasters: int) -> None:
        self.numerics = predictor.numerics
        self._predictor, self._rasters = predictor, rasters
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(rasters, thread_name_prefix="raster")

    def room(self, under_way: int) -> bool:
        return under_way < self._rasters

    def submit(self, task: InputTask) -> Future[InputResult]:
        return self._pool.submit(run_input, task, self._predictor, None, self._stop)

    def stop(self) -> None:
        self._stop.set()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class ClusterBackend:
    """The workers of a cluster: a small raster is one task of one worker, a large one is spread over them by blocks."""

    def __init__(self, predictor: PredictorSpec, cluster: DaskCluster, spread_blocks: int) -> None:
        self._predictor, self._cluster, self._spread = predictor, cluster, spread_blocks
        self._fitted = cluster.fitted(predictor)
        self.numerics = self._fitted.numerics
        self._stop = threading.Event()
        self._whole: Executor = cluster.executor()
        self._pool = ThreadPoolExecutor(LARGE_AT_A_TIME, thread_name_prefix="raster")

    @property
    def lost(self) -> str:
        return self._cluster.lost

    def room(self, under_way: int) -> bool:
        return under_way < max(self._cluster.in_flight(), LARGE_AT_A_TIME)

    def submit(self, task: InputTask) -> Future[InputResult]:
        if self._is_large(task):
            return self._pool.submit(run_input, task, self._predictor, self._cluster, self._stop)
        return self._whole.submit(run_input, task, self._fitted)

    def stop(self) -> None:
        self._stop.set()
        self._whole.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._whole.shutdown(wait=True, cancel_futures=True)

    def _is_large(self, task: InputTask) -> bool:
        try:
            return len(plan_of(task.source, task.settings, self._predictor).blocks) > self._spread
        except (AerialsegError, MemoryError):
            return False  # whoever does it finds the same, and says so

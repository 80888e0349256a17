"""Blocks computed by processes elsewhere, which share nothing with this one but the storage.

A worker that was given up for dead may still be writing, and so may one whose job was killed. So each attempt makes its
file under a name of its own in a directory that belongs to one plan, and moves it to the block's name when it is whole:
whoever comes last replaces a block by the same block, and a block of another plan finds its directory gone.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aerialseg.errors import ModelError, OutputError, ResourceError
from aerialseg.executor import TaskPool, run_tasks
from aerialseg.files import remove_if_there
from aerialseg.mapping.block import PARTS, BlockReport, BlockTask, Labels, Shared, run_block
from aerialseg.model.interface import Predictor, PredictorSpec
from aerialseg.raster.decode import Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import is_remote
from aerialseg.raster.sidecars import identity_of
from aerialseg.raster.source import Lost, Source
from aerialseg.raster.view import View

if TYPE_CHECKING:
    from aerialseg.model.card import ModelCard

VISIBLE_S = 90.0
"""How long a network file system may take to show what another machine wrote (NFS remembers names for a minute)."""


WORTH_SPREADING_PX = 50_000_000
"""From here on polygons are drawn on the cluster, too: a smaller raster is done here while tasks are on their way."""


class Cluster(Protocol):
    """Worker processes, here or on other machines (``aerialseg.cluster.dask_cluster`` has those of Dask)."""

    def fitted(self, predictor: PredictorSpec) -> PredictorSpec:
        """The predictor, once all workers have loaded it. Raises ModelError, ResourceError."""

    def everywhere(self, function: Callable[[], object]) -> None:
        """Call the function in each worker that can be reached, and wait for it."""

    def executor(self) -> Executor:
        """An executor of its own, to be shut down by whoever asked for it."""

    def in_flight(self) -> int:
        """How many tasks to hand out at a time."""


@dataclass(frozen=True)
class OnWorkers(PredictorSpec):
    """A predictor that runs elsewhere: what it computes in there, not here, where the device may be missing."""

    spec: PredictorSpec
    numerics: str = ""

    @property
    def card(self) -> ModelCard:
        return self.spec.card

    @property
    def tta(self) -> bool:
        return self.spec.tta

    @property
    def device(self) -> str:
        return self.spec.device

    def load(self) -> Predictor:
        """Raises ModelError on a worker that joined later and computes in something else."""
        met = self.spec.numerics
        if met != self.numerics:
            raise ModelError(
                f"this worker computes in {met}, the run in {self.numerics}: take it out, or give --device"
            )
        return self.spec.load()


@dataclass(frozen=True, slots=True)
class Delivery:
    """A block for somebody else to compute, and the directory in which its file is made. bytes: of each input as the
    job sees it; None for an address."""

    task: BlockTask
    parts: Path
    bytes: tuple[int | None, ...]


def deliver_block(delivery: Delivery) -> BlockReport:
    """Compute the block and put it at its name, as run_block does, beside others who may be at the same one.

    Raises ResourceError or OutputError where this process does not share the job's storage.
    """
    task = delivery.task
    for piece, size in zip(task.view.pieces, delivery.bytes, strict=True):
        if size not in (None, _bytes(piece.path)):
            raise ResourceError(f"the input {piece.path} is not the one that the job sees: put it on shared storage")
    gone = OutputError(
        f"the run directory {delivery.parts.parent} is not there: put it on storage shared with the job, and leave it "
        "in place during the run"
    )
    if not delivery.parts.is_dir():
        raise gone
    own = delivery.parts / f"{task.path.stem}-{uuid.uuid4().hex[:12]}.tif"
    try:
        handles = Handles(task.view, allow_remote=task.allow_remote)
        report = run_block(replace(task, path=own), Shared(handles, _join_later))
        lost = own.with_suffix(".json")
        if lost.exists():
            os.replace(lost, task.path.with_suffix(".json"))
        else:
            remove_if_there(task.path.with_suffix(".json"))
        os.replace(own, task.path)  # not flushed: the seal of a block tells what a power cut has left of it
    except FileNotFoundError as error:
        raise gone from error
    return report


class Handles:
    """Rasters that this process keeps open from one block to the next: opening one costs more than a small window.

    In the stead of `Pages` for blocks that come in any order. A file that was replaced meanwhile is opened anew.
    """

    def __init__(self, view: View, *, allow_remote: bool) -> None:
        paths = [Path(piece.path) for piece in view.pieces if not (allow_remote and is_remote(piece.path))]
        self._key = (view, allow_remote, tuple(map(identity_of, paths)))

    def read(self, window: Box) -> tuple[Pixels, Valid, frozenset[Lost]]:
        """Pixels, validity, and the tiles of the source that could not be read for this window. Raises InputError."""
        view, allow_remote, _ = self._key
        source = _taken(self._key) or Source(view, allow_remote=allow_remote)
        try:
            pixels, valid = source.read(window)
            lost = source.lost_in(window)
        except BaseException:
            source.close()
            raise
        with _guard:
            _idle.append((self._key, source))
        return pixels, valid, lost


def _join_later(index: int, labels: Labels) -> None:
    """The job joins the blocks, from their files."""


_idle: list[tuple[object, Source]] = []
_guard = threading.Lock()


def _taken(key: object) -> Source | None:
    """An open raster that nobody uses, if it is the one that is wanted; others are closed, for their run is over."""
    with _guard:
        mine = [source for found, source in _idle if found == key]
        others = [source for found, source in _idle if found != key]
        _idle[:] = [(key, source) for source in mine[1:]]
    for source in others:
        source.close()
    return mine[0] if mine else None


def close_idle_sources() -> None:
    """Close the rasters that are open here for no block at this moment."""
    _taken(None)


def _bytes(path: str) -> int | None:
    """The size of a file; None where there is none."""
    return os.path.getsize(path) if os.path.exists(path) else None


def run_blocks(cluster: Cluster, tasks: Sequence[BlockTask], digest: str) -> Iterator[BlockReport]:
    """Reports as blocks are done on the cluster; when the last one is out, all files can be seen from here.

    digest: of the plan. Raises what run_block raises, and
    ResourceError where the cluster lacks something.
    """
    if not tasks:
        return
    parts = tasks[0].path.parent / f"{PARTS}{digest[:16]}"
    try:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {parts}: {error.strerror}") from error
    deliveries = (Delivery(task, parts, tuple(_bytes(piece.path) for piece in task.view.pieces)) for task in tasks)
    try:
        yield from run_tasks(cluster.executor(), deliver_block, deliveries, in_flight=cluster.in_flight)
    finally:
        cluster.everywhere(close_idle_sources)
    _await_files([task.path for task in tasks])
    shutil.rmtree(parts, ignore_errors=True)


@contextmanager
def task_pool(cluster: Cluster | None, pixels: int) -> Iterator[TaskPool]:
    """Who draws the polygons of a raster of so many pixels: threads of this process, with the cluster if it pays."""
    if cluster is None or pixels < WORTH_SPREADING_PX:
        with TaskPool() as here:
            yield here
        return
    with cluster.executor() as executor, TaskPool(executor=executor, in_flight=cluster.in_flight()) as spread:
        yield spread


def _await_files(paths: Sequence[Path]) -> None:
    """Wait until what workers wrote can be seen from here, too."""
    deadline = time.monotonic() + VISIBLE_S
    while True:
        there = set(os.listdir(paths[0].parent))
        missing = [path for path in paths if path.name not in there]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise OutputError(
                f"workers wrote {len(missing)} blocks that cannot be seen here ({missing[0]}): is the run directory on "
                "storage shared with them? Give the same command again"
            )
        time.sleep(0.5)

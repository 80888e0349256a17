"""One input: everything that is done for it, wherever it is done, and what is found. Tasks travel to workers."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.batch.job_settings import message_for_job
from aerialseg.errors import AerialsegError, InputError, Interrupted, ModelError, OutputError, ResourceError, UsageError
from aerialseg.files import printable
from aerialseg.mapping.kept import adopt_mosaic
from aerialseg.mapping.plan import Plan, make_plan
from aerialseg.mapping.run import PLAN, Run
from aerialseg.mapping.segment import segment
from aerialseg.mapping.settings import MapSettings
from aerialseg.mapping.source_files import find_sources
from aerialseg.mapping.sources import describe_all, known_stamps
from aerialseg.progress import Silent
from aerialseg.raster.cog import read_tags
from aerialseg.raster.image import class_thumbnail

if TYPE_CHECKING:
    from aerialseg.mapping.result import Result
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.progress import Progress

THUMBNAIL_PX = 96
GONE = "gone-"
KINDS = (
    (UsageError, "usage"),
    (InputError, "input"),
    (ModelError, "model"),
    (OutputError, "output"),
    ((ResourceError, MemoryError), "resources"),
)


@dataclass(frozen=True, slots=True)
class InputTask:
    """Names and settings of one input. folder: of its run; keep: whether that stays when all is done.

    kept: class and confidence raster of an earlier run to draw the layer from, which lost so many pixels.
    """

    source: tuple[str, ...]
    outputs: Mapping[str, str]
    settings: Mapping[str, Any]
    folder: Path
    keep: bool = False
    kept: tuple[str, ...] = ()
    lost_px: int = 0


@dataclass(frozen=True, slots=True)
class InputResult:
    """What came of a task. ``kind`` is "" when all went well, else the kind of the error.

    values: columns of the ledger's entry. notes: what segment had to say, with warnings.
    """

    began: float
    ended: float
    worker: str
    kind: str = ""
    error: str = ""
    trace: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Notes(Silent):
    """Keeps the notes of a run and, where told to stop, ends it after the blocks that are under way."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.notes: list[str] = []
        self._stop = stop

    def note(self, message: str) -> None:
        self.notes.append(message_for_job(message))
        self._look()

    def stage(self, name: str, total: float) -> None:
        self._look()

    def advance(self, amount: float) -> None:
        self._look()

    def _look(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Interrupted("interrupted: the same command resumes")


def run_input(
    task: InputTask, predictor: PredictorSpec, cluster: Cluster | None = None, stop: threading.Event | None = None
) -> InputResult:
    """The outcome; errors are found, not raised, but for Interrupted when ``stop`` is set. Safe to repeat."""
    listener = Notes(stop)
    began, worker = time.time(), _worker()
    try:
        for path in task.outputs.values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        values = _segment(task, predictor, cluster, listener)
    except Interrupted:
        raise
    except Exception as error:
        _forget_useless(task.folder)
        trace = "" if isinstance(error, AerialsegError) else traceback.format_exc()
        text = message_for_job(error) or type(error).__name__
        if trace:
            text = f"{type(error).__name__}: {text}"
        return InputResult(began, time.time(), worker, kind_of(error), text, trace, notes=tuple(listener.notes))
    return InputResult(began, time.time(), worker, values=values, notes=tuple(listener.notes))


def _segment(task: InputTask, predictor: PredictorSpec, cluster: Cluster | None, listener: Progress) -> dict[str, Any]:
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    if task.folder.is_dir() and not (task.folder / PLAN).exists():
        discard_run(task.folder)  # killed while it was made
    _check_plain(task.source)
    if task.kept and not task.folder.is_dir():
        _adopt(task, predictor, listener)
    result = segment(
        task.source,
        task.outputs["layer"],
        model=predictor,
        raster=task.outputs.get("raster"),
        confidence=task.outputs.get("confidence"),
        report=task.outputs.get("report"),
        overwrite=True,
        keep_run=task.folder,
        progress=listener,
        cluster=cluster,
        **task.settings,
    )
    run = Run(task.folder)
    report = run.report
    values = _values(result, report)
    with suppress(OSError, AerialsegError):  # a picture for the report: nothing that anybody misses
        values["thumbnail"] = class_thumbnail(run.classes, predictor.card.map_legend, THUMBNAIL_PX)
    if not task.keep:
        discard_run(task.folder)
    return values


def _check_plain(sources: Sequence[str]) -> None:
    """Raise InputError for a list or an index of rasters: nobody would see that one of these changes."""
    for source in sources:
        if find_sources([source]) != [source]:
            raise InputError(f"{printable(source)} names other rasters: name these in [inputs], as files or a pattern")


def _adopt(task: InputTask, predictor: PredictorSpec, listener: Progress) -> None:
    """Begin the run with the kept rasters, if they are what it would compute."""
    plan = plan_of(task.source, task.settings, predictor)
    classes, confidence = map(Path, task.kept)
    if all(read_tags(path).get("blocks_digest") == plan.blocks_digest for path in (classes, confidence)):
        adopt_mosaic(Run(task.folder), plan, classes, confidence, task.lost_px)
    else:
        listener.note("the kept rasters were made in another way: computing again")


def _values(result: Result, report: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "sha256": str(report.get("source_sha256", "")),
        "numerics": result.plan.numerics,
        "pixels": result.plan.pixels,
        "valid_px": result.valid_px,
        "lost_px": result.lost_px,
        "polygons": result.polygons,
        "areas": {line.name: line.area_m2 for line in result.classes if line.area_m2 is not None},
        "seconds": {name: round(spent, 3) for name, spent in result.seconds.items()},
    }


def _forget_useless(folder: Path) -> None:
    """Remove a run's directory that holds no finished block: there would be one for each broken input, for ever."""
    with suppress(OSError, AerialsegError):
        if folder.is_dir() and not Run(folder).holds_blocks():
            discard_run(folder)


def discard_run(folder: Path) -> None:
    """Remove a run's directory, whole or, when killed meanwhile, under a name that nobody takes for a run's."""
    gone = folder.with_name(f"{GONE}{uuid.uuid4().hex[:12]}")
    with suppress(OSError):
        os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def kind_of(error: BaseException) -> str:
    return next((kind for types, kind in KINDS if isinstance(error, types)), "other")


def _worker() -> str:
    """Who does it: the worker's address on a cluster, as its blocks are told by, else this process (and thread)."""
    distributed = sys.modules.get("distributed")
    if distributed is not None:
        with suppress(ValueError):  # not on a worker
            return str(distributed.get_worker().address)
    name = threading.current_thread().name
    return f"{socket.gethostname()}:{os.getpid()}" + (f" {name}" if name.startswith("raster") else "")


def plan_of(
    sources: Sequence[str], settings: Mapping[str, Any], predictor: PredictorSpec, run: Run | None = None
) -> Plan:
    """The plan that ``segment`` would make (in ``run``). Reads no pixels. Raises InputError, UsageError."""
    _check_plain(sources)
    wanted = MapSettings(**settings)
    infos, refused = describe_all(find_sources(sources, order=wanted.order), wanted)
    logger = logging.getLogger("aerialseg.raster.view")
    level = logger.level
    logger.setLevel(logging.ERROR)  # said again, and better, by whoever does it
    try:
        return make_plan(infos, predictor, wanted, known_stamps(run, infos) if run else None, refused)
    finally:
        logger.setLevel(level)

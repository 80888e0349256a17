"""The job: decide, do, write down, report. It can be cut off at any moment and given again.

::

    nightly.job/
      ledger.sqlite     what was done, with what, and what came of it
      lock, owner.json  held by the run at work
      runs/             run directories of inputs that are not finished; their blocks are kept
      reports/          one JSON and one HTML page a run; latest.json and latest.html are the last one's
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.batch.backends import Backend, ClusterBackend, ThreadBackend
from aerialseg.batch.changes import Decision, decide_actions
from aerialseg.batch.events import Events
from aerialseg.batch.gantt import Gantt
from aerialseg.batch.hooks import run_hooks
from aerialseg.batch.inputs import JobInput, find_inputs, is_selected, join_mosaics, why_empty
from aerialseg.batch.job_report import JobReport, write_reports
from aerialseg.batch.job_settings import predictor_of
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import Ledger
from aerialseg.batch.lock import hold_folder
from aerialseg.batch.output_names import Names, name_outputs, without_outputs
from aerialseg.batch.runner import Runner, has_kept_run
from aerialseg.batch.task import run_input
from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.mapping.settings import warn_of_old_names
from aerialseg.progress import spoken_duration
from aerialseg.toml import naming_file

if TYPE_CHECKING:
    from aerialseg.cluster.dask_cluster import DaskCluster
    from aerialseg.model.interface import PredictorSpec


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended: its exit code, inputs by status, and the report (JSON, HTML)."""

    exit_code: int
    counts: dict[str, int]
    reports: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which inputs: those whose name matches ``only``; ``retry_failed`` tries unchanged failures again."""

    only: str | None = None
    retry_failed: bool = False


EVERYTHING = Selection()


def run_job(
    job: Job,
    selection: Selection = EVERYTHING,
    *,
    cluster: DaskCluster | None = None,
    predictor: PredictorSpec | None = None,
    events: Events | None = None,
) -> Summary:
    """Do what there is to do of the job and report on it; see Summary.

    cluster: workers to use instead of this process. predictor: another one than the job's model. Failures of single
    inputs are in the report, not raised. Raises InputError, UsageError (the job's inputs, outputs), ModelError,
    OutputError (the folder is in use, or cannot be written), ResourceError.
    """
    events = events or Events()
    with hold_folder(job.folder), events.warnings():
        began = time.time()
        predictor = predictor or predictor_of(job.model_ref, job.settings, on_workers=cluster is not None)
        gantt = _listening(cluster)
        with Ledger(job.folder) as ledger, _backend(job, predictor, cluster) as backend:
            decisions = decide_inputs(job, selection, predictor, ledger)
            runner = Runner(job, backend, ledger, events, ledger.begin_run(began))
            runner.work(decisions)
            report = JobReport(
                job, runner.run, began, time.time(), runner.exit_code, predictor.card.map_legend, runner.retries, gantt
            )
            paths, totals = write_reports(report, decisions, ledger)
            ledger.end_run(runner.run, report.ended, runner.exit_code, totals)
        events.say(
            "finished", _closing(runner, report, totals), exit_code=runner.exit_code, report=str(paths[-1]), **totals
        )
        run_hooks(job, paths, runner.exit_code, totals, events)
        return Summary(runner.exit_code, totals["inputs"], paths)


def sources_of(job: Job, selection: Selection) -> tuple[list[JobInput], dict[str, Names]]:
    """The inputs of the job that are selected, without its own outputs, and the names of all outputs.

    Raises InputError where none is left, unless the job allows that.
    """
    found = find_inputs(job)
    sources = without_outputs(job, found)
    with naming_file(job.file):
        sources = join_mosaics(job, sources)
        names = name_outputs(job, sources)
    kept = [source for source in sources if is_selected(source, selection.only)]
    if not kept and not job.inputs.allow_empty:
        raise InputError(f"{printable(job.file)}: {_without_inputs(job, selection, len(found), len(sources))}")
    return kept, names


def _without_inputs(job: Job, selection: Selection, found: int, left: int) -> str:
    """Why there is nothing to do, what to do about it, and what may have been meant."""
    near = ""
    if left:
        why = f"none of the {left} inputs matches --only {selection.only!r}: correct that pattern"
    elif found:
        why = f"all {found} files of [inputs] are results of this job: correct [inputs]"
    else:
        why, near = why_empty(job)
        why += ": correct [inputs]"
    return f"{why}, or set allow_empty = true in [inputs] if there may be none{near}"


def decide_inputs(job: Job, selection: Selection, predictor: PredictorSpec, ledger: Ledger | None) -> list[Decision]:
    """What is to be done with each selected input. Raises InputError, OutputError, UsageError."""
    sources, names = sources_of(job, selection)
    for settings in (job.settings, *(source.settings for source in sources)):
        warn_of_old_names(settings)
    decided = decide_actions(
        sources,
        names,
        job.settings,
        predictor.card.digest,
        ledger,
        retry_failed=selection.retry_failed,
        kept_run=partial(has_kept_run, job),
    )
    return list(decided)


def _listening(cluster: DaskCluster | None) -> Gantt:
    """The timeline, to which the cluster tells its blocks; tasks tell theirs when they come back."""
    gantt = Gantt()
    if cluster is not None:
        cluster.listen = lambda name, record: (
            None if name == run_input.__name__ else gantt.add_block(record.worker, record.began, record.ended)
        )
    return gantt


@contextmanager
def _backend(job: Job, predictor: PredictorSpec, cluster: DaskCluster | None) -> Iterator[Backend]:
    backend: Backend = (
        ThreadBackend(predictor, job.run.rasters)
        if cluster is None
        else ClusterBackend(predictor, cluster, job.run.spread_blocks)
    )
    try:
        yield backend
    finally:
        backend.close()


def _closing(runner: Runner, report: JobReport, totals: dict[str, Any]) -> str:
    counts = {name: number for name, number in totals["inputs"].items() if number}
    parts = [f"{number} {name}" for name, number in counts.items()] or ["no inputs"]
    return f"{runner.job.name}: {', '.join(parts)} in {spoken_duration(report.ended - report.began)}"

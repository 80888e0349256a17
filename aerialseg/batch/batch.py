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

from aerialseg.batch.backends import Crew, Threads, Workers
from aerialseg.batch.changes import decide
from aerialseg.batch.events import Events
from aerialseg.batch.gantt import Lanes
from aerialseg.batch.hooks import run_hooks
from aerialseg.batch.inputs import Source, chosen, find_inputs, why_empty
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import Ledger
from aerialseg.batch.lock import holding
from aerialseg.batch.output_names import Names, name_outputs, without_outputs
from aerialseg.batch.report import Report, write_reports
from aerialseg.batch.runner import Shift, has_kept_run
from aerialseg.batch.settings import predictor_of
from aerialseg.batch.task import carry_out
from aerialseg.errors import InputError
from aerialseg.progress import spoken_duration

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
    with holding(job.folder), events.warnings():
        began = time.time()
        predictor = predictor or predictor_of(job.model_ref, job.settings, on_workers=cluster is not None)
        sources, names = sources_of(job, selection)
        lanes = _listening(cluster)
        with Ledger(job.folder) as ledger, _crew(job, predictor, cluster) as crew:
            decisions = list(
                decide(
                    sources,
                    names,
                    job.settings,
                    predictor.card.digest,
                    ledger,
                    retry_failed=selection.retry_failed,
                    kept_run=partial(has_kept_run, job),
                )
            )
            shift = Shift(job, crew, ledger, events, ledger.begin_run(began))
            shift.work(decisions)
            report = Report(
                job, shift.run, began, time.time(), shift.exit_code, predictor.card.legend, shift.retries, lanes
            )
            paths, totals = write_reports(report, decisions, ledger)
            ledger.end_run(shift.run, report.ended, shift.exit_code, totals)
        events.say(
            "finished", _closing(shift, report, totals), exit_code=shift.exit_code, report=str(paths[-1]), **totals
        )
        run_hooks(job, paths, shift.exit_code, totals, events)
        return Summary(shift.exit_code, totals["inputs"], paths)


def sources_of(job: Job, selection: Selection) -> tuple[list[Source], dict[str, Names]]:
    """The inputs of the job that are selected, without its own outputs, and the names of all outputs.

    Raises InputError where none is left, unless the job allows that.
    """
    found = find_inputs(job)
    sources = without_outputs(job, found)
    names = name_outputs(job, sources)
    kept = [source for source in sources if chosen(source, selection.only)]
    if not kept and not job.inputs.allow_empty:
        raise InputError(_without_inputs(job, selection, len(found), len(sources)))
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


def _listening(cluster: DaskCluster | None) -> Lanes:
    """The timeline, to which the cluster tells its blocks; errands tell theirs when they come back."""
    lanes = Lanes()
    if cluster is not None:
        cluster.listen = lambda name, record: (
            None if name == carry_out.__name__ else lanes.add_block(record.worker, record.began, record.ended)
        )
    return lanes


@contextmanager
def _crew(job: Job, predictor: PredictorSpec, cluster: DaskCluster | None) -> Iterator[Crew]:
    crew: Crew = (
        Threads(predictor, job.run.rasters) if cluster is None else Workers(predictor, cluster, job.run.spread_blocks)
    )
    try:
        yield crew
    finally:
        crew.close()


def _closing(shift: Shift, report: Report, totals: dict[str, Any]) -> str:
    counts = {name: number for name, number in totals["inputs"].items() if number}
    parts = [f"{number} {name}" for name, number in counts.items()] or ["no inputs"]
    return f"{shift.job.name}: {', '.join(parts)} in {spoken_duration(report.ended - report.began)}"

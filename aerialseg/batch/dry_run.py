"""What a run would do, and what it would take: the answer of --dry-run. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from aerialseg.batch.changes import DO, REDRAW, SKIP, Decision
from aerialseg.batch.job import EVERYTHING, Selection, decide_inputs
from aerialseg.batch.job_settings import message_for_job, predictor_of
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import DONE, LEDGER, Ledger
from aerialseg.batch.lock import RUNS
from aerialseg.batch.runner import run_folder_name
from aerialseg.batch.task import plan_of
from aerialseg.errors import AerialsegError
from aerialseg.mapping.estimate import decide_blocks
from aerialseg.mapping.network_time import seconds_per_px
from aerialseg.mapping.run import Run, find_changes
from aerialseg.progress import counted, spoken_bytes, spoken_duration

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec

HALO_WORK = 1.5
ENOUGH = 20
"""So many finished inputs tell how fast this job is."""


@dataclass(frozen=True, slots=True)
class EstimateLine:
    """One input: what would be done, why, pixels to compute (0 if nothing) and what is wrong with it, if known."""

    name: str
    action: str
    reason: str
    pixels: int = 0
    disk_bytes: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """lines, and for all of them seconds (None: nobody knows), where that comes from, and disk for the results."""

    lines: Sequence[EstimateLine]
    seconds: float | None
    basis: str
    disk_bytes: int

    @property
    def pixels(self) -> int:
        return sum(line.pixels for line in self.lines)

    @property
    def failing(self) -> int:
        """How many inputs would fail, as far as one can tell without computing."""
        return sum(bool(line.problem) for line in self.lines)

    @property
    def exit_code(self) -> int:
        """What the run would end with, as far as one can tell without computing."""
        stood = any(line.action not in (DO, REDRAW, SKIP) for line in self.lines)
        return 1 if self.failing or stood else 0


def dry_run(job: Job, selection: Selection = EVERYTHING, *, predictor: PredictorSpec | None = None) -> Estimate:
    """What ``run_job`` would do. Raises what that raises before its work."""
    predictor = predictor or predictor_of(job.model_ref, job.settings, on_workers=True)
    ledger = Ledger(job.folder, read_only=True) if (job.folder / LEDGER).exists() else None
    try:
        decisions = decide_inputs(job, selection, predictor, ledger)
        rates = _rates(ledger)
    finally:
        if ledger is not None:
            ledger.close()
    lines = [_estimate_line(job, one, predictor) for one in decisions]
    pixels = sum(line.pixels for line in lines)
    before = f"from {counted(len(rates), 'input')} done before"
    seconds, basis = (median(rates), before) if rates else _measured(predictor, pixels)
    total = None if seconds is None else seconds * pixels
    return Estimate(lines, total, basis, sum(line.disk_bytes for line in lines))


def _estimate_line(job: Job, one: Decision, predictor: PredictorSpec) -> EstimateLine:
    if one.action != DO:
        return EstimateLine(one.source.name, one.action, one.reason)
    run = Run(job.folder / RUNS / run_folder_name(one.entry, predictor.numerics))
    try:
        plan = plan_of(one.source.rasters, {**job.settings, **one.source.settings}, predictor, run)
        blocks = decide_blocks(plan, predictor, run, find_changes(run, plan))
    except AerialsegError as error:
        return EstimateLine(one.source.name, DO, one.reason, problem=message_for_job(error))
    reason = "; ".join(filter(None, (one.reason, blocks.reason)))
    return EstimateLine(one.source.name, DO, reason, blocks.pixels, plan.disk_bytes)


def _rates(ledger: Ledger | None) -> list[float]:
    """Seconds per pixel of the inputs that were done last."""
    done = [] if ledger is None else [entry for entry in ledger.entries(status=DONE) if entry.pixels]
    done.sort(key=lambda entry: -entry.ended)
    return [(entry.ended - entry.began) / entry.pixels for entry in done[:ENOUGH]]


def _measured(predictor: PredictorSpec, pixels: int) -> tuple[float | None, str]:
    """(seconds per pixel, where from)."""
    if not pixels:
        return 0.0, "nothing to do"
    try:
        return seconds_per_px(predictor) * HALO_WORK, "the network alone, measured on one tile"
    except AerialsegError as error:
        return None, f"unknown: {error}"


def describe_estimate(estimate: Estimate) -> list[str]:
    """The estimate in lines for people."""
    verbs = {DO: "compute", REDRAW: "redraw", SKIP: "skip"}
    lines = []
    for line in estimate.lines:
        size = f", {line.pixels / 1e6:,.2f} Mpx" if line.pixels else ""
        problem = f"; would fail: {line.problem}" if line.problem else ""
        lines.append(f"{verbs.get(line.action, 'leave'):7} {line.name}: {line.reason}{size}{problem}")
    todo = sum(line.action == DO and not line.problem for line in estimate.lines)
    redraw = sum(line.action == REDRAW for line in estimate.lines)
    time_s = "unknown" if estimate.seconds is None else f"about {spoken_duration(estimate.seconds)}"
    total = f"{todo} of {counted(len(estimate.lines), 'input')} to compute: {estimate.pixels / 1e6:,.1f} Mpx"
    total += f", {redraw} to redraw without the network" if redraw else ""
    total += f", {estimate.failing} would fail" if estimate.failing else ""
    if not todo:
        return [*lines, total]
    return [*lines, f"{total}, {time_s} ({estimate.basis}), up to {spoken_bytes(estimate.disk_bytes)} of disk"]

"""One run at work: tasks are handed out, come back, are written down, and tried again where that may help."""

from __future__ import annotations

import heapq
import shutil
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from aerialseg.batch.backends import Backend
from aerialseg.batch.changes import DO, REDRAW, SKIP, Decision
from aerialseg.batch.events import Events
from aerialseg.batch.job_settings import digest_json
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import DONE, FAILED, RUNNING, WAITING, Entry, Ledger
from aerialseg.batch.lock import RUNS, stop_on_signal
from aerialseg.batch.task import GONE, InputResult, InputTask, discard_run, kind_of
from aerialseg.errors import Interrupted, ResourceError
from aerialseg.mapping.run import MOSAIC
from aerialseg.mapping.settings import settings_deciding
from aerialseg.progress import counted, spoken_duration

LOOK_EVERY_S = 0.2
STOP_WITHIN_S = 2.5
"""Seconds that blocks under way may take when told to stop; what is left is resumed by the next run."""


@dataclass
class Runner:
    """One run at work: the queue, what is under way, and what waits to be tried again."""

    job: Job
    backend: Backend
    ledger: Ledger
    events: Events
    run: int
    exit_code: int = 0
    failed: int = 0
    finished: int = 0
    total: int = 0
    allowed: int = 0
    retries: list[str] = field(default_factory=list)
    _queue: _Queue = field(default_factory=lambda: _Queue())
    _under_way: dict[Future[InputResult], Decision] = field(default_factory=dict)

    def work(self, decisions: list[Decision]) -> None:
        """Do what is to be done; afterwards the ledger and ``exit_code`` say what came of it."""
        self._begin(decisions)
        with stop_on_signal() as told:
            while (self._queue or self._under_way) and not told.is_set():
                self._hand_out()
                self._collect()
            if told.is_set():
                self.backend.stop()
                self.events.say("stopping", "told to stop: finished blocks are kept, the next run resumes")
                deadline = time.monotonic() + STOP_WITHIN_S
                while self._under_way and time.monotonic() < deadline:
                    self._collect()
                self.ledger.change([one.source.path for one in self._under_way.values()], status=WAITING)
        stood = sum(one.action not in (DO, REDRAW, SKIP) for one in decisions)
        left = self.total - self.finished - self.failed
        bad = ResourceError.exit_code if self.backend.lost else 1
        self.exit_code = Interrupted.exit_code if told.is_set() else bad if self.failed or stood or left else 0

    def _begin(self, decisions: list[Decision]) -> None:
        todo = [one for one in decisions if one.action in (DO, REDRAW)]
        self.total, self.allowed = len(todo), self.job.failures.allowed(len(decisions))
        _enter(self.ledger, decisions, self.run)
        self._queue.ready.extend(todo)
        _forget_stale(self.job.folder / RUNS, {run_folder_name(one.entry, self.backend.numerics) for one in todo})
        skipped = len(decisions) - self.total
        message = f"{self.job.name}: {self.total} of {counted(len(decisions), 'input')} to do, {skipped} need nothing"
        self.events.say("started", message, run=self.run, to_do=self.total, skipped=skipped)

    def _hand_out(self) -> None:
        self._queue.fetch()
        tolerated = f"{self.failed} inputs failed, {self.allowed} are tolerated" if self.failed > self.allowed else ""
        reason = self.backend.lost or tolerated
        if reason and self._queue:
            self.events.say("gave up", reason, level="error")
            self._queue.clear()
        while self._queue.ready and self.backend.room(len(self._under_way)):
            one = self._queue.ready.popleft()
            one.entry.attempts += 1
            self.ledger.change([one.source.path], status=RUNNING, began=time.time(), attempts=one.entry.attempts)
            self.events.say(
                "begun", f"{one.source.name}: {one.reason}", level="debug", input=one.source.path, reason=one.reason
            )
            self._under_way[self.backend.submit(_input_task(self.job, one, self.backend.numerics))] = one

    def _collect(self) -> None:
        self.ledger.commit(only_if_due=True)
        if not self._under_way:
            time.sleep(LOOK_EVERY_S)
            return
        done, _ = wait(self._under_way, timeout=LOOK_EVERY_S, return_when=FIRST_COMPLETED)
        for future in done:
            one = self._under_way.pop(future)
            try:
                self._settle(one, future.result())
            except (Interrupted, CancelledError):
                self.ledger.change([one.source.path], status=WAITING)
            except Exception as error:  # of the way there and back: the task itself finds its errors
                now = time.time()
                self._settle(one, InputResult(now, now, "", kind_of(error), " ".join(str(error).split())))

    def _settle(self, one: Decision, outcome: InputResult) -> None:
        _tell_notes(self.events, one, outcome)
        entry = one.entry
        entry.began, entry.ended, entry.worker = outcome.began, outcome.ended, outcome.worker
        if outcome.kind and self._is_worth_retrying(one, outcome):
            return
        if outcome.kind:
            self.failed += 1
            entry.status, entry.error_kind, entry.error = FAILED, outcome.kind, outcome.error
            self._say_end(one, "failed", outcome.error, level="error", kind=outcome.kind, trace=outcome.trace)
        else:
            self.finished += 1
            entry.status, entry.error_kind, entry.error = DONE, "", ""
            for name, value in outcome.values.items():
                setattr(entry, name, value)
            self._say_end(
                one, "done", f"done in {spoken_duration(entry.ended - entry.began)} ({one.reason})", pixels=entry.pixels
            )
        self.ledger.put(entry)
        entry.thumbnail, entry.areas, entry.seconds = b"", {}, {}  # the ledger has them: memory must not grow

    def _is_worth_retrying(self, one: Decision, outcome: InputResult) -> bool:
        retry, attempts = self.job.retry, one.entry.attempts
        if outcome.kind not in retry.on or attempts > retry.times:
            return False
        pause = retry.pause_s(attempts)
        self.retries.append(f"{one.source.name}: {outcome.error}")
        self._queue.put_later(one, pause)
        self.ledger.change([one.source.path], status=WAITING, error=outcome.error, error_kind=outcome.kind)
        self.events.say(
            "retry",
            f"{one.source.name}: {outcome.error}; trying again in {spoken_duration(pause)}",
            level="warning",
            input=one.source.path,
            attempt=attempts,
        )
        return True

    def _say_end(self, one: Decision, event: str, message: str, *, level: str = "info", **facts: object) -> None:
        where = f"[{self.finished + self.failed}/{self.total}] {one.source.name}"
        seconds = round(one.entry.ended - one.entry.began, 3)
        self.events.say(event, f"{where}: {message}", level=level, input=one.source.path, seconds=seconds, **facts)


def _enter(ledger: Ledger, decisions: list[Decision], run: int) -> None:
    """Write down in the ledger what this run will do of each input."""
    for one in decisions:
        one.entry.run = run
        if one.action in (DO, REDRAW):
            one.entry.status, one.entry.reason = WAITING, one.reason
            ledger.put(one.entry)
        else:
            ledger.change([one.source.path], run=run, reason=one.reason, identity=one.entry.identity)
    ledger.commit()


def _tell_notes(events: Events, one: Decision, outcome: InputResult) -> None:
    for note in outcome.notes:
        level = "info" if note.startswith("warning") else "debug"
        events.say("note", f"{one.source.name}: {note}", level=level, input=one.source.path)


def _input_task(job: Job, one: Decision, numerics: str) -> InputTask:
    folder = job.folder / RUNS / run_folder_name(one.entry, numerics)
    settings = {**job.settings, **one.source.settings}
    keep = job.keep.runs or bool(one.source.files)  # so that only what changed is computed the next time
    return InputTask(one.source.rasters, one.entry.outputs, settings, folder, keep, one.kept, one.lost_px)


class _Queue:
    """What is to be begun: what is ready, and what waits for its next try."""

    def __init__(self) -> None:
        self.ready: deque[Decision] = deque()
        self._later: list[tuple[float, int, Decision]] = []
        self._number = count()

    def __bool__(self) -> bool:
        return bool(self.ready or self._later)

    def put_later(self, one: Decision, pause_s: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + pause_s, next(self._number), one))

    def fetch(self) -> None:
        """Make ready what has waited long enough."""
        while self._later and self._later[0][0] <= time.monotonic():
            self.ready.append(heapq.heappop(self._later)[2])

    def clear(self) -> None:
        self.ready.clear()
        self._later.clear()


def _forget_stale(folder: Path, wanted: set[str]) -> None:
    """Remove the blocks of what is done now in another way: of an older input, model or settings."""
    sources = {name.partition("-")[0] for name in wanted}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name.startswith(GONE):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in wanted and path.name.partition("-")[0] in sources:
            discard_run(path)


def run_folder_name(entry: Entry, numerics: str) -> str:
    """A name for the run's directory: blocks in it are of this input, done in this way, and know what they saw."""
    state = digest_json(entry.model, numerics, settings_deciding("blocks", values=entry.settings), entry.version)
    return f"{digest_json(entry.source)[:16]}-{state[:16]}"


def has_kept_run(job: Job, entry: Entry) -> bool:
    """Whether the run directory of a finished input is there, with what its layer is drawn from."""
    return (job.folder / RUNS / run_folder_name(entry, entry.numerics) / MOSAIC).exists()

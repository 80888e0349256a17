"""How a job is getting on, seen from another terminal: the ledger, and the blocks in the directories of its runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.batch.events import spoken_time
from aerialseg.batch.job_settings import digest_json
from aerialseg.batch.ledger import DONE, FAILED, LEDGER, RUNNING, WAITING, Entry, Ledger
from aerialseg.batch.lock import RUNS, is_held, lock_owner
from aerialseg.errors import InputError
from aerialseg.progress import spoken_duration


@dataclass(frozen=True, slots=True)
class Status:
    """state: "running", "finished", "cut off" (it died) or "never run". at_work: (input, blocks done, blocks).

    counts: inputs of the last run by status. left_s: seconds that the rest takes at the speed so far, None if unknown.
    """

    folder: Path
    state: str
    run: int
    began: float
    ended: float | None
    exit_code: int | None
    owner: dict[str, Any]
    counts: dict[str, int]
    at_work: tuple[tuple[str, int, int], ...]
    failed: tuple[tuple[str, str], ...]
    left_s: float | None

    def to_json(self) -> dict[str, Any]:
        names = ("state", "run", "began", "ended", "exit_code", "owner", "counts", "left_s")
        lists = {
            "at_work": [{"input": name, "blocks_done": done, "blocks": blocks} for name, done, blocks in self.at_work],
            "failed": [{"input": name, "error": error} for name, error in self.failed],
        }
        return {"folder": str(self.folder), **{name: getattr(self, name) for name in names}, **lists}


def job_folder(path: str | Path) -> Path:
    """The job's folder: the one given, or that of the job file given. Raises InputError where no job was ever run."""
    from aerialseg.batch.jobfile import read_job

    folder = Path(os.path.abspath(path))
    if folder.suffix == ".toml":
        folder = read_job(folder).folder
    if not ((folder / LEDGER).is_file() and (folder / LEDGER).stat().st_size) and is_held(folder):
        raise InputError(f"the job in {folder} is starting and has no {LEDGER} yet: ask again in a moment")
    if not (folder / LEDGER).is_file():
        raise InputError(f"{folder} is no job's folder: it has no {LEDGER}; give the folder that the job file names")
    return folder


def status_of(path: str | Path) -> Status:
    """How the job of that folder (or job file) is getting on. Raises InputError, OutputError."""
    folder = job_folder(path)
    held = is_held(folder)
    with Ledger(folder, read_only=True) as ledger:
        run = ledger.last_run()
        if run is None:
            return Status(folder, "never run", 0, 0.0, None, None, {}, {}, (), (), None)
        entries = list(ledger.entries(run=run["id"]))
    counts = {status: sum(entry.status == status for entry in entries) for status in (WAITING, RUNNING, DONE, FAILED)}
    state = "running" if held and run["ended"] is None else "finished" if run["ended"] else "cut off"
    return Status(
        folder,
        state,
        run["id"],
        run["began"],
        run["ended"],
        run["exit_code"],
        lock_owner(folder) if held else {},
        counts,
        tuple(_at_work(folder, entries)),
        tuple((entry.name, entry.error) for entry in entries if entry.status == FAILED),
        _left_s(run["began"], entries) if state == "running" else None,
    )


def _at_work(folder: Path, entries: list[Entry]) -> Iterator[tuple[str, int, int]]:
    names = os.listdir(folder / RUNS) if (folder / RUNS).is_dir() else []
    for entry in entries:
        if entry.status != RUNNING:
            continue
        found = [name for name in names if name.startswith(digest_json(entry.source)[:16])]
        yield entry.name, *_blocks(folder / RUNS / found[0] if found else folder / RUNS / "none")


def _blocks(run: Path) -> tuple[int, int]:
    """(finished, all) blocks of a run's directory; zeros where it says nothing yet."""
    with suppress(OSError, ValueError, KeyError, TypeError, ArithmeticError):
        grid = json.loads((run / "plan.json").read_text())["grid"]
        blocks = -(-grid["height"] // grid["block"]) * -(-grid["width"] // grid["block"])
        return len(list((run / "blocks").glob("r*_c*.tif"))), blocks
    return 0, 0


def _left_s(began: float, entries: list[Entry]) -> float | None:
    done = sum(entry.status in (DONE, FAILED) and entry.ended >= began for entry in entries)
    left = sum(entry.status in (WAITING, RUNNING) for entry in entries)
    return (time.time() - began) / done * left if done else None


def describe_status(status: Status) -> list[str]:
    """The status in lines for people."""
    if status.state == "never run":
        return [f"{status.folder}: never run"]
    head = f"{status.folder}: run {status.run} {status.state}, begun {spoken_time(status.began)}"
    if status.owner:
        head += f" (process {status.owner.get('pid')} on {status.owner.get('host')})"
    if status.ended:
        head += f", took {spoken_duration(status.ended - status.began)}, exit code {status.exit_code}"
    counts = ", ".join(f"{count} {name}" for name, count in status.counts.items() if count)
    lines = [head, counts or "no inputs"]
    for name, done, blocks in status.at_work:
        lines.append(f"  at work on {name}" + (f": {done} of {blocks} blocks" if blocks else ""))
    lines += [f"  failed {name}: {error}" for name, error in status.failed]
    if status.left_s is not None:
        lines.append(f"about {spoken_duration(status.left_s)} left at this speed")
    return lines

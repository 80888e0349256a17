"""The report of a run: every input with what came of it, as JSON and as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.batch.changes import DO, SKIP, Decision
from aerialseg.batch.events import spoken_time
from aerialseg.batch.gantt import Bar, Gantt
from aerialseg.batch.jobfile import Job
from aerialseg.batch.ledger import DONE, FAILED, Entry, Ledger
from aerialseg.batch.lock import REPORTS
from aerialseg.files import cannot_write, move_into_place, part_of
from aerialseg.legend import Legend
from aerialseg.progress import spoken_duration

UNCHANGED, UNFINISHED = "unchanged", "not finished"
ORDER = (FAILED, UNFINISHED, DONE, UNCHANGED)
THUMBNAILS = 1000
"""A page of more pictures than this no browser likes to open; the rest of the inputs goes without."""


@dataclass(frozen=True)
class JobReport:
    """What a run was; what came of its inputs is in the ledger. Times in seconds since the epoch."""

    job: Job
    run: int
    began: float
    ended: float
    exit_code: int
    legend: Legend
    retries: Sequence[str] = ()
    gantt: Gantt = field(default_factory=Gantt)

    @property
    def stem(self) -> str:
        return f"{spoken_time(self.began)[:19].replace(':', '')}Z-run{self.run:05d}"


def write_reports(
    report: JobReport, decisions: Sequence[Decision], ledger: Ledger
) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """((JSON, HTML), totals). Older reports go, as the job says. Raises OutputError."""
    actions = {one.source.path: one.action for one in decisions}
    entries = [entry for entry in ledger.entries(run=report.run) if entry.source in actions]
    lines = sorted((_line(entry, actions[entry.source]) for entry in entries), key=_rank)
    totals = _totals(lines)
    for line in lines:
        if line["worker"] and line["status"] in (DONE, FAILED) and line["ended"] >= report.began:
            report.gantt.add(line["worker"], Bar(line["name"], line["status"], line["began"], line["ended"]))
    values = {**_head(report), "totals": totals, "inputs": lines, "workers": report.gantt.to_json()}
    folder = report.job.folder / REPORTS
    paths = folder / f"{report.stem}.json", folder / f"{report.stem}.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(paths[0], [json.dumps(values, indent=1, ensure_ascii=False)])
        _write(paths[1], _page(report, totals, lines, ledger))
        for path in paths:
            shutil.copyfile(path, part_of(folder / f"latest{path.suffix}"))
            move_into_place(part_of(folder / f"latest{path.suffix}"), folder / f"latest{path.suffix}")
    except OSError as error:
        raise cannot_write(folder, error) from error
    _forget_old(folder, report.job.keep.reports)
    return paths, totals


def _write(path: Path, pieces: Iterable[str]) -> None:
    with open(part_of(path), "w", encoding="utf-8") as file:
        file.writelines(pieces)
    move_into_place(part_of(path), path)


def _forget_old(folder: Path, keep: int) -> None:
    for ending in ("json", "html"):
        for path in sorted(folder.glob(f"*Z-run*.{ending}"))[:-keep]:
            path.unlink(missing_ok=True)


def _head(report: JobReport) -> dict[str, Any]:
    return {
        "job": report.job.name,
        "run": report.run,
        "began": spoken_time(report.began),
        "ended": spoken_time(report.ended),
        "seconds": round(report.ended - report.began, 3),
        "exit_code": report.exit_code,
        "version": __version__,
        "tolerated": report.job.failures.tolerate,
        "retries": list(report.retries),
    }


def _line(entry: Entry, action: str) -> dict[str, Any]:
    status = UNCHANGED if action == SKIP else entry.status
    if action == DO and status not in (DONE, FAILED):
        status = UNFINISHED
    return {
        "name": entry.name,
        "source": entry.source,
        "status": status,
        "reason": entry.reason,
        "error": entry.error,
        "kind": entry.error_kind,
        "attempts": entry.attempts,
        "began": entry.began,
        "ended": entry.ended,
        "seconds": round(entry.ended - entry.began, 3) if status in (DONE, FAILED, UNCHANGED) else 0.0,
        "worker": entry.worker,
        "pixels": entry.pixels,
        "valid_px": entry.valid_px,
        "lost_px": entry.lost_px,
        "polygons": entry.polygons,
        "areas_m2": entry.areas,
        "stages": entry.seconds,
        "outputs": entry.outputs,
    }


def _rank(line: dict[str, Any]) -> tuple[int, str]:
    return ORDER.index(line["status"]), line["name"]


def _totals(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts by status; sums over what is there now, whenever it was made, and over what this run made."""
    there = [line for line in lines if line["status"] in (DONE, UNCHANGED)]
    made = [line for line in lines if line["status"] == DONE]
    areas: Counter[str] = Counter()
    for line in there:
        areas.update(line["areas_m2"])
    return {
        "inputs": dict(Counter(line["status"] for line in lines)),
        "pixels": sum(line["pixels"] for line in made),
        "lost_px": sum(line["lost_px"] for line in made),
        "polygons": sum(line["polygons"] for line in there),
        "work_s": round(sum(line["seconds"] for line in made), 3),
        "areas_m2": dict(areas.most_common()),
    }


def _page(report: JobReport, totals: dict[str, Any], lines: list[dict[str, Any]], ledger: Ledger) -> Iterator[str]:
    colours = {one.name: one.hex for one in report.legend}
    pictures = _pictures(ledger, report.run, {line["source"] for line in lines[:THUMBNAILS]})
    page: Iterator[str] = _template().generate(
        **_head(report),
        totals=totals,
        lines=lines,
        colours=colours,
        pictures=pictures,
        order=ORDER,
        svg=report.gantt.svg(report.began, report.ended),
        clock=spoken_time(report.began)[:16].replace("T", " "),
        folder=str(report.job.folder),
    )
    return page


@cache
def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"area": spoken_area, "duration": spoken_duration, "count": "{:,}".format, "url": _url}
    return environment.from_string(files("aerialseg.batch").joinpath("report.html.j2").read_text("utf-8"))


def _pictures(ledger: Ledger, run: int, wanted: set[str]) -> dict[str, str]:
    return {
        entry.source: base64.b64encode(entry.thumbnail).decode()
        for entry in ledger.entries(thumbnails=True, run=run)
        if entry.thumbnail and entry.source in wanted
    }


def _url(path: str) -> str:
    return Path(os.path.abspath(path)).as_uri()


def spoken_area(area_m2: float) -> str:
    if area_m2 >= 1e6:
        return f"{area_m2 / 1e6:,.2f} km²"
    return f"{area_m2 / 1e4:,.2f} ha" if area_m2 >= 1e4 else f"{area_m2:,.1f} m²"

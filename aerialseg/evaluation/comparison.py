"""The report of an experiment: a table, and one HTML page with its plots that needs nothing else."""

from __future__ import annotations

import base64
import csv
import datetime
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.evaluation.charts import BarChart, LineSeries, bars, lines, standalone, templates
from aerialseg.evaluation.curves import searches
from aerialseg.files import write_atomically

TABLE, PAGE = "results.csv", "experiment.html"
COLUMNS = ("run", "step", "frames_px", "crops_px", "epochs", "mpx", "lr", "batch", "at_once", "seconds", "peak_mb")
SCORES = ("pixel_accuracy", "mean_iou", "mean_dice", "frequency_weighted_iou")
SEEN = ("final", "own")
"""How a model sees the frames that it is judged on: at the final resolution, or at the one that it has learnt at."""

Results = Sequence[dict[str, Any]]


def write_comparison(folder: str | Path, results: Results) -> list[Path]:
    """The paths written into ``folder``: results.csv, a chart each as SVG, experiment.html. Raises OutputError.

    Older ones are replaced.
    """
    table, page = Path(folder) / TABLE, Path(folder) / PAGE
    charts = {Path(folder) / f"{name}.svg": standalone(chart) for name, chart in charts_of(results).items()}
    with write_atomically(table) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(_rows(results)[0]))
        writer.writeheader()
        writer.writerows(_rows(results))
    for path, text in {**charts, page: draw_page(results, Path(folder))}.items():
        with write_atomically(path) as part:
            part.write_text(text, encoding="utf-8")
    return [table, *charts, page]


def draw_page(results: Results, folder: Path | None = None) -> str:
    """The HTML page: it takes nothing from elsewhere. folder: has the pictures."""
    page: str = (
        templates()
        .get_template("comparison.html.j2")
        .render(
            rows=_rows(results),
            last=last_steps(results),
            budgets=_budgets(results),
            pictures=_pictures(results, folder),
            scores=charts_of(results),
            absent=results[-1]["scores"]["final"].get("classes_absent", []),
            searches=[chart for record in results for chart in _search(record)],
            classes=list(_classes(results)),
            version=__version__,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )
    )
    return page


def charts_of(results: Results) -> dict[str, str]:
    """SVG text by name: "scores", "loss", "dice" (shown while training)."""
    return {
        "scores": bars(
            [BarChart(_name(r), [r["scores"][seen]["mean_iou"] for seen in SEEN]) for r in results],
            "mean IoU of the held-out frames, at the final resolution",
            keys=["the model sees them at the final resolution", "at its own, its labels enlarged"],
        ),
        "loss": lines(_curves(results, "valid_loss"), "megapixels learnt from", "loss on the watched frames"),
        "dice": lines(_curves(results, "dice_shown"), "megapixels learnt from", "DiceMulti on the watched frames"),
    }


def last_steps(results: Results) -> list[dict[str, Any]]:
    """The record that each run ended with, and ``total_mpx``, what all its steps learnt from."""
    ends = {record["run"]: record for record in results}
    totals = {run: sum(record["mpx"] for record in results if record["run"] == run) for run in ends}
    return [{**record, "total_mpx": totals[run]} for run, record in ends.items()]


def _budgets(results: Results) -> str:
    """Equal computing, where it is: whole epochs of large frames may be far from what was wanted."""
    least, *_, most = sorted([record["total_mpx"] for record in last_steps(results)] * 2)
    return "equal computing" if most <= 1.1 * least else f"{least:.1f} to {most:.1f} megapixels learnt from, not equal"


def _pictures(results: Results, folder: Path | None) -> list[list[tuple[str, str]]]:
    """Of a few frames (caption, data URI) of image, truth and what each run ended with."""
    found: dict[str, dict[str, str]] = {}
    for part in ("image", "truth", "map"):
        for record in last_steps(results) if folder else ():
            for path in sorted((folder / record.get("pictures", "none")).glob(f"*-{part}.png")):
                row = found.setdefault(frame := path.stem.removesuffix(f"-{part}"), {})
                uri = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
                row.setdefault(f"{frame}, {_name(record) if part == 'map' else part}", uri)
    return [list(row.items()) for row in found.values()]


def _curves(results: Results, key: str) -> list[LineSeries]:
    """A line for each run over what it had seen, through all its steps."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    for record in results:
        xs, ys = points.setdefault(record["run"], ([], []))
        begun = xs[-1] if xs else 0.0
        share = record["mpx"] / len(record["history"])
        xs += [begun + share * (place + 1) for place in range(len(record["history"]))]
        values = [epoch.get(key) for epoch in record["history"]]
        ys += [math.nan if value is None else float(value) for value in values]
    return [LineSeries(run, xs, ys) for run, (xs, ys) in points.items()]


def _search(record: dict[str, Any]) -> list[str]:
    search = {**record["search"], "step": 0}
    return searches({"searches": [search], "steps": [{"size": record["size"]}]}) if record["search"].get("lrs") else []


def _rows(results: Results) -> list[dict[str, Any]]:
    """A row for each step, with numbers as CSV has them."""
    rows = []
    for record in results:
        plain = {**record, "frames_px": _shape(record["size"]), "crops_px": _shape(record["crop"])}
        row = {name: plain[name] for name in COLUMNS}
        rows.append(row | {f"{score}_{seen}": record["scores"][seen][score] for seen in SEEN for score in SCORES})
    return rows


def _classes(results: Results) -> Iterator[dict[str, Any]]:
    """A row for each class of the truth, by its share: IoU of each run's last step at the final resolution."""
    ends = [record["scores"]["final"]["per_class"] for record in last_steps(results)]
    for name, first in sorted(ends[0].items(), key=lambda item: -item[1]["share"]):
        yield {"name": name, "share": first["share"], "iou": [end[name]["iou"] for end in ends]}


def _name(record: dict[str, Any]) -> str:
    return f"{record['run']}, after {_shape(record['size'])}" if record["run"] == "progressive" else record["run"]


def _shape(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"

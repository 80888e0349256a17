"""Charts as SVG text, for pages that must need nothing else: lines, bars, a heat map, a reliability diagram.

Text takes the colour of the page around it, so one chart serves light and dark pages. All text is escaped. How they
look is in charts.html.j2; here is where things lie.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.evaluation.axes import Axis, text, value_range

PALETTE = ("#1f83cc", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""Colours that most people with weak colour vision can tell apart, on white and on black (after Okabe and Ito)."""

CHAR_PX = 6.4
"""Width of a letter at 12 px, on average, and a bit."""

GAP = 12.0
TOP, RIGHT, BOTTOM = 12.0, 18.0, 46.0
BAR, LEGEND_ROW = 12.0, 20.0


@dataclass(frozen=True, slots=True)
class LineSeries:
    """A named line; where x or y is not finite it is broken. color: by its place in the palette unless given."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str = ""
    dashed: bool = False
    dots: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """An upright line at ``x`` with words at its top."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """One row of a bar chart. color: of all its bars, paler from one to the next; by the palette unless given.

    note: words at the right end of the row. A value that is not finite has no bar.
    """

    name: str
    values: Sequence[float]
    color: str = ""
    note: str = ""


def lines(
    series: Sequence[LineSeries],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    size: tuple[int, int] = (300, 560),
) -> str:
    """A line chart as SVG text, ``size`` (height, width) px. On a logarithmic axis only values above 0 are drawn.

    Without any value to draw it says so. y_range: (low, high) of the y axis, that of the values unless given.
    """
    height, width = size
    points = [_drawable(line, log_x, log_y) for line in series]
    met = [point for part in points for run in part for point in run]
    keys = list(_legend([(line.name, line.color or _color(i), line.dashed) for i, line in enumerate(series)], width))
    top = TOP + (keys[-1]["y"] + 8 if keys else 0) + (14 if marks else 0)
    x_low, x_high = value_range([x for x, _ in met] + [mark.x for mark in marks], log_x, 0.0)
    y_low, y_high = y_range or value_range([y for _, y in met], log_y, 0.05)
    y_axis = Axis(y_low, y_high, height - BOTTOM, top, log_y)
    left = 34 + CHAR_PX * max((len(label) for _, label in y_axis.ticks()), default=1)
    x_axis = Axis(x_low, x_high, left + 6, width - RIGHT, log_x)
    return _render(
        "lines",
        frame={"left": left, "right": width - RIGHT, "top": top, "bottom": height - BOTTOM},
        size=size,
        labels=(x_label, y_label),
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        lines=[_line(line, i, runs, x_axis, y_axis) for i, (line, runs) in enumerate(zip(series, points, strict=True))],
        keys=keys,
        marks=[(x_axis(mark.x), mark.label) for mark in marks],
        empty=not met,
    )


def _line(
    line: LineSeries, number: int, runs: list[list[tuple[float, float]]], x_axis: Axis, y_axis: Axis
) -> dict[str, Any]:
    named = [(x, y, f"{line.name}: {text(x)}, {text(y)}") for run in runs for x, y in run] if line.dots else []
    return {
        "color": line.color or _color(number),
        "dashed": line.dashed,
        "runs": [[(x_axis(x), y_axis(y)) for x, y in run] for run in runs],
        "dots": [(x_axis(x), y_axis(y), words) for x, y, words in named],
    }


def bars(
    rows: Sequence[BarChart],
    label: str,
    *,
    keys: Sequence[str] = (),
    top_value: float | None = None,
    note_title: str = "",
    width: int = 560,
) -> str:
    """Level bars as SVG text, one row a name, from 0 to ``top_value`` (the greatest unless given).

    keys: what the values of a row are, as a legend above. label: what is measured, below the axis.
    """
    left = 16 + CHAR_PX * max((len(row.name) for row in rows), default=1)
    notes = 10 + CHAR_PX * max((len(part) for part in (note_title, *(row.note for row in rows))), default=0)
    finite = [value for row in rows for value in row.values if math.isfinite(value)]
    axis = Axis(0.0, top_value or max([*finite, 0.0]) or 1.0, left, width - notes - 44)
    plain = any(row.color for row in rows)
    legend = list(_legend([(key, "currentColor" if plain else _color(i), False) for i, key in enumerate(keys)], width))
    for number, key in enumerate(legend):
        key["opacity"] = _paler(number) if plain else 1.0
    above = TOP + (legend[-1]["y"] + 10 if legend else 0) + (14 if note_title else 0)
    drawn, y = [], above
    for row in rows:
        thick = BAR if len(row.values) < 2 else BAR - 1.5
        drawn.append(_bar_row(row, axis, y, thick))
        y += thick * len(row.values) + 6
    return _render(
        "bars",
        size=(y + BOTTOM - 8, width),
        frame={"left": left, "right": axis.end, "top": above, "bottom": y},
        ticks=axis.ticks(),
        label=label,
        rows=drawn,
        keys=legend,
        note_title=note_title,
    )


def _bar_row(row: BarChart, axis: Axis, top: float, thick: float) -> dict[str, Any]:
    finite = [(place, value) for place, value in enumerate(row.values) if math.isfinite(value)]
    return {
        "name": row.name,
        "note": row.note,
        "middle": top + thick * len(row.values) / 2,
        "bars": [
            {
                "y": top + thick * place,
                "height": thick - 1,
                "width": max(axis(min(value, axis.high)) - axis.start, 0.5),
                "color": row.color or _color(place),
                "opacity": _paler(place) if row.color else 1.0,
                "text": f"{value:.2f}",
                "value": f"{value:.4g}",
            }
            for place, value in finite
        ],
    }


def heat(counts: NDArray[np.int64], names: Sequence[str], *, cell: float = 30.0) -> str:
    """A square matrix ``counts`` [row, column] as SVG text, each row coloured by its parts of the row's sum.

    names: of rows and columns. A row without any count stays empty. Cells say their numbers when pointed at.
    """
    sums = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    left = 30 + CHAR_PX * max((len(name) for name in names), default=1)
    above = 30 + 0.75 * CHAR_PX * max((len(name) for name in names), default=1)
    cells = [
        {
            "x": left + col * cell,
            "y": above + row * cell,
            "part": float(parts[row, col]),
            "text": _percent(parts[row, col]),
            "title": f"{names[row]} taken for {names[col]}: {parts[row, col]:.2%} ({counts[row, col]:,})",
        }
        for row, col in zip(*np.nonzero(counts), strict=True)
    ]
    places = [(above + (i + 0.5) * cell, left + (i + 0.5) * cell, name) for i, name in enumerate(names)]
    empty = [above + row * cell for row in np.flatnonzero(sums[:, 0] == 0)]
    side = cell * len(names)
    return _render(
        "heat",
        size=(above + side + 12, left + side + above * 0.8),
        left=left,
        above=above,
        side=side,
        cell=cell,
        cells=cells,
        places=places,
        empty=empty,
    )


def reliability(seen: NDArray[np.int64], right: NDArray[np.int64]) -> str:
    """How often each confidence is right, as SVG text: seen, right (101,) pixels by confidence in per cent.

    Above, the share of right pixels in each tenth of confidence beside the diagonal where it should lie; below, how
    many pixels were given that confidence.
    """
    bins, width = 10, 420
    groups = np.minimum(np.arange(101) * bins // 100, bins - 1)
    count = np.bincount(groups, weights=seen, minlength=bins)
    good = np.bincount(groups, weights=right, minlength=bins)
    said = np.bincount(groups, weights=seen * np.arange(101) / 100, minlength=bins)
    total, left = max(float(count.sum()), 1.0), 48.0
    x_axis = Axis(0.0, 1.0, left, width - RIGHT)
    y_axis = Axis(0.0, 1.0, TOP + width - RIGHT - left, TOP)
    share_axis = Axis(0.0, max(float(count.max()) / total, 1e-9), y_axis.start + 78, y_axis.start + 14)
    drawn = [
        {
            "x": x_axis(number / bins),
            "width": x_axis(1 / bins) - left,
            "said": y_axis(said[number] / count[number]),
            "right": y_axis(good[number] / count[number]),
            "share": share_axis(count[number] / total),
            "title": f"said {said[number] / count[number]:.0%}, right {good[number] / count[number]:.1%} "
            f"of {int(count[number]):,} pixels ({count[number] / total:.1%})",
        }
        for number in np.flatnonzero(count)
    ]
    return _render(
        "reliability",
        size=(share_axis.start + 42, width),
        frame={"left": left, "right": x_axis.end, "top": TOP, "bottom": y_axis.start, "foot": share_axis.start},
        x_ticks=x_axis.ticks(),
        y_ticks=y_axis.ticks(),
        bins=drawn,
        most=f"{share_axis.high:.0%}",
        share_top=share_axis.end,
    )


def standalone(svg: str) -> str:
    """A chart as a file of its own, black on white, for pages that only link to it."""
    head, rest = svg.split(">", 1)
    head = head.replace('fill="currentColor"', 'fill="#1d2733" color="#1d2733"')
    return f'{head}><rect width="100%" height="100%" fill="#ffffff"/>{rest}\n'


def _drawable(line: LineSeries, log_x: bool, log_y: bool) -> list[list[tuple[float, float]]]:
    """Runs of points that can be drawn; what cannot lies between them."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not log_x) and (y > 0 or not log_y):
            runs[-1].append((float(x), float(y)))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _legend(entries: Iterable[tuple[str, str, bool]], width: int) -> Iterator[dict[str, Any]]:
    """Names with their colours in rows of at most ``width`` px, from the left."""
    x, y = 12.0, 12.0
    for name, color, dashed in entries:
        wide = 30 + CHAR_PX * len(name)
        if x > 12 and x + wide > width:
            x, y = 12.0, y + LEGEND_ROW
        yield {"x": x, "y": y, "name": name, "color": color, "dashed": dashed, "opacity": 1.0}
        x += wide + GAP


def _color(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _paler(place: int) -> float:
    return max(0.2, 1.0 - 0.55 * place)


def _percent(part: float) -> str:
    return f"{part * 100:.0f}" if part >= 0.005 else ""


def _render(name: str, **values: Any) -> str:
    return str(getattr(templates().get_template("charts.html.j2").module, name)(**values)).strip()


@cache
def templates(package: str = "aerialseg.evaluation") -> Any:
    """The environment of the templates in a package: everything is escaped, an unknown name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader(package, ".")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["px"] = "{:.1f}".format
    return made

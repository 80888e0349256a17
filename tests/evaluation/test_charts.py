"""Charts are whole SVG that needs nothing else, and what lies in them lies where its number says."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from aerialseg.evaluation import charts
from aerialseg.evaluation.axes import round_values, text, value_range
from aerialseg.evaluation.charts import BarChart, LineSeries, Mark

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>\"x\" & 'y'</script>"


def parsed(svg: str) -> ET.Element:
    assert "<script" not in svg
    return ET.fromstring(svg)


def numbers(element: ET.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


@pytest.mark.parametrize(
    "svg",
    [
        charts.lines([LineSeries(NASTY, [1, 2], [3, 4])], NASTY, NASTY, marks=[Mark(1, NASTY)]),
        charts.bars([BarChart(NASTY, (0.5, 0.2), note=NASTY)], NASTY, keys=(NASTY, "b"), note_title=NASTY),
        charts.heat(np.array([[3, 1], [0, 0]]), [NASTY, "b"]),
        charts.reliability(np.arange(101), np.arange(101) // 2),
    ],
    ids=["lines", "bars", "heat", "reliability"],
)
def test_a_chart_is_well_formed_whatever_its_words(svg: str) -> None:
    root = parsed(svg)
    assert root.tag == f"{SVG}svg"
    assert not [e for e in root.iter() if any(name.endswith(("href", "src")) for name in e.attrib)]


@pytest.mark.parametrize(
    "svg", [charts.lines([], "a", "b"), charts.bars([], "a"), charts.reliability(*np.zeros((2, 101)))]
)
def test_nothing_to_draw_is_drawn_too(svg: str) -> None:
    parsed(svg)


def test_a_line_is_broken_where_it_has_no_value() -> None:
    root = parsed(charts.lines([LineSeries("a", range(6), [1, 2, math.nan, 4, math.inf, 6])], "x", "y"))
    runs = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    assert [len(run) for run in runs] == [2, 1, 1]


def test_a_logarithmic_axis_leaves_out_what_has_no_logarithm_and_spaces_decades_evenly() -> None:
    root = parsed(charts.lines([LineSeries("a", [0, 0.001, 0.01, 0.1, 1], [9, 1, 1, 1, 1])], "x", "y", log_x=True))
    at = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    assert len(at) == 4
    assert np.diff(at) == pytest.approx([at[1] - at[0]] * 3, abs=0.2)


def test_bars_are_as_long_as_their_values_and_a_missing_value_has_none() -> None:
    rows = [BarChart("a", (1.0, 0.25)), BarChart("b", (math.nan, 0.5))]
    widths = [numbers(bar, "width")[0] for bar in parsed(charts.bars(rows, "x")).iter(f"{SVG}rect")]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 0.25, 0.5], abs=0.01)


def test_a_cell_is_as_dark_as_its_part_of_the_row() -> None:
    counts = np.array([[9, 1, 0], [0, 0, 0], [2, 0, 2]])
    cells = [group[1] for group in parsed(charts.heat(counts, "abc")).iter(f"{SVG}g")]
    assert [numbers(cell, "fill-opacity")[0] for cell in cells] == [0.9, 0.1, 0.5, 0.5]


def test_a_heat_map_of_24_classes_has_room_for_each_number() -> None:
    root = parsed(charts.heat(np.eye(24, dtype=np.int64) * 7, [f"class-{i}" for i in range(24)]))
    cells = [group[1] for group in root.iter(f"{SVG}g")]
    assert len(cells) == 24
    assert min(numbers(cell, "width")[0] for cell in cells) >= 22


def test_reliability_bars_end_at_the_share_that_was_right() -> None:
    seen, right = np.zeros(101, np.int64), np.zeros(101, np.int64)
    seen[[25, 95]], right[[25, 95]] = (100, 300), (50, 300)
    groups = list(parsed(charts.reliability(seen, right)).iter(f"{SVG}g"))
    heights = [numbers(group[1], "height")[0] for group in groups]
    assert heights[0] / heights[1] == pytest.approx(0.5, abs=0.01)
    assert "right 50.0% of 100 pixels (25.0%)" in (groups[0][0].text or "")


@pytest.mark.parametrize(
    ("low", "high", "log", "wanted"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 27, False, [5, 10, 15, 20, 25]),
        (1e-5, 1e-2, True, [1e-5, 1e-4, 1e-3, 1e-2]),
        (0.0002, 0.0012, True, [0.0002, 0.0005, 0.001]),
    ],
)
def test_ticks_are_round(low: float, high: float, log: bool, wanted: list[float]) -> None:
    assert round_values(low, high, log=log) == pytest.approx(wanted)


def test_a_range_is_never_empty() -> None:
    for values in ([], [0.0], [5.0, 5.0]):
        low, high = value_range(values, log=False, margin=0.05)
        assert high > low
    assert value_range([3.0], log=True, margin=0.0) == (1.5, 6.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.25, "0.25"), (0, "0"), (3e-5, "3e-05"), (12_000, "12,000"), (1234.5, "1,234"), (2.5e7, "2.5e+07")],
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert text(value) == said

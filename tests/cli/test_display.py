"""What people read while it runs and when it is done."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from aerialseg.cli import display as console
from aerialseg.mapping.result import ClassShare
from aerialseg.mapping.segment import segment
from aerialseg.progress import counted, spoken_bytes, spoken_duration
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0.0 s"), (4.21, "4.2 s"), (59.4, "59 s"), (60, "1 min 00 s"), (185, "3 min 05 s"), (7_800, "2 h 10 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert spoken_duration(seconds) == said


@pytest.mark.parametrize(("size", "said"), [(10, "1 MB"), (12_300_000, "12 MB"), (3_400_000_000, "3.4 GB")])
def test_sizes_are_said_as_people_say_them(size: int, said: str) -> None:
    assert spoken_bytes(size) == said


@pytest.mark.parametrize(
    ("number", "noun", "said"), [(0, "frame", "0 frames"), (1, "class", "1 class"), (2000, "class", "2,000 classes")]
)
def test_numbers_are_spoken_with_their_nouns(number: int, noun: str, said: str) -> None:
    assert counted(number, noun) == said


def test_a_log_file_gets_plain_lines_with_an_estimate_from_this_runs_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    lines = console.ProgressLines()
    lines.stage("blocks", 1000)
    for _ in range(4):
        now[0] += 6
        lines.advance(100)
    captured = capsys.readouterr()
    assert captured.out == ""
    texts = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in captured.err.splitlines()]
    assert texts == ["Classifying", "Classifying: 20%, about 48 s left", "Classifying: 40%, about 36 s left"]


def test_a_terminal_gets_bars_that_end_full() -> None:
    file = io.StringIO()
    terminal = Console(file=file, force_terminal=True, width=100, highlight=False)
    with console.ProgressBars(terminal) as bars:
        bars.note("2.5 cm per pixel, used as it is [not markup]")
        bars.stage("blocks", 10)
        bars.advance(3)
        bars.stage("polygons", 1)
    shown = file.getvalue()
    assert "[not markup]" in shown
    assert "Classifying" in shown
    assert shown.count("100%") >= 2


def test_the_table_adds_up(tmp_path: Path, write_raster: WriteRaster, capsys: pytest.CaptureFixture[str]) -> None:
    result = segment(write_raster(land_cover(100, 100)), tmp_path / "map.gpkg", model=Oracle())
    console.show_result(result)
    captured = capsys.readouterr()
    assert captured.out == ""
    shares = [float(share) for share in re.findall(r"(\d+\.\d)%", captured.err)]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert "polygons over 100.0 m² in" in captured.err
    assert "classifying" in captured.err


def test_the_areas_of_a_table_have_one_unit() -> None:
    lines = [ClassShare(one, "", "#000000", 1, area, 0.5) for one, area in enumerate((30_000.0, 250.0))]
    assert [console._area([line], lines) for line in lines] == ["3.000 ha", "0.025 ha"]
    assert console._area(lines[1:], lines[1:]) == "250.0 m²"


def test_the_timeline_has_a_line_for_each_stage(
    tmp_path: Path, write_raster: WriteRaster, capsys: pytest.CaptureFixture[str]
) -> None:
    result = segment(write_raster(land_cover(100, 100)), tmp_path / "map.gpkg", model=Oracle())
    console.show_timeline(result.timeline)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line.strip() for line in captured.err.splitlines() if line.strip()]
    named = [next(name for name in console.TIMES.values() if line.startswith(name.strip())) for line in lines[2:]]
    assert named == [console.TIMES[line.stage] for line in result.timeline]
    assert all(line.endswith("%") for line in lines[2:])


def test_warnings_of_the_library_are_said_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress() as listener:
        listener.note("first")
        logging.getLogger("aerialseg.raster.view").warning("no %s", "place")
        logging.getLogger("aerialseg").info("not said")
    assert [line[9:] for line in capsys.readouterr().err.splitlines()] == ["first", "warning: no place"]


def test_quiet_keeps_warnings_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(quiet=True):
        logging.getLogger("aerialseg.raster.view").warning("no place")
    assert capsys.readouterr().err == ""

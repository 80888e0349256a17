"""--json-progress: every line on stderr is a JSON object of docs/json-progress.md, whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerialseg.cli import json_progress
from aerialseg.cli.json_progress import JsonLines
from tests.cli.test_cli import SCRIPTS, run
from tests.conftest import WriteRaster, land_cover
from tests.faults.test_signals import await_handler

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "stage": ["stage"],
    "progress": ["stage", "fraction", "seconds_left"],
    "note": ["message"],
    "warning": ["message"],
    "done": ["paths"],
    "error": ["code", "message"],
}


def events(text: str) -> list[dict[str, Any]]:
    """The events of what stood on stderr: each line is one, the last one, and only that, is the end."""
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        more = {"plan", "traceback"} & one.keys()
        assert [name for name in one if name not in more] == ["event", *KEYS[one["event"]]]
        assert 0 <= one.get("fraction", 0) <= 1
        assert one.get("seconds_left", 0) >= 0
    assert [one["event"] in ("done", "error") for one in found] == [False] * (len(found) - 1) + [True]
    return found


@pytest.fixture
def small(write_raster: WriteRaster) -> Path:
    return write_raster(land_cover(64, 64) * 20)


@pytest.mark.slow
def test_a_run_that_succeeds(tmp_path: Path, small: Path) -> None:
    done = run(small, tmp_path / "map.gpkg", "--resolution", "native", "--json-progress", "--timeline")
    found = events(done.stderr)
    assert done.returncode == 0
    assert [one["stage"] for one in found if one["event"] == "stage"][:2] == ["blocks", "polygons"]
    assert found[-1]["paths"] == done.stdout.splitlines() == [str(tmp_path / "map.gpkg")]


@pytest.mark.slow
def test_a_dry_run(tmp_path: Path, small: Path) -> None:
    done = run(small, tmp_path / "map.gpkg", "--resolution", "native", "--json-progress", "--dry-run")
    last = events(done.stderr)[-1]
    assert last["paths"] == []
    assert (last["plan"]["sources"], last["plan"]["blocks_to_compute"]) == (1, 1)
    assert last["plan"]["outputs"] == [str(tmp_path / "map.gpkg")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.tif", "map.gpkg"], 3, "nowhere.tif"),
        (["map.gpkg"], 2, "Missing argument"),
        (["{small}", "map.gpkg", "--resolution", "fine"], 2, "metres per pixel"),
        (["{small}", "map.gpkg", "--debug", "--model", "no-such-model"], 4, "no-such-model"),
    ],
)
@pytest.mark.parametrize("program", [["segment-raster"], ["aerialseg", "segment"]])
def test_a_run_that_fails(
    tmp_path: Path, small: Path, program: list[str], arguments: list[str], code: int, message: str
) -> None:
    given = [*program[1:], *(word.format(small=small) for word in arguments), "--json-progress"]
    done = run(*given, program=program[0], cwd=tmp_path)
    last = events(done.stderr)[-1]
    assert (done.returncode, last["code"], done.stdout) == (code, code, "")
    assert message in last["message"]
    assert not last["message"].startswith("error")
    assert ("traceback" in last) == ("--debug" in arguments)


@pytest.mark.slow
def test_warnings_and_polygonize(tmp_path: Path, write_raster: WriteRaster) -> None:
    classes = write_raster(np.ones((1, 64, 64), np.uint8), crs=None)
    done = run("polygonize", classes, tmp_path / "map.gpkg", "--json-progress", program="aerialseg")
    found = events(done.stderr)
    assert [one["message"][:33] for one in found if one["event"] == "warning"] == [
        "the raster has no coordinate syste"[:33]
    ]
    assert [one["stage"] for one in found if one["event"] == "stage"] == ["polygons"]
    assert found[-1]["paths"] == [str(tmp_path / "map.gpkg")]


@pytest.mark.slow
@pytest.mark.parametrize("wanted", ["blocks", ""], ids=["at work", "at the very start"])
def test_a_run_that_is_interrupted(tmp_path: Path, write_raster: WriteRaster, wanted: str) -> None:
    source = write_raster(land_cover(1500, 1500) * 20)
    command = [
        SCRIPTS / "segment-raster",
        source,
        tmp_path / "map.gpkg",
        "--resolution",
        "native",
        "--tta",
        "--json-progress",
    ]
    process = subprocess.Popen(
        [str(word) for word in command],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    lines = []
    if wanted:
        for line in process.stderr:
            lines.append(line)
            if json.loads(line).get("stage") == wanted:
                break
    else:
        await_handler(process)
    process.send_signal(signal.SIGINT)
    lines += process.communicate(timeout=30)[1].splitlines()
    last = events("\n".join(line.strip() for line in lines))[-1]
    assert (process.returncode, last["code"]) == (130, 130)
    assert last["message"].startswith("interrupted")


def test_what_libraries_write_to_stderr_is_dropped() -> None:
    code = """
import os, sys, warnings
from aerialseg.cli.json_progress import json_lines
with json_lines(True) as lines:
    print("text", file=sys.stderr)
    warnings.warn("a warning")
    os.write(2, b"from C")
    os.system("echo from a child >&2")
    lines.note("warning: x \\u00b2 \\udcff")
    lines.done([])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert [one["event"] for one in events(done.stderr)] == ["warning", "done"]


def test_a_closed_stderr_undoes_nothing() -> None:
    code = "from aerialseg.cli.json_progress import json_lines\nwith json_lines(True) as lines:\n    lines.done([])"
    closed = subprocess.run(f"exec {sys.executable} - 2>&-", shell=True, input=code, text=True, cwd=ROOT)
    assert closed.returncode == 0


def test_nothing_follows_the_end_and_threads_do_not_tear_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_progress, "EVERY_S", 0.0)
    path = tmp_path / "lines"
    with open(path, "w", encoding="ascii") as stream:
        lines = JsonLines(stream)
        lines.stage("blocks", 400)
        threads = [threading.Thread(target=lambda: [lines.advance(1) for _ in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines.failed("error: full", 5)
        lines.advance(1)
        lines.done([])
    found = events(path.read_text())
    assert len(found) == 401  # the stage, each advance but the last, the error
    assert found[-1] == {"event": "error", "code": 5, "message": "full"}


def test_the_document_names_every_event_and_key() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (ROOT / "docs" / "json-progress.md").read_text("utf-8"), re.M)
    documented = {event: re.findall(r"`(\w+)`", keys.partition(";")[0]) for event, keys in rows}
    assert documented == KEYS


@pytest.mark.slow
def test_the_other_commands_of_the_plugin_say_it_in_the_same_way(tmp_path: Path) -> None:
    scene, areas, report = tmp_path / "scene", tmp_path / "areas.csv", tmp_path / "report"
    done = run("demo", scene, "--size", "300,200", "--json-progress", program="aerialseg")
    assert events(done.stderr)[-1]["paths"] == done.stdout.splitlines()
    ortho, truth = scene / "ortho.tif", scene / "truth.tif"
    run("polygonize", truth, tmp_path / "truth.gpkg", "-q", program="aerialseg")
    zones = tmp_path / "truth.gpkg"
    done = run("areas", zones, zones, "--by", "class_name", "--out", areas, "--json-progress", program="aerialseg")
    found = events(done.stderr)
    assert [one["stage"] for one in found if one["event"] == "stage"] == ["zones"]
    assert found[-1]["paths"] == done.stdout.splitlines() == [str(areas)]
    done = run("accuracy", truth, truth, "--out", report, "--json-progress", program="aerialseg")
    found = events(done.stderr)
    assert any("pixel accuracy          1.0000" in one["message"] for one in found if one["event"] == "note")
    assert str(report / "report.html") in found[-1]["paths"]
    for wrong in (["areas", ortho], ["accuracy", ortho, "nowhere.tif"], ["teach", ortho, "--out", tmp_path / "m"]):
        done = run(*wrong, "--json-progress", program="aerialseg")
        last = events(done.stderr)[-1]
        assert done.returncode == last["code"] > 1, wrong
    assert not (tmp_path / "m").exists()

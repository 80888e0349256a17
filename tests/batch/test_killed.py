"""The command in a process of its own: killed at any moment, told to stop, looked at while it runs."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aerialseg.batch.ledger import LEDGER
from aerialseg.batch.status import status_of
from tests.batch.conftest import draw
from tests.conftest import land_cover

pytestmark = pytest.mark.slow

AERIALSEG = str(Path(sys.executable).parent / "aerialseg")
JOB = """
[inputs]
glob = "../in/*.tif"
[model]
path = "../model"
[outputs]
layer = "out/{stem}.gpkg"
raster = "out/{stem}.tif"
confidence = "out/{stem}-confidence.tif"
[settings]
device = "cpu"
resolution = "native"
min-area = 0.05
[run]
rasters = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five rasters, one of them of several blocks, and a small network that was never trained."""
    from aerialseg.model.store import save
    from tests.model.nets import card, lively_network

    path = tmp_path_factory.mktemp("killed")
    network = lively_network()
    save(path / "model", card(network), network.state_dict())
    draw(path / "in" / "wide.tif", land_cover(160, 4500, cell=40) * 30)
    for number in range(4):
        draw(path / "in" / f"t{number}.tif", land_cover(200, 200, seed=number) * 30)
    return path


def job_in(place: Path, name: str, text: str = JOB) -> Path:
    folder = place / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "night.toml").write_text(text)
    return folder


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    command = [AERIALSEG, "batch", "night.toml", *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path) -> str:
    process = start(folder)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def products(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


@pytest.fixture(scope="module")
def clean(place: Path) -> tuple[dict[str, bytes], float]:
    """What an uninterrupted run makes, and how long that takes."""
    finish(job_in(place, "warm"))
    folder = job_in(place, "night")
    began = time.monotonic()
    finish(folder)
    took = time.monotonic() - began
    made = products(folder)
    assert len(made) == 5 * 5
    return made, took


@pytest.mark.long
@pytest.mark.timeout(900)
def test_row_22_the_batch_command_killed_with_a_real_network_gives_the_result_of_a_clean_run(
    place: Path, clean: tuple[dict[str, bytes], float]
) -> None:
    wanted, took = clean
    chance = random.Random(6)
    killed = 0
    while killed < 6:
        folder = job_in(place, "night")
        while killed < 6:
            process = start(folder)
            try:
                process.communicate(timeout=chance.uniform(0.3, 1.1) * took)
                break  # it came to its end first: the next one starts from nothing
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                killed += 1
        finish(folder)
        assert products(folder) == wanted
        assert list((folder / "night.job" / "runs").iterdir()) == []
        assert not [path.name for path in (folder / "out").iterdir() if "part" in path.name]


def await_that(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_row_22_told_to_stop_batch_writes_the_report_and_resumes_next_time(
    place: Path, clean: tuple[dict[str, bytes], float]
) -> None:
    folder = job_in(place, "night")
    process = start(folder, "--json-log", "log.jsonl")
    await_that(lambda: "begun" in (folder / "log.jsonl").read_text() if (folder / "log.jsonl").exists() else False)
    found = status_of(folder / "night.job")
    assert (found.state, found.owner["pid"]) == ("running", process.pid)
    process.send_signal(signal.SIGTERM)
    paths, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    report = json.loads(Path(paths.splitlines()[0]).read_text())
    assert report["exit_code"] == 130
    assert report["totals"]["inputs"]["not finished"] >= 1
    assert "Stopped before its end" in Path(paths.splitlines()[1]).read_text()
    assert status_of(folder / "night.job").state == "finished"
    finish(folder)
    assert products(folder) == clean[0]


def test_row_23_a_second_batch_is_told_that_the_folder_is_in_use(place: Path) -> None:
    folder = job_in(place, "night")
    process = start(folder)
    await_that((folder / "night.job" / LEDGER).exists)
    second = start(folder)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 5
    assert f"is in use by process {process.pid}" in said
    process.communicate(timeout=240)
    assert process.returncode == 0


def test_the_exit_code_tells_of_a_broken_input_and_stdout_names_the_report(place: Path) -> None:
    folder = job_in(place, "broken", JOB.replace("../in/*.tif", "in/*.tif"))
    (folder / "in").mkdir()
    (folder / "in/bad.tif").write_text("<html>")
    process = start(folder)
    paths, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "it is an HTML page" in said
    assert [Path(line).suffix for line in paths.splitlines()] == [".json", ".html"]
    with sqlite3.connect(folder / "night.job" / LEDGER) as base:
        assert base.execute("SELECT exit_code FROM runs").fetchall() == [(1,)]
    base.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (JOB.replace("[inputs]", "[input]"), 2),
        (JOB.replace("../in", "../nowhere"), 3),
        (JOB.replace("../model", "../nomodel"), 4),
    ],
)
def test_other_errors_have_their_exit_codes(place: Path, text: str, code: int) -> None:
    process = start(job_in(place, "wrong", text))
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.splitlines()[-1].startswith("error: ")
    assert len(said.splitlines()) == 2  # the first line, and the error

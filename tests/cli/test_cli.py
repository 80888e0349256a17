"""The commands as a shell sees them: stdout, stderr, exit codes. The embedded model does the work."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pytest
from click.testing import CliRunner

from aerialseg.cli import cli
from aerialseg.cli.segment_command import segment_command
from aerialseg.model.folders import model_dir
from tests.conftest import WriteRaster, land_cover

Done = subprocess.CompletedProcess[str]
SCRIPTS = Path(sys.executable).parent


def run(
    *arguments: object, program: str = "segment-raster", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPTS / program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=250)


def here(*arguments: object) -> Done:
    """The same in this process, which has everything imported already: a process of its own costs a second."""
    done = CliRunner().invoke(segment_command, [*map(str, arguments)], prog_name="segment-raster")
    return Done(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def small(write_raster: WriteRaster) -> Path:
    return write_raster(land_cover(64, 64) * 20)


def test_stdout_holds_the_paths_made_and_nothing_else(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = here(small, "map.gpkg", "--raster", "classes.tif", "--resolution", "native")
    assert done.returncode == 0, done.stderr
    assert capfd.readouterr() == ("", ""), "what GDAL and torch say past Python"
    assert done.stdout.splitlines() == [str(tmp_path / "map.gpkg"), str(tmp_path / "classes.tif")]
    assert "Classifying" in done.stderr
    assert "\x1b" not in done.stderr, "colour codes in what is not a terminal"
    assert "%" in done.stderr
    assert len(geopandas.read_file(tmp_path / "map.gpkg", layer="landcover")) > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classes.tif",
        "classes.tif.aux.xml",
        "map.gpkg",
        "ortho.tif",
    ]


@pytest.mark.slow
def test_quiet_says_nothing_but_the_paths(tmp_path: Path, small: Path) -> None:
    done = run(small, tmp_path / "map.gpkg", "--resolution", "native", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'map.gpkg'}\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("program", ["segment-raster", "aerialseg"])
def test_help_answers_at_once(program: str) -> None:
    best = min(_child_seconds(lambda: run("--help", program=program)) for _ in range(2))
    assert best < 0.5


@pytest.mark.parametrize("group", [[], ["model"]])
def test_no_summary_of_a_command_is_cut(group: list[str]) -> None:
    assert "..." not in CliRunner().invoke(cli, [*group, "--help"]).stdout.partition("--help")[2]


def test_help_lists_each_command_once_with_the_first_line_of_its_help() -> None:
    lines = CliRunner().invoke(cli, ["--help"], terminal_width=100).stdout.splitlines()
    for name, command in cli.commands.items():
        first = (command.help or "").strip().splitlines()[0]
        assert [line.split(maxsplit=1)[1] for line in lines if line.startswith(f"  {name} ")] == [first]


def _child_seconds(action: Callable[[], object]) -> float:
    """Of a core, not of the clock, which counts whatever else the machine does."""
    before = os.times()
    action()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_the_same_command_stands_under_aerialseg() -> None:
    one, other = run("--help").stdout, run("segment", "--help", program="aerialseg").stdout
    assert one.split("\n", 1)[1] == other.split("\n", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Missing argument"),
        (["{ortho}"], 2, "Missing argument"),
        (["{ortho}", "map.gpkg", "--bands", "red"], 2, "wanted 1,2,3"),
        (["{ortho}", "map.gpkg", "--resolution", "fine"], 2, "metres per pixel"),
        (["{ortho}", "map.gpkg", "--resolution", "-1"], 2, "metres per pixel"),
        (["{ortho}", "map.gpkg", "--min-area", "-1"], 2, "wanted 0 or more"),
        (["{ortho}", "map.gpkg", "--max-pixels", "nan"], 2, "1 or more"),
        (["{ortho}", "map.gpkg", "--max-pixels", "0"], 2, "1 or more"),
        (["{ortho}", "map.shp"], 2, "must end in .gpkg"),
        (["{ortho}", "{ortho}", "--overwrite"], 2, "must end in .gpkg"),
        (["{ortho}", "map.gpkg", "--raster", "{ortho}", "--overwrite"], 2, "is the input itself"),
        (["nowhere.tif", "map.gpkg"], 3, "nowhere.tif"),
        (["nowhere/*.tif", "map.gpkg"], 3, "no file matches"),
        (["{ortho}", "map.gpkg", "--bands", "1,2,9"], 3, "band 9"),
        (["{ortho}", "map.gpkg", "--max-pixels", "100"], 3, "--max-pixels"),
        (["{ortho}", "map.gpkg", "--model", "no-such-model"], 4, "no-such-model"),
        (["{ortho}", "nowhere/map.gpkg"], 5, "does not exist"),
        (["{ortho}", "map.gpkg", "--aoi", "-9,-9,-8,-8"], 3, "do not overlap"),
        (["{ortho}", "map.gpkg", "--aoi", "4,3,2,1"], 2, "XMIN,YMIN,XMAX,YMAX"),
        (["{ortho}", "map.gpkg", "--aoi", "none.gpkg"], 3, "none.gpkg"),
        pytest.param(
            ["{ortho}", "map.gpkg", "--device", "cuda"], 6, "CUDA",
            marks=pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="a GPU is here"),
        ),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line_and_the_right_exit_code(
    tmp_path: Path,
    small: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = here(*(argument.format(ortho=small) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert capfd.readouterr() == ("", ""), "what GDAL and torch say past Python"
    if code != 2:
        assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ortho.tif"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["map.gpkg"], 2), (["nowhere.tif", "map.gpkg"], 3), (["ortho.tif", "map.gpkg", "--model", "no-such-model"], 4)],
)
def test_a_process_that_fails_ends_as_the_command_does(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    done, told = run(*arguments), here(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    ended, said = (re.sub(r"^\d\d:\d\d:\d\d ", "", one.stderr, flags=re.M) for one in (done, told))
    assert ended == said


def test_a_removed_command_says_what_to_do_instead() -> None:
    done = CliRunner().invoke(cli, ["distil", "a.toml", "--data", "data"])
    assert done.exit_code == 2
    assert "train --teacher" in done.stderr


@pytest.mark.slow
def test_debug_shows_the_traceback_and_changes_nothing_else(tmp_path: Path) -> None:
    done = run("nowhere.tif", tmp_path / "map.gpkg", "--debug")
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert done.returncode == 3


@pytest.mark.slow
def test_a_reader_that_goes_away_undoes_nothing(tmp_path: Path, small: Path) -> None:
    command = f"{SCRIPTS / 'segment-raster'} {small} {tmp_path / 'map.gpkg'} --resolution native"
    piped = ["bash", "-c", f"set -o pipefail; {command} | true"]
    assert subprocess.run(piped, capture_output=True, timeout=250).returncode == 0
    assert (tmp_path / "map.gpkg").exists()
    deaf = ["bash", "-c", f"{command} --overwrite 2> >(true)"]
    assert subprocess.run(deaf, stdout=subprocess.PIPE, timeout=250).returncode == 0


@pytest.mark.slow
def test_an_existing_output_stays_without_overwrite_and_goes_with_it(tmp_path: Path, small: Path) -> None:
    output = tmp_path / "map.fgb"
    output.write_bytes(b"old")
    assert run(small, output).returncode == 2
    assert output.read_bytes() == b"old"
    assert run(small, output, "--resolution", "native", "--overwrite", "-q").returncode == 0
    assert output.read_bytes() != b"old"


@pytest.mark.slow
def test_names_with_blanks_and_umlauts_work(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(40, 40) * 20, name="Über sicht\n2026.tif")
    done = run(source.name, "Land bedeckung ß.gpkg", "--resolution", "native", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run("--resolution", "native", "-q", "--", source.name, "-dash.gpkg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_stops_within_five_seconds_and_says_130(
    tmp_path: Path, write_raster: WriteRaster, kind: signal.Signals
) -> None:
    source = write_raster(np.tile(land_cover(512, 512) * 20, (1, 4, 4)))
    command = [str(SCRIPTS / "segment-raster"), str(source), str(tmp_path / "map.gpkg"), "--resolution", "native"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what a shell starts behind & ignores it
    )
    assert process.stderr is not None
    while "Classifying" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1.0)
    process.send_signal(kind)
    start = time.monotonic()
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - start < 5
    assert f"interrupted; what is done is kept in {tmp_path / 'map.gpkg.run'}" in rest
    assert not (tmp_path / "map.gpkg").exists()


def broken_model(tmp_path: Path, how: str) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(model_dir(None), folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    weights = folder / "weights.safetensors"
    if how == "truncated":
        with open(weights, "r+b") as file:
            file.truncate(weights.stat().st_size // 2)
    elif how == "other bytes":
        with open(weights, "r+b") as file:
            file.seek(weights.stat().st_size // 2)
            file.write(b"\xff" * 64)
    elif how == "no card":
        (folder / "card.json").unlink()
    elif how == "no weights":
        weights.unlink()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", ["truncated", "other bytes", "no card", "no weights"])
def test_row_18_a_broken_model_is_found_before_the_output_is_touched(tmp_path: Path, small: Path, how: str) -> None:
    output = tmp_path / "map.fgb"
    output.write_bytes(b"old")
    done = run(small, output, "--overwrite", "--model", broken_model(tmp_path, how))
    assert done.returncode == 4, done.stderr
    assert output.read_bytes() == b"old"
    assert not (tmp_path / "map.fgb.run").exists()


@pytest.mark.long
@pytest.mark.slow
def test_row_22_killed_and_run_again_the_command_gives_the_result_of_a_clean_run(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source = write_raster(land_cover(256, 2100, cell=40) * 20)
    names = ("map.gpkg", "--raster", "classes.tif", "--confidence", "conf.tif", "--resolution", "native", "-q")
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    for folder in (clean, killed):
        folder.mkdir()
    assert run(source, *names, cwd=clean).returncode == 0
    process = subprocess.Popen([str(SCRIPTS / "segment-raster"), str(source), *names], cwd=killed)
    while not list(killed.glob("map.gpkg.run/blocks/*.tif")):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert [path.name for path in killed.iterdir() if path.suffix != ".lock"] == ["map.gpkg.run"]
    done = run(source, *names[:-1], cwd=killed)
    assert done.returncode == 0, done.stderr
    assert "resuming: 1 of 2 blocks are done" in done.stderr
    one, other = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (clean, killed))
    assert one == other

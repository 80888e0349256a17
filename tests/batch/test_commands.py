"""The commands around a job: what they print, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from aerialseg.cli import cli
from tests.batch.conftest import Folder, cut_in_half


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def done(folder: Folder) -> Folder:
    cut_in_half(folder.path / "in/b.tif")
    folder.run()
    return folder


def test_status_answers_on_stdout_for_people_and_machines(done: Folder) -> None:
    said = run("status", done.path / "night.job")
    assert (said.exit_code, said.stderr) == (0, "")
    assert "run 1 finished" in said.stdout
    assert "2 done, 1 failed" in said.stdout
    assert "failed b.tif: " in said.stdout
    values = json.loads(run("status", done.path / "night.job", "--json").stdout)
    assert (values["exit_code"], values["counts"]["failed"]) == (1, 1)


def test_status_takes_the_job_file_as_well(done: Folder) -> None:
    (done.path / "night.toml").write_text('[inputs]\nglob = "in/*.tif"\n[outputs]\nlayer = "{stem}.gpkg"\n')
    assert run("status", done.path / "night.toml").stdout == run("status", done.path / "night.job").stdout


def test_collect_prints_the_paths_that_it_made(done: Folder) -> None:
    path = done.path / "all.vrt"
    said = run("collect", done.path / "night.job", "--mosaic", path)
    assert (said.exit_code, said.stdout) == (0, f"{path}\n")
    again = run("collect", done.path / "night.job", "--mosaic", path)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "add --overwrite" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("status", "nowhere"), 3, "is no job's folder"),
        (("collect", "nowhere", "--layer", "x.gpkg"), 3, "is no job's folder"),
        (("batch", "nowhere.toml"), 3, "cannot read the job file"),
        (("batch", "nowhere.toml", "--dry-run"), 3, "cannot read the job file"),
    ],
)
def test_errors_are_one_line_with_their_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    first = re.match(r"\d\d:\d\d:\d\d Reading .*\n", done.stderr)  # on the screen before anything is imported
    assert len(done.stderr[first.end() if first else 0 :].splitlines()) == 1


def test_a_dry_run_ends_as_the_run_would_where_every_input_fails(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_text("<html>")
    job = tmp_path / "job.toml"
    job.write_text('[inputs]\nglob = "*.tif"\n\n[outputs]\nlayer = "{stem}.gpkg"\n')
    done = run("batch", job, "--dry-run")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "0 of 1 input to compute: 0.0 Mpx, 1 would fail"

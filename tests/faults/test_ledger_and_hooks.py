"""Faults 33 and 34: a damaged ledger says so and takes nothing with it; hooks cannot harm a job that is finished."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from aerialseg.batch import hooks
from aerialseg.batch.collect import Wanted, collect
from aerialseg.batch.events import Events
from aerialseg.batch.ledger import LEDGER
from aerialseg.batch.status import status_of
from aerialseg.cli import cli
from aerialseg.errors import OutputError
from tests.batch.conftest import Folder, Told, folder, told

__all__ = ["folder", "told"]


def sql(*commands: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        base = sqlite3.connect(path)
        for command in commands:
            base.execute(command)
        base.commit()
        base.close()

    return damage


def pages(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "no database": lambda path: path.write_bytes(b"<html>" * 1000) and None,
    "pages": pages,
    "cut": lambda path: os.truncate(path, 5000),
    "json": sql("UPDATE inputs SET outputs = '{\"layer\": '"),
    "json of another type": sql("UPDATE inputs SET outputs = '[1, 2]'"),
    "json of other values": sql("UPDATE inputs SET outputs = '{\"raster\": 5}'"),
    "deep json": sql("UPDATE inputs SET outputs = '" + "[" * 100_000 + "'"),
    "bytes": sql("UPDATE inputs SET name = CAST(x'ff' AS TEXT)"),
    "column": sql("ALTER TABLE inputs DROP COLUMN attempts"),
    "type": sql("UPDATE inputs SET ended = 'yesterday'"),
    "null": sql("UPDATE inputs SET error = NULL"),
    "table": sql("DROP TABLE inputs", "CREATE TABLE inputs (a)"),
    "run": sql("UPDATE runs SET began = 'now'"),
    "other database": lambda path: path.unlink() or sql("CREATE TABLE runs (a)")(path),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.batch.conftest import SIDE, draw
    from tests.conftest import land_cover

    path = tmp_path_factory.mktemp("finished")
    draw(path / "in" / "a.tif", land_cover(SIDE, SIDE))
    assert Folder(path).run().exit_code == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_row_33_a_damaged_ledger_says_what_to_delete_and_what_that_costs(
    finished: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = Folder(shutil.copytree(finished, tmp_path / "job"))
    ledger = folder.path / "night.job" / LEDGER
    damage(ledger)
    outputs = {path: path.read_bytes() for path in (folder.path / "out").iterdir()}
    tried: list[Callable[[], object]] = [folder.run, lambda: status_of(ledger.parent)]
    tried.append(lambda: collect(ledger.parent, Wanted(layer=tmp_path / "all.gpkg")))
    if damage is DAMAGES["run"]:  # only status asks when a run began
        tried = tried[1:2]
    for command in tried:
        with pytest.raises(OutputError) as error:
            command()
        said = f"the ledger {ledger} is damaged ("
        assert str(error.value).startswith(said)
        assert str(error.value).endswith(
            "): delete it to start anew; finished outputs stay, but the next run computes every input again"
        )
    assert {path: path.read_bytes() for path in (folder.path / "out").iterdir()} == outputs
    ledger.unlink()
    assert folder.run().exit_code == 0


def test_row_33_the_commands_end_with_5_and_one_line(finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "job") / "night.job"
    (folder / LEDGER).write_bytes(b"no database" * 1000)
    for command in (["status", str(folder)], ["collect", str(folder), "--layer", str(tmp_path / "all.gpkg")]):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 5
        assert len(done.stderr.splitlines()) == 1


def run_hook(folder: Folder, told: tuple[Events, Told], code: str, timeout_s: float = 30) -> str:
    """What is said of a hook of Python code, after a run that ends well."""
    events, lines = told
    (folder.path / "hook.py").write_text(f"import os, subprocess, sys, time\n{code}\n")
    summary = folder.run(hooks={"after": f"{sys.executable} hook.py", "timeout_s": timeout_s}, events=events)
    assert summary.exit_code == 0
    assert {entry.status for entry in folder.entries().values()} == {"done"}
    return next(line for line in lines if "the hook" in line)


def test_row_34_a_hook_that_writes_binary_is_read_with_replacement(folder: Folder, told: tuple[Events, Told]) -> None:
    said = run_hook(folder, told, r"sys.stdout.buffer.write(b'bad \xff\xfe' + bytes(range(128, 256))); sys.exit(3)")
    assert "exit code 3 : bad \N{REPLACEMENT CHARACTER}" in said


@pytest.mark.slow
def test_row_34_a_hook_that_writes_without_end_is_bounded_in_memory_and_in_time(
    folder: Folder, told: tuple[Events, Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    keep = hooks._keep_end
    monkeypatch.setattr(hooks, "_keep_end", lambda pipe, said: (kept.append(said), keep(pipe, said)))
    said = run_hook(folder, told, "while True: os.write(1, b'x' * 65536)", timeout_s=1)
    assert said.endswith("did not end within 1 s")
    assert len(kept[0]) == 1 << 20


@pytest.mark.slow
def test_row_34_what_a_hook_leaves_behind_ends_with_its_time(folder: Folder, told: tuple[Events, Told]) -> None:
    began = time.monotonic()
    code = "child = subprocess.Popen(['sleep', '60']); open('pid', 'w').write(str(child.pid))"
    said = run_hook(folder, told, code, timeout_s=1)
    assert said.endswith("left processes that did not end within 1 s")
    assert time.monotonic() - began < 20
    assert has_ended(int((folder.path / "pid").read_text()))


@pytest.mark.slow
def test_row_34_the_children_of_a_hook_end_with_it_when_its_time_is_over(
    folder: Folder, told: tuple[Events, Told]
) -> None:
    code = "child = subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3)\nopen('pid', 'w').write(str(child.pid))"
    assert "did not end within" in run_hook(folder, told, code + "\ntime.sleep(60)", timeout_s=1)
    assert has_ended(int((folder.path / "pid").read_text()))


def has_ended(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False

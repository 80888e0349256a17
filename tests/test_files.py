"""Files appear at their names complete or not at all; a lock is one process's, and goes when that process dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from aerialseg import locks
from aerialseg.errors import OutputError
from aerialseg.files import link_or_copy, part_of, read_json, write_atomically, write_json
from aerialseg.locks import is_locked, locked


def test_a_file_appears_when_its_writing_ends_well(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "a.txt") as part:
        part.write_text("whole")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_writing_that_fails_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("older")

    def half() -> None:
        with write_atomically(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert (tmp_path / "a.txt").read_text() == "older"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_errors_of_the_system_name_the_file(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"cannot write .*no/a\.txt: No such file"),
        write_atomically(tmp_path / "no/a.txt") as p,
    ):
        p.write_text("x")


def test_json_is_read_as_it_was_written_and_a_missing_file_is_empty(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Bäume", "n": [1, 2]})
    assert read_json(tmp_path / "a.json") == {"name": "Bäume", "n": [1, 2]}
    assert read_json(tmp_path / "b.json") == {}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(OutputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(tmp_path / "a.json") == {}


HOLD = """
import sys
from pathlib import Path
from aerialseg.locks import locked
with locked(Path(sys.argv[1]), lambda: "held"):
    print("holding", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_one_process_s_and_a_killed_one_gives_it_up(tmp_path: Path) -> None:
    lock = tmp_path / "folder" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert is_locked(lock)
    with pytest.raises(OutputError, match="it is busy"), locked(lock, lambda: "it is busy"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert not is_locked(lock)
    with locked(lock, lambda: "it is busy"):
        assert is_locked(lock)


def test_two_threads_of_one_process_do_not_share_a_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "lock", lambda: "x"), pytest.raises(OutputError), locked(tmp_path / "lock", lambda: "y"):
        pass


def test_a_lock_may_go_with_its_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(lock, lambda: "x", remove=True):
        assert is_locked(lock)
    assert not lock.exists()


def test_a_lock_whose_file_its_last_holder_removed_meanwhile_is_taken_on_a_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, really = tmp_path / "lock", locks._try_lock
    lock.touch()

    def late(handle: int) -> bool:
        monkeypatch.undo()
        lock.unlink()
        return really(handle)

    monkeypatch.setattr(locks, "_try_lock", late)
    with locked(lock, lambda: "x"):
        assert is_locked(lock)


def test_a_linked_file_is_the_same_file_and_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"


def test_the_name_of_an_unfinished_file_is_the_same_in_every_process(tmp_path: Path) -> None:
    """A killed run's leftovers are found by the next one: no salted hash is in the name."""
    code = (
        "import sys; from pathlib import Path; from aerialseg.files import part_of; print(part_of(Path(sys.argv[1])))"
    )
    names = {
        subprocess.run(
            [sys.executable, "-c", code, tmp_path / "a.gpkg"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert names == {str(part_of(tmp_path / "a.gpkg"))}


def test_json_holds_no_byte_of_an_unfinished_writing(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]

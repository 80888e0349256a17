"""The environment that the plugin makes: what is tried, what is run, and what a failure leaves."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from aerialseg_plugin.installing import (
    COMPLETE,
    PINS,
    InstallError,
    complete_version,
    find_python,
    make_environment,
    pinned_version,
    spoken_size,
)

ROOT = Path(__file__).resolve().parents[2]


def _script(environment: Path, name: str) -> Path:
    return environment / "bin" / name


class Runner:
    """Notes the commands; ``fails`` is a word of the one that fails."""

    def __init__(self, fails: str = "") -> None:
        self.lines: list[list[str]] = []
        self._fails = fails

    def __call__(self, line: Sequence[str], purpose: str) -> str:
        self.lines.append(list(line))
        if self._fails and self._fails in line:
            raise InstallError(f"{purpose} failed")
        if "venv" in line:
            Path(line[-1]).mkdir()
        if "demo" in line:
            Path(line[2]).mkdir()
        return pinned_version() if "--version" in line else ""


def test_the_environment_counts_once_it_is_checked(tmp_path: Path) -> None:
    folder, run = tmp_path / "environment", Runner()
    assert complete_version(folder) is None
    make_environment(folder, "python3", "", _script, run)
    assert complete_version(folder) == pinned_version()
    pip = next(line for line in run.lines if "pip" in line)
    assert pip[-2:] == ["-r", str(PINS)]
    assert "--no-index" not in pip
    assert run.lines[-1][1] == "segment"
    assert sorted(os.listdir(folder)) == [COMPLETE]


def test_from_a_folder_of_wheels_no_index_is_asked(tmp_path: Path) -> None:
    run = Runner()
    make_environment(tmp_path / "environment", "python3", "/wheels", _script, run)
    pip = next(line for line in run.lines if "pip" in line)
    assert "--no-index" in pip
    assert pip[pip.index("--find-links") + 1] == "/wheels"


@pytest.mark.parametrize("fails", ["venv", "pip", "--version", "segment"])
@pytest.mark.parametrize("was_there", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path: Path, fails: str, was_there: bool) -> None:
    folder = tmp_path / "environment"
    if was_there:
        folder.mkdir()
        (folder / COMPLETE).write_text('{"version": "0.0.1"}')
    with pytest.raises(InstallError):
        make_environment(folder, "python3", "", _script, Runner(fails))
    assert os.listdir(tmp_path) == (["environment"] if was_there else [])
    assert complete_version(folder) == ("0.0.1" if was_there else None)


def test_another_version_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    class Older(Runner):
        def __call__(self, line: Sequence[str], purpose: str) -> str:
            return super().__call__(line, purpose) and "aerialseg, version 0.0.1"

    with pytest.raises(InstallError, match=r"0\.0\.1"):
        make_environment(tmp_path / "environment", "python3", "", _script, Older())


def test_a_python_is_found_or_it_is_said_which_were_tried(tmp_path: Path) -> None:
    missing = tmp_path / "python3"
    assert find_python(sys.executable, missing, dict(os.environ)) == sys.executable
    assert find_python("", Path(sys.executable), {}) == sys.executable
    with pytest.raises(InstallError, match=r"python3: does not start.*python3-venv"):
        find_python(str(missing), missing, dict(os.environ))


def test_the_pins_are_exact_and_hold_what_the_package_asks_for() -> None:
    lines = [line for line in PINS.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==\d[\w.]*", line) for line in lines), "no local versions, no ranges"
    pins = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in lines}
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for requirement in map(Requirement, wanted):
        if requirement.name == "torch":  # a CPU can do without it: whoever needs it takes the version that pip finds
            continue
        assert requirement.specifier.contains(pins[requirement.name]), f"run scripts/plugin-pins: {requirement}"
    assert {"torch", "fastai", "torchvision"}.isdisjoint(pins)


def test_size_and_number_of_packages_are_said(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d+ packages, about \d+ MB to download and \d+ MB on disk", spoken_size(""))
    (tmp_path / "a.whl").write_bytes(bytes(3_000_000))
    assert "wheels of 3 MB" in spoken_size(str(tmp_path))

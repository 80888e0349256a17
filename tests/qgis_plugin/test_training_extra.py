"""What teaching needs, added to the plugin's environment: asked for, checked, and taken out where it fails."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from aerialseg_plugin.installing import COMPLETE, PINS, InstallError, pinned_version
from aerialseg_plugin.training_extra import SIZE_MB, add_training, has_training

PIP = """#!/bin/sh
echo "$@" >> "{log}"
if [ "$4" = list ]; then printf 'numpy==1.0\\npip==24.0\\nfastai==2.8.12\\nPyArrow==26.0\\n'; fi
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / COMPLETE).write_text(json.dumps({"version": pinned_version(), "python": "python3"}))
    (folder / "python").write_text(PIP.format(log=tmp_path / "log"))
    (folder / "python").chmod(0o700)
    return folder


def _add(environment: Path, fails: str = "", wheels: str = "") -> list[list[str]]:
    lines: list[list[str]] = []

    def run(line: Sequence[str], purpose: str) -> str:
        lines.append(list(line))
        if fails and fails in line:
            raise InstallError(f"{purpose} failed")
        return ""

    add_training(environment, wheels, lambda folder, name: folder / name, run, dict(os.environ))
    return lines


def test_it_counts_once_it_is_checked_and_the_rest_keeps_its_versions(environment: Path) -> None:
    assert not has_training(environment)
    install, check = _add(environment, wheels="/wheels")
    assert install[-3:] == ["-c", str(PINS), f"aerialseg[train]=={pinned_version()}"]
    assert "--no-index" in install
    assert "torch" in check[-1]
    assert has_training(environment)
    assert json.loads((environment / COMPLETE).read_text())["version"] == pinned_version()
    assert not environment.with_name("log").exists()


@pytest.mark.parametrize("fails", ["pip", "-c"])
def test_what_fails_is_taken_out_again(environment: Path, fails: str) -> None:
    with pytest.raises(InstallError):
        _add(environment, fails)
    assert not has_training(environment)
    said = environment.with_name("log").read_text().splitlines()
    assert said[-1].endswith("uninstall -q -y fastai"), said


def test_its_size_is_looked_at_first(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 1e6}))
    with pytest.raises(InstallError, match=f"wanted {SIZE_MB * 1.2:.0f} MB"):
        _add(environment)


def test_no_environment_has_it_not(tmp_path: Path) -> None:
    assert not has_training(tmp_path)
    (tmp_path / COMPLETE).write_text("[]")
    assert not has_training(tmp_path)

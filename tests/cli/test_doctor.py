"""aerialseg doctor says what is here, and what would compute."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aerialseg._version import __version__
from aerialseg.cli import cli
from aerialseg.errors import ResourceError
from aerialseg.mapping import installation
from aerialseg.model.device import choose
from aerialseg.model.store import load_card


def doctor(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["doctor", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_it_names_versions_the_way_of_computing_models_caches_and_drivers() -> None:
    code, text, _ = doctor("--json")
    found = json.loads(text)
    assert code == 0
    assert found["versions"]["aerialseg"] == __version__
    assert found["compute"] == choose("auto", "auto", "auto", load_card()).numerics
    assert "drone-landcover" in found["models"]
    assert set(found["caches"]) == {"compiled loops", "models that were added"}
    assert found["drivers"]["GTiff"]
    assert found["drivers"]["GPKG"]


def test_people_read_what_to_install_for_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    code, text, _ = doctor()
    assert code == 0
    assert "pip install 'aerialseg[train]'  training" in text
    assert "bf16" in text


def test_where_nothing_can_compute_it_says_why_and_ends_with_6(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise ResourceError("no runtime here")

    monkeypatch.setattr(installation, "choose", none)
    code, text, errors = doctor()
    assert (code, "no map can be computed\n  no runtime here" in text) == (6, True)
    assert errors == "error: no runtime here\n"

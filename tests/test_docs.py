"""Documents that are made from the code say what the code says."""

from __future__ import annotations

import inspect
import re
import runpy
import warnings
from pathlib import Path
from typing import Any

import pytest

import aerialseg

ROOT = Path(__file__).resolve().parents[1]
FUNCTIONS = [name for name in aerialseg.__all__ if name[0].islower()]


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    pytest.importorskip("fastai", reason="aerialseg.train is among what is documented")
    with warnings.catch_warnings():  # of fastai, about itself
        warnings.simplefilter("ignore")
        found: dict[Path, str] = runpy.run_path(str(ROOT / "scripts" / "write_docs.py"))["pages"]()
    return found


def test_the_documents_are_what_scripts_docs_writes(pages: dict[Path, str]) -> None:
    for path, text in pages.items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run scripts/docs"


def test_messages_of_each_kind_are_listed_and_say_something(pages: dict[Path, str]) -> None:
    sections = re.split(r"^## Exit code ", pages[ROOT / "docs" / "errors.md"], flags=re.M)[1:]
    assert [int(one.split(".")[0]) for one in sections] == [2, 3, 4, 5, 6, 130]
    assert all(re.search(r"[a-z]{4}", one.partition("```text\n")[2].partition("```")[0]) for one in sections)


def test_each_command_of_the_tutorial_has_its_seconds() -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text("utf-8")
    blocks = re.findall(r"<!-- ci: steps -->\n```bash\n(.*?)```", text, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 8
    assert [line for line in lines if not re.search(r"  # [\d,]+ s$", line)] == []


def test_every_row_of_faults_has_a_test(pages: dict[Path, str]) -> None:
    rows = re.findall(r"^## (\d+)\. .+\n\n(\* )?", pages[ROOT / "docs" / "faults.md"], re.M)
    assert [int(row) for row, _ in rows] == list(range(1, 43))
    assert [row for row, test in rows if not test] == []


def test_every_public_name_is_documented(pages: dict[Path, str]) -> None:
    page = pages[ROOT / "docs" / "api.md"]
    missing = [name for name in aerialseg.__all__ if not re.search(rf"^(### |\| `|`aerialseg\.){name}\b", page, re.M)]
    assert not missing


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.usefixtures("pages")  # they have imported fastai
def test_a_docstring_that_lists_parameters_lists_each_in_order_and_more_than_four_are_listed(name: str) -> None:
    function: Any = getattr(aerialseg, name)
    known = list(inspect.signature(function).parameters)
    listed = re.search(r"^Parameters\n-+\n(.*?)(^\w+\n---|\Z)", inspect.getdoc(function) or "", re.M | re.S)
    if listed is None:
        assert len(known) <= 4
        return
    heads = re.findall(r"^(\S.*) : ", listed[1], re.M)
    assert [one for head in heads for one in head.split(", ")] == known

"""The list of mutants fits the code and the tests as they are; ``scripts/mutants`` tries them."""

from __future__ import annotations

import ast
import re

import pytest

from tests.mutants import ROOT, Mutant, read_mutants

MUTANTS = read_mutants()


def test_there_are_30_mutants_each_of_its_own_name() -> None:
    assert len({one.breaks for one in MUTANTS}) == len(MUTANTS) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.breaks)
def test_a_mutant_changes_a_line_that_is_there_once_and_names_a_test(mutant: Mutant) -> None:
    broken = ast.parse(mutant.text(ROOT))
    assert ast.dump(broken) != ast.dump(ast.parse((ROOT / mutant.file).read_text("utf-8")))
    path, _, name = mutant.test.partition("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("old", ["no such line", "return"])
def test_a_text_that_is_not_there_once_is_an_error(old: str) -> None:
    with pytest.raises(ValueError, match=r"stands \d+ times in aerialseg/files\.py, wanted once"):
        Mutant("something", "aerialseg/files.py", old, "pass", "").text(ROOT)

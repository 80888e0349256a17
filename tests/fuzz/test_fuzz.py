"""Damaged files of every kind end in success or in an error of ours that names the file, within limits.

A case is known by its seed and number: `python -m tests.fuzz.worker FOLDER <<< '["1/17"]'` repeats it. What was found
lies in corpus/SUBJECT/NAME: the damaged file alone, which takes the place of the whole one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(str(path.relative_to(CORPUS)) for path in CORPUS.glob("*/*"))


def faults(cases: list[str], folder: Path) -> dict[str, str]:
    """Case -> what went wrong. A process that dies is replaced by another one, which goes on after the case."""
    found: dict[str, str] = {}
    while cases:
        worker = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.worker", str(folder)],
            input=json.dumps(cases),
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"},
        )
        assert worker.stdout.startswith("ready"), worker.stderr  # the whole files can be read
        ended = [json.loads(line) for line in worker.stdout.splitlines()[1:]]
        found |= {case: fault for case, fault, _ in ended if fault}
        cases = cases[len(ended) :]
        if cases:
            found[cases.pop(0)] = f"the process ended with {worker.returncode}: {worker.stderr[-3000:]}"
    return found


def numbered(seed: int, count: int) -> list[str]:
    return [f"{seed}/{number}" for number in range(count)]


def test_damaged_files_end_in_an_error_that_names_them(tmp_path: Path) -> None:
    assert faults([*KEPT, "2/291", *numbered(1, 500)], tmp_path) == {}  # 2/291: an unknown key of 5,000 characters


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("quarter", range(4))  # so that several processes share them
def test_ten_thousand_damaged_files_end_in_an_error_that_names_them(tmp_path: Path, quarter: int) -> None:
    assert faults(numbered(2, 10_000)[quarter::4], tmp_path) == {}

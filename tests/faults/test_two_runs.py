"""Two runs of one output: the second ends with exit code 5 and the first's result stands."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aerialseg.batch.job import Selection
from aerialseg.errors import OutputError
from aerialseg.mapping.outputs import lock_of
from aerialseg.mapping.segment import segment
from tests.batch.conftest import Folder, folder
from tests.fakes import Oracle

__all__ = ["folder"]

ROOT = Path(__file__).resolve().parents[2]
JOB = '[inputs]\nglob = "in/**/*.tif"\n[outputs]\nlayer = "out/{folder}/{stem}.gpkg"\n'
WITHOUT_END = """
import sys
from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import read_job
from tests.fakes import Slow
run_job(read_job(sys.argv[1]), predictor=Slow(1000))
"""


@pytest.fixture
def other_job(folder: Folder) -> Iterator[subprocess.Popen[bytes]]:
    """Another job, at work on the same outputs in a process of its own: it computes the layer of in/a.tif."""
    (folder.path / "other.toml").write_text(JOB)
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_END, str(folder.path / "other.toml")], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not lock_of(folder.path / "out" / "a.gpkg").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.wait()


@pytest.mark.slow
def test_row_23_jobs_whose_outputs_meet_do_not_overwrite_each_other(
    folder: Folder, other_job: subprocess.Popen[bytes]
) -> None:
    layer = folder.path / "out" / "a.gpkg"
    assert folder.run().exit_code == 1
    entries = folder.entries()
    assert entries["a.tif"].error == f"{layer} is in use by another run: wait, or choose another output"
    assert {entry.status for name, entry in entries.items() if name != "a.tif"} == {"done"}
    with pytest.raises(OutputError, match="is in use by another run"):
        segment(folder.path / "in" / "a.tif", layer, model=Oracle(), overwrite=True)
    assert not layer.exists()
    other_job.kill()
    other_job.wait()
    assert folder.run(Selection(retry_failed=True)).exit_code == 0
    assert layer.exists()
    assert not lock_of(layer).exists()

"""SIGKILL at any moment, 50 times each: the next run finishes the rest, and its result is that of a clean run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.conftest import draw
from tests.conftest import land_cover

JOB = """
[inputs]
glob = "in/*.tif"
[outputs]
layer = "out/{stem}.gpkg"
raster = "out/{stem}.tif"
[run]
rasters = 2
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute of a core, which may be shared
@pytest.mark.parametrize("work", ["segment", "batch"])
def test_row_22_after_50_kills_at_random_moments_all_is_as_in_a_clean_run(tmp_path: Path, work: str) -> None:
    draw(tmp_path / "in" / "wide.tif", land_cover(160, 700, cell=40) * 30)
    for number in range(3):
        draw(tmp_path / "in" / f"t{number}.tif", land_cover(100, 100, seed=number) * 30)
    (tmp_path / "night.toml").write_text(JOB)
    command = [sys.executable, "-m", "tests.kills", work, str(tmp_path), "50"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50 kills" in done.stdout

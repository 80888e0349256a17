"""Whether a process that works for hours grows: 1,000 small rasters, then nights of a batch job, all in one process.

    python benchmarks/soak.py [--rasters 1000] [--minutes 180]

The predictor is a fake. After every 50 rasters the process is looked at: memory in use, open files, threads, and files
in the working folder, which is the folder for temporary files too. Printed are the slopes of a line through what was
seen after the first fifth, per 1,000 rasters; the exit code is 1 where one is above its bound. Linux only.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import job_of
from aerialseg.mapping.segment import segment
from tests.batch.conftest import draw
from tests.conftest import land_cover
from tests.fakes import Oracle, Slow

ROUND = 50
"""Rasters between two looks, and inputs of the job."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the process has, or by how much that grows in 1,000 rasters."""

    memory_mb: float
    descriptors: float
    threads: float
    files: float


MOST = Held(memory_mb=8.0, descriptors=0.5, threads=0.5, files=0.5)
"""Steeper slopes are leaks: a descriptor in 2,000 rasters; memory is handed out in pieces and is not as even."""


def look(folder: Path) -> Held:
    lines = Path("/proc/self/status").read_text().splitlines()
    resident_kb = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
    files = sum(len(names) for _, _, names in os.walk(folder))
    return Held(resident_kb / 1024, len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), files)


def small_rasters(folder: Path, rasters: int) -> Iterator[Held]:
    source = draw(folder / "ortho.tif", land_cover(64, 80))
    for number in range(1, rasters + 1):
        segment(source, folder / "map.gpkg", model=Oracle(), raster=folder / "c.tif", overwrite=True)
        if number % ROUND == 0:
            yield look(folder)


def nights(folder: Path, minutes: float) -> Iterator[Held]:
    """A job whose inputs are new each night; a raster takes the network a fifth of a second."""
    tables = {
        "inputs": {"glob": "in/*.tif"},
        "outputs": {"layer": "out/{stem}.gpkg", "raster": "out/{stem}.tif", "confidence": "out/{stem}-sure.tif"},
        "keep": {"reports": 1},
    }
    end, night = time.monotonic() + 60 * minutes, 0
    while time.monotonic() < end:
        for number in range(ROUND):
            draw(folder / "in" / f"{number}.tif", land_cover(64, 80, seed=night * ROUND + number))
        done = run_job(job_of(tables, folder / "night.toml"), predictor=Slow(0.2))
        assert done.counts["done"] == ROUND, done.counts
        yield look(folder)
        night += 1


def check(title: str, looks: Iterator[Held]) -> bool:
    """Print the slopes; whether all are within their bounds."""
    began = time.monotonic()
    seen = np.array([astuple(held) for held in looks])
    done = ROUND * np.arange(1, len(seen) + 1) / 1000
    warm = max(1, len(seen) // 5)
    if len(seen) < warm + 2:
        raise SystemExit(f"{title}: {len(seen)} looks are too few for a slope")
    slopes = np.polyfit(done[warm:], seen[warm:], 1)[0]
    print(f"{title}: {len(seen) * ROUND:,} rasters in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    for name, first, last, slope, most in zip(Held.__slots__, seen[warm], seen[-1], slopes, astuple(MOST), strict=True):
        verdict = "" if slope <= most else f"  above {most}"
        print(
            f"  {name:12} {first:7.1f} -> {last:7.1f}, {round(slope, 3) + 0:+.3f} per 1,000 rasters{verdict}",
            flush=True,
        )
    return bool((slopes <= astuple(MOST)).all())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rasters", type=int, default=1000, help="small rasters, one after the other; 0: none")
    parser.add_argument("--minutes", type=float, default=180, help="of the batch job; 0: none")
    wanted = parser.parse_args()
    well = True
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        tempfile.tempdir = os.environ["TMPDIR"] = os.environ["CPL_TMPDIR"] = str(Path(folder, "tmp"))
        Path(tempfile.tempdir).mkdir()
        if wanted.rasters:
            well &= check("small rasters", small_rasters(Path(folder), wanted.rasters))
        if wanted.minutes:
            well &= check("batch", nights(Path(folder), wanted.minutes))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())

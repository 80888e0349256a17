"""Ten thousand small rasters in one job: what the job costs beside the work itself, and whether memory stays flat.

    python benchmarks/many.py [--count 10000] [--side 64]

The predictor is a fake that answers at once, so what is left is reading, polygons, files (``segment``) and the job
(deciding, the ledger, the report). Memory is VmRSS and its peak VmHWM of this process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import rasterio
from affine import Affine

from aerialseg.batch import task as task
from aerialseg.batch.events import Events
from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import job_of
from tests.fakes import Oracle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=64, help="pixels of a side")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"drawing {wanted.count:,} rasters of {wanted.side} x {wanted.side} px", flush=True)
        draw(Path(folder) / "in", wanted.count, wanted.side)
        measure(Path(folder), wanted.count)


def draw(folder: Path, count: int, side: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(1)
    patches = np.kron(rng.integers(0, 6, (3, side // 16, side // 16), np.uint8), np.ones((1, 16, 16), np.uint8))
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "crs": "EPSG:32633"}
    for number in range(count):
        place = Affine(0.1, 0, 500_000 + number % 100 * 0.1 * side, 0, -0.1, 5_000_000 - number // 100 * 0.1 * side)
        with rasterio.open(folder / f"t{number:05d}.tif", "w", transform=place, **profile) as file:
            file.write(np.roll(patches, number, axis=1))


def measure(folder: Path, count: int) -> None:
    tables = {"inputs": {"glob": "in/*.tif"}, "outputs": {"layer": "out/{stem}.gpkg"}}
    job = job_of(tables, folder / "job.toml")
    inside = Clock()
    task.segment = inside.timing(task.segment)  # type: ignore[assignment]
    memory: list[tuple[int, int]] = []

    def tell(message: str) -> None:
        if message.startswith("["):
            done = int(message[1:].partition("/")[0])
            if done % max(1, count // 10) == 0:
                memory.append((done, resident_kb("VmRSS")))

    for what in ("all new", "nothing changed"):
        inside.seconds = 0.0
        start = time.perf_counter()
        summary = run_job(job, predictor=Oracle(), events=Events(tell))
        wall = time.perf_counter() - start
        own = wall - inside.seconds
        print(f"{what}: exit code {summary.exit_code}, {summary.counts}", flush=True)
        print(
            f"  {wall:.1f} s, {1e3 * wall / count:.1f} ms a raster: {1e3 * inside.seconds / count:.1f} ms in segment, "
            f"{1e3 * own / count:.2f} ms in the job"
        )
    print("memory: " + ", ".join(f"{kb / 1024:.0f} MiB after {done:,}" for done, kb in memory))
    print(f"peak {resident_kb('VmHWM') / 1024:.0f} MiB, {len(os.listdir('/proc/self/fd'))} files open at the end")


class Clock:
    """Sums the time inside a function."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, function):  # type: ignore[no-untyped-def]
        def timed(*args, **kwargs):  # type: ignore[no-untyped-def]
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def resident_kb(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


if __name__ == "__main__":
    main()

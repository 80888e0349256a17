"""Another layer of what is there already: blocks that the network computes again, and seconds, beside the first run.

    python benchmarks/redraw.py [--side 20000] [--rasters 100]

One raster (400 megapixels by default) is mapped with ``keep_run`` and then again with another minimum area; then a
batch job over many small rasters, whose class and confidence rasters are kept, with another minimum area as well. The
predictor is a fake that answers at once and counts how often it is asked: the seconds are without a network's time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from aerialseg import segment
from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import job_of
from aerialseg.model.interface import Prediction, Predictor, Tile
from benchmarks.many import draw as draw_many
from benchmarks.plumbing import Free, draw
from tests.fakes import Oracle


@dataclass(frozen=True)
class Counting(Free):
    """Notes how often it is asked."""

    asked: list[int] = field(default_factory=list)

    def load(self) -> Predictor:
        return self

    def predict(self, tile: Tile) -> Prediction:
        self.asked.append(1)
        return super().predict(tile)


@dataclass(frozen=True)
class CountingOracle(Oracle):
    asked: list[int] = field(default_factory=list)

    def predict(self, tile: Tile) -> Prediction:
        self.asked.append(1)
        return super().predict(tile)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20_000, help="pixels of a side of the one raster")
    parser.add_argument("--rasters", type=int, default=100)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one_raster(Path(folder), wanted.side)
        a_batch(Path(folder), wanted.rasters)


def one_raster(folder: Path, side: int) -> None:
    draw(folder / "ortho.tif", side, "deflate", 512)
    for area in (1.0, 5.0):
        network = Counting()
        result = segment(
            folder / "ortho.tif",
            folder / "map.gpkg",
            model=network,
            keep_run=folder / "run",
            min_area_m2=area,
            overwrite=True,
        )
        stages = ", ".join(f"{name} {spent:.1f}" for name, spent in result.seconds.items() if name != "total")
        print(
            f"{side:,} x {side:,} px, min_area {area} m2: {len(network.asked)} blocks computed, {result.polygons:,} "
            f"polygons, {result.seconds['total']:.1f} s ({stages})",
            flush=True,
        )


def a_batch(folder: Path, rasters: int) -> None:
    draw_many(folder / "in", rasters, 256)
    outputs = {name: f"out/{{stem}}{end}" for name, end in (("layer", ".gpkg"), ("raster", ".tif"))}
    tables = {"inputs": {"glob": "in/*.tif"}, "outputs": {**outputs, "confidence": "out/{stem}_c.tif"}}
    for area in (1, 5):
        network, start = CountingOracle(), time.perf_counter()
        job = job_of({**tables, "settings": {"min-area": area}}, folder / "job.toml")
        counts = run_job(job, predictor=network).counts
        taken = time.perf_counter() - start
        print(f"{rasters} rasters, min_area {area} m2: {counts}, {len(network.asked)} blocks computed, {taken:.1f} s")


if __name__ == "__main__":
    main()

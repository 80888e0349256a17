"""How well blocks spread over Dask workers: efficiency and overhead per block, with a predictor of known cost.

    python benchmarks/scaling.py [--workers 1,2,4,8,16] [--blocks 2000] [--cost 0.13] [--repeats 3]

The predictor sleeps, so more workers than cores can be tried on one machine; everything else is real: a scheduler and
workers in processes of their own, each block read from a GeoTIFF, written as a file and reported back. Efficiency is
blocks x cost / (workers x seconds), overhead is what a worker spends on a block beyond the cost; medians of repeats.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
BLOCK_PX, HALO_PX = 64, 64
ENOUGH_S = 45.0
"""A setting that takes longer than this is not repeated."""


def draw(path: Path, blocks: int) -> None:
    """A DEFLATE GeoTIFF of ``blocks`` blocks, 50 in a row."""
    import numpy as np
    import rasterio
    from affine import Affine

    if blocks % 50:
        raise SystemExit(f"--blocks {blocks}: wanted a multiple of 50")
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 6, (3, blocks // 50 * BLOCK_PX // 16, 50 * BLOCK_PX // 16), np.uint8)
    pixels = coarse.repeat(16, axis=1).repeat(16, axis=2)
    profile = {"driver": "GTiff", "tiled": True, "compress": "deflate", "crs": "EPSG:32633", "dtype": "uint8"}
    place = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
    with rasterio.open(
        path, "w", count=3, height=pixels.shape[1], width=pixels.shape[2], transform=place, **profile
    ) as file:
        file.write(pixels)


def measure(source: Path, cost: float, address: str) -> float:
    """Seconds from the first block sent to the last one seen."""
    from aerialseg.cluster.dask_cluster import connect
    from aerialseg.mapping.plan import make_plan
    from aerialseg.mapping.settings import MapSettings
    from aerialseg.mapping.workers import run_blocks
    from aerialseg.raster.describe import describe
    from tests.fakes import Oracle, Slow, with_halo

    with connect(address) as cluster, tempfile.TemporaryDirectory(dir=source.parent) as folder:
        predictor = cluster.fitted(Slow(cost, Oracle(with_halo(HALO_PX))))
        plan = make_plan([describe(source)], predictor, MapSettings())
        tasks = list(plan.tasks(predictor, Path(folder)))
        begin = time.perf_counter()
        done = sum(1 for _ in run_blocks(cluster, tasks, plan.blocks_digest))
        seconds = time.perf_counter() - begin
        if done != len(tasks) or not all(task.path.exists() for task in tasks):
            raise SystemExit(f"{done} of {len(tasks)} blocks were done")
    return seconds


def measure_all(source: Path, workers: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each repeat, on ``workers`` workers of one thread, after a first round that is not counted."""
    from tests.dask_processes import Processes

    warm_up = source.with_name("warm.tif")
    draw(warm_up, 100)
    with tempfile.TemporaryDirectory() as folder, Processes(Path(folder)) as processes:
        for _ in range(workers):
            processes.start_worker("--no-nanny")
        processes.await_workers(workers)
        measure(warm_up, 0.0, processes.address)
        expected = arguments.blocks * arguments.cost / workers
        repeats = arguments.repeats if expected < ENOUGH_S else 1
        return [measure(source, arguments.cost, processes.address) for _ in range(repeats)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4,8,16", metavar="N,N,...")
    parser.add_argument("--blocks", type=int, default=2000, metavar="N")
    parser.add_argument("--cost", type=float, default=0.13, metavar="S", help="seconds that the predictor sleeps")
    parser.add_argument("--repeats", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")
    print(
        f"{arguments.blocks:,} blocks of {BLOCK_PX} px (windows of {BLOCK_PX + 2 * HALO_PX}), {arguments.cost} s each"
    )
    print("workers  seconds (all repeats)        efficiency  overhead per block  blocks/s")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "ortho.tif"
        draw(source, arguments.blocks)
        for workers in map(int, arguments.workers.split(",")):
            runs = measure_all(source, workers, arguments)
            median = statistics.median(runs)
            efficiency = arguments.blocks * arguments.cost / (workers * median)
            overhead_ms = (median * workers / arguments.blocks - arguments.cost) * 1e3
            shown = " ".join(f"{seconds:.2f}" for seconds in runs)
            print(
                f"{workers:>7}  {median:7.2f} ({shown})".ljust(38)
                + f"{efficiency:>10.3f}  {overhead_ms:>15.1f} ms  {arguments.blocks / median:>8.1f}",
                flush=True,
            )
    print("the bars: efficiency at least 0.9, overhead under 10 ms")


if __name__ == "__main__":
    main()

"""How fast everything but the network is: reading, handing over, writing, with a predictor that costs nothing.

    python benchmarks/plumbing.py [--sides 5000 20000] [--repeats 3] [--compress deflate] [--tile 512]

The source is drawn so that it compresses like a photograph; the predictor has the real one's halo (608 px) and lattice
(32 px) and answers with labels drawn beforehand. Each run is a whole ``segment`` in a process of its own. Printed are,
over the repeats, the median million pixels per second from the source's file to the blocks' files ("blocks": in that
time the input is hashed and blocks are joined as well) and of the whole run, the peak of memory (VmHWM, Linux), and
what the stages took in the middle run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from aerialseg.model.card import ModelCard  # noqa: E402
from aerialseg.model.interface import Prediction, Predictor, PredictorSpec, Tile  # noqa: E402
from tests.fakes import CARD  # noqa: E402

PATTERN_PX = 4096


def draw(path: Path, side: int, compress: str, tile: int) -> float:
    """A GeoTIFF of textures at all scales and sensor noise, a row of tiles at a time; the share it compresses to."""
    import rasterio
    from affine import Affine

    rng = np.random.default_rng(7)
    texture = _texture(2048 + 512, rng)
    profile = {
        "driver": "GTiff",
        "tiled": True,
        "blockxsize": tile,
        "blockysize": tile,
        "compress": compress,
        "interleave": "pixel",
        "crs": "EPSG:32633",
        "transform": Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000),
        "dtype": "uint8",
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
    }
    with rasterio.open(path, "w", count=3, width=side, height=side, **profile) as file:
        for top in range(0, side, tile):
            rows = min(tile, side - top)
            band = np.empty((3, rows, side), np.uint8)
            for left in range(0, side, tile):
                y, x = rng.integers(0, texture.shape[1] - tile, 2)
                cols = min(tile, side - left)
                band[:, :, left : left + cols] = texture[:, y : y + rows, x : x + cols]
            file.write(band, window=((top, top + rows), (0, side)))
    return path.stat().st_size / (3 * side * side)


def _texture(side: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 (3, side, side)."""
    out = np.zeros((3, side, side), np.float32)
    for octave in range(1, 8):
        cells = max(2, side >> (8 - octave))
        coarse = rng.normal(0, 1, (cells + 1, cells + 1)).astype(np.float32)
        step = -(-side // cells)
        out += np.kron(coarse, np.ones((step, step), np.float32))[:side, :side] * 18 / octave**1.1
    out += np.array([110, 115, 95], np.float32)[:, None, None]
    out += rng.normal(0, 2.5, (1, side, side)) + rng.normal(0, 0.8, out.shape)
    return np.clip(out, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Free(Predictor, PredictorSpec):
    """Answers at once, with a piece of labels that were drawn beforehand."""

    card: ModelCard = field(default_factory=lambda: replace(CARD, name="free", halo=608))

    def load(self) -> Predictor:
        return self

    def predict(self, tile: Tile) -> Prediction:
        top, left = tile.core.top % (PATTERN_PX // 2), tile.core.left % (PATTERN_PX // 2)
        where = slice(top, top + tile.core.height), slice(left, left + tile.core.width)
        return Prediction(*(band[where] for band in pattern()))


_PATTERN: list[np.ndarray] = []


def pattern() -> list[np.ndarray]:
    """Classes of patches some 100 px across, and a noisy confidence."""
    if not _PATTERN:
        _PATTERN.extend(np.empty((2, PATTERN_PX, PATTERN_PX), np.uint8))
        noise = np.random.default_rng(3).normal(0, 3, (256, PATTERN_PX)).astype(np.float32)
        cols = np.arange(PATTERN_PX, dtype=np.float32)[None, :]
        for top in range(0, PATTERN_PX, 256):
            rows = np.arange(top, top + 256, dtype=np.float32)[:, None]
            x = (cols + 9 * np.sin(rows / 17) + 5 * np.sin((rows + 2 * cols) / 7)).astype(np.int64) // 100
            y = (rows + 9 * np.sin(cols / 13) + 5 * np.sin((2 * rows - cols) / 9)).astype(np.int64) // 100
            smooth = 75 + 15 * np.sin(rows / 40) * np.sin(cols / 55)
            _PATTERN[0][top : top + 256] = ((x * 73_856_093) ^ (y * 19_349_663)) % 6
            _PATTERN[1][top : top + 256] = np.clip(smooth + noise, 0, 100)
    return _PATTERN


def measure(source: Path, output: Path) -> None:
    """Run the job and print what it took (in the child process)."""
    from aerialseg import segment
    from aerialseg.mapping.timeline import to_json

    pattern()
    cpu = time.process_time()
    result = segment(source, output, model=Free(), raster=output.with_suffix(".tif"))
    taken = {
        "cpu": time.process_time() - cpu,
        "pixels": result.plan.pixels,
        "seconds": result.seconds,
        "stages": to_json(result.timeline),
        "peak_mb": peak_resident_mb(),
    }
    print(json.dumps(taken))


def peak_resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def child(source: Path, folder: Path) -> dict[str, Any]:
    output = folder / "map.gpkg"
    command = [sys.executable, __file__, "--measure", str(source), str(output)]
    taken = dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    for path in folder.glob("map.*"):
        path.unlink()
    return taken


def report(side: int, runs: list[dict[str, Any]]) -> None:
    runs = sorted(runs, key=lambda run: run["seconds"]["blocks"])
    middle, mpx = runs[len(runs) // 2], runs[0]["pixels"] / 1e6
    speeds = {name: statistics.median(mpx / run["seconds"][name] for run in runs) for name in ("blocks", "total")}
    peak = max(run["peak_mb"] for run in runs)
    print(
        f"{side:,} px square: source to blocks {speeds['blocks']:.0f} Mpx/s, whole run {speeds['total']:.1f} Mpx/s, "
        f"{middle['cpu'] / mpx * 1e3:.1f} ms of CPU a Mpx, peak {peak:,.0f} MB"
    )
    print("    stage       from      to    busy s  thread s   Mpx/s  share of run")
    for name, line in middle["stages"].items():
        speed = f"{line['mpx_per_s']:7.0f}" if line["mpx_per_s"] else "      -"
        print(
            f"    {name:<10}{line['begin']:6.1f}  {line['end']:6.1f}  {line['seconds']:8.2f}  "
            f"{line['thread_seconds']:8.2f} {speed}  {line['busy_share']:8.0%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[5_000, 20_000], metavar="PX")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compress", default="deflate", help="none, deflate, zstd, lzw ...")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%F')}")
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in arguments.sides:
            source = folder / "source.tif"
            share = draw(source, side, arguments.compress, arguments.tile)
            print(f"source: {arguments.compress}, tiles of {arguments.tile} px, {share:.0%} of the raw size")
            runs = [child(source, folder) for _ in range(arguments.repeats)]
            report(side, runs)
            peaks.append(max(run["peak_mb"] for run in runs))
    print("peaks: " + ", ".join(f"{peak:,.0f} MB" for peak in peaks) + f"; ratio {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()

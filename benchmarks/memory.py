"""Peak memory of the whole job on a 5,000 px and on a 20,000 px raster, with a predictor that costs nothing.

    python benchmarks/memory.py [--small 5000] [--large 20000]

Each size runs in a process of its own; printed are the peak resident set sizes (VmHWM, Linux) and their ratio. The
scene has the same density of land-cover patches (about 100 px across) at both sizes, so the layer grows with the area.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def draw(path: Path, side: int) -> None:
    """A DEFLATE GeoTIFF of patches with wavy borders, written a strip of rows at a time."""
    import numpy as np
    import rasterio
    from affine import Affine

    profile = {
        "driver": "GTiff",
        "tiled": True,
        "compress": "deflate",
        "zlevel": 1,
        "crs": "EPSG:32633",
        "dtype": "uint8",
    }
    place = Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
    cols = np.arange(side)[None, :]
    with rasterio.open(
        path, "w", count=3, width=side, height=side, transform=place, BIGTIFF="IF_SAFER", **profile
    ) as file:
        for top in range(0, side, 256):
            rows = np.arange(top, min(top + 256, side))[:, None]
            x = (cols + 9 * np.sin(rows / 17.0) + 5 * np.sin((rows + 2 * cols) / 7.0)).astype(np.int64) // 100
            y = (rows + 9 * np.sin(cols / 13.0) + 5 * np.sin((2 * rows - cols) / 9.0)).astype(np.int64) // 100
            classes = ((x * 73_856_093) ^ (y * 19_349_663)) % 6
            confidence = (rows * 7 + cols * 3) % 101
            band = np.stack([classes, confidence, np.zeros_like(classes)]).astype(np.uint8)
            file.write(band, window=((top, top + len(rows)), (0, side)))


def measure(source: Path, output: Path) -> None:
    """Run the job and print what it took (in the child process)."""
    sys.path.insert(0, str(ROOT))
    from aerialseg import segment
    from tests.fakes import Oracle

    start = time.perf_counter()
    result = segment(source, output, model=Oracle(), raster=output.with_suffix(".classes.tif"))
    seconds = time.perf_counter() - start
    peak_mb = peak_resident_mb()
    print(json.dumps({"peak_mb": peak_mb, "seconds": seconds, "polygons": result.polygons, "stages": result.seconds}))


def peak_resident_mb() -> float:
    """Peak resident set of this process alone: getrusage's would count what the parent had when it started us."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def child(source: Path, folder: Path) -> dict[str, Any]:
    output = folder / f"{source.stem}.gpkg"
    command = [sys.executable, __file__, "--measure", str(source), str(output)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=5_000, metavar="PX")
    parser.add_argument("--large", type=int, default=20_000, metavar="PX")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    print(f"{platform.platform()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for side in (arguments.small, arguments.large):
            source = Path(folder) / f"{side}.tif"
            draw(source, side)
            taken = child(source, Path(folder))
            peaks.append(taken["peak_mb"])
            stages = ", ".join(f"{name} {spent:.1f}" for name, spent in taken["stages"].items())
            print(f"{side:>6} px square: peak {taken['peak_mb']:,.0f} MB, {taken['polygons']:,} polygons")
            print(f"        {taken['seconds']:.0f} s ({stages})")
    print(f"ratio {peaks[1] / peaks[0]:.3f} (the bar: at most 1.15, and below 2,000 MB)")


if __name__ == "__main__":
    main()

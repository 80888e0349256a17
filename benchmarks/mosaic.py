"""A folder of tiles against one file of the same pixels: planning, time and memory; the predictor costs nothing.

    python benchmarks/mosaic.py [--tiles 10000] [--side 1000] [--format GTiff|JP2OpenJPEG] [--folder DIR] [--plan]

Draws the tiles (kept in --folder), and the one file as the same pixels. Each way runs in a process of its own, in turn;
blocks are written and joined, no polygons are drawn (they are the same for both). --plan: only the planning, of tiles
without pixels.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
GSD_M, HALO_PX, EPSG = 0.1, 64, 25832


def draw(folder: Path, tiles: int, side: int, driver: str) -> tuple[Path, Path]:
    """A folder of square tiles in a square, and one GeoTIFF of the same pixels."""
    import numpy as np
    import rasterio
    from affine import Affine

    across = math.isqrt(tiles)
    place = folder / f"{driver}-{across * across}-{side}"
    whole, cut = place / "whole.tif", place / "tiles"
    if whole.exists():
        return cut, whole
    cut.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    cells = rng.integers(1, 256, (16, 3, -(-side // 8), -(-side // 8)), dtype=np.uint8)
    pictures = cells.repeat(8, axis=2).repeat(8, axis=3)[:, :, :side, :side]
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "zstd", "zstd_level": 1}
    lossless = {"quality": 100, "reversible": "YES"} if driver == "JP2OpenJPEG" else layout
    common: dict[str, Any] = {"count": 3, "dtype": "uint8", "crs": f"EPSG:{EPSG}"}
    corner = Affine(GSD_M, 0, 500_000, 0, -GSD_M, 5_000_000)
    size = across * side
    with rasterio.open(
        whole, "w", driver="GTiff", height=size, width=size, transform=corner, bigtiff="YES", **common, **layout
    ) as one:
        for row in range(across):
            band = np.concatenate([pictures[(row * 7 + col) % 16] for col in range(across)], axis=2)
            one.write(band, window=rasterio.windows.Window(0, row * side, size, side))
            for col in range(across):
                path = cut / f"{row:03d}_{col:03d}.{'tif' if driver == 'GTiff' else 'jp2'}"
                at = corner @ Affine.translation(col * side, row * side)
                with rasterio.open(
                    path, "w", driver=driver, height=side, width=side, transform=at, **common, **lossless
                ) as tile:
                    tile.write(pictures[(row * 7 + col) % 16])
    return cut, whole


def draw_empty(folder: Path, tiles: int, side: int) -> Path:
    """A folder of square GeoTIFFs in a square, in which nothing is stored."""
    import rasterio
    from affine import Affine

    across = math.isqrt(tiles)
    cut = folder / f"empty-{across * across}-{side}"
    if cut.exists():
        return cut
    cut.mkdir(parents=True)
    shape: dict[str, Any] = {"height": side, "width": side, "count": 3, "dtype": "uint8", "crs": f"EPSG:{EPSG}"}
    for number in range(across * across):
        row, col = divmod(number, across)
        place = Affine(GSD_M, 0, 500_000 + col * side * GSD_M, 0, -GSD_M, 5_000_000 - row * side * GSD_M)
        path, layout = cut / f"{row:03d}_{col:03d}.tif", {"tiled": True, "sparse_ok": True}
        rasterio.open(path, "w", driver="GTiff", transform=place, **shape, **layout).close()
    return cut


def measure(source: Path, *, plan_only: bool = False) -> dict[str, float]:
    """Seconds of planning and of all blocks, on the clock and of the cores, and the greatest memory."""
    from aerialseg.mapping.classify import classify, decode_source
    from aerialseg.mapping.estimate import decide_blocks
    from aerialseg.mapping.plan import make_plan
    from aerialseg.mapping.run import Run
    from aerialseg.mapping.settings import MapSettings
    from aerialseg.mapping.source_files import find_sources
    from aerialseg.mapping.sources import describe_all
    from aerialseg.mapping.timeline import Timeline
    from aerialseg.progress import Silent
    from tests.fakes import Oracle, with_halo

    settings, predictor = MapSettings(max_pixels=10**12), Oracle(with_halo(HALO_PX))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    infos, _ = describe_all(find_sources([source]), settings)
    plan = make_plan(infos, predictor, settings)
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        run = Run(folder)
        run.blocks.mkdir()
        todo = decide_blocks(plan, predictor, run, None).todo
        planned, planned_cpu = time.perf_counter(), time.process_time()
        if plan_only:
            return {"plan_s": planned - begin, "plan_cpu_s": planned_cpu - begin_cpu, "tasks": len(todo)}
        reading, todo = decode_source(plan, todo, run, Timeline(), Silent())
        classify(reading, todo, run, Timeline(), Silent())
        done, done_cpu = time.perf_counter(), time.process_time()
    status = Path("/proc/self/status").read_text("ascii")
    peak = int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024  # type: ignore[index]
    return {
        "plan_s": planned - begin,
        "plan_cpu_s": planned_cpu - begin_cpu,
        "blocks_s": done - planned,
        "blocks_cpu_s": done_cpu - planned_cpu,
        "peak_mb": peak,
        "mpx": plan.pixels / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--format", default="GTiff", choices=("GTiff", "JP2OpenJPEG"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "aerialseg-mosaic")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    if given.plan:
        said = measure(draw_empty(given.folder, given.tiles, given.side), plan_only=True)
        print(f"{given.tiles:,} tiles planned in {said['plan_s']:.1f} s ({said['plan_cpu_s']:.1f} of a core)")
        return
    sources = draw(given.folder, given.tiles, given.side, given.format)
    print(f"{platform.machine()}, {given.tiles:,} tiles of {given.side} px, {given.format}")
    found = []
    for name, source in zip(("tiles", "one file"), sources, strict=True):
        command = [sys.executable, __file__, "--measure", str(source)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found.append(json.loads(said.splitlines()[-1]))
        one = found[-1]
        print(
            f"{name:>9}: {one['mpx']:,.0f} Mpx, planned in {one['plan_s']:.1f} s ({one['plan_cpu_s']:.1f} of a core), "
            f"blocks in {one['blocks_s']:.1f} s ({one['blocks_cpu_s']:.1f}), at most {one['peak_mb']:,.0f} MB"
        )
    tiles, whole = found
    for key, what in (("blocks_s", "time of blocks"), ("blocks_cpu_s", "work of blocks"), ("peak_mb", "memory")):
        print(f"tiles against one file, {what}: {tiles[key] / whole[key]:.2f}")


if __name__ == "__main__":
    main()

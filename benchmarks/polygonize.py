"""How fast a class raster becomes polygons, and in how much memory: ours against what people use today, in one run.

    python benchmarks/polygonize.py [--side 10000] [--repeats 3] [--xarray-python PEERS/bin/python]
    python benchmarks/polygonize.py --large 40000

The rasters are drawn, not photographed: level sets of smoothed noise, 12 classes, 0.2 m pixels, once like land cover
(about 150,000 regions on 100 megapixels) and once noisy, as a network leaves it. What each line does, from a tiled
GeoTIFF to a GeoPackage on disk:

    aerialseg           minimum mapping unit of 50 px, attributes, simplified by 1.5 px without gaps, style
    shapes              features.sieve(50), features.shapes, GeoDataFrame, coverage_simplify(1.5 px), to_file
    shapes, no sieve    the same without features.sieve: tiny polygons stay (--thorough)
    gdal_polygonize.py  polygons on pixel edges with their class, nothing else
    gdal_sieve.py + ..  gdal_sieve.py -st 50 -4 before it (its time included)
    xarray-spatial      its polygonize (numba) to a GeoDataFrame, to_file; needs --xarray-python

Each measurement is a process of its own; the clock runs from after the imports (and after a small raster, which
compiles what is compiled) to the finished file. Peak memory is VmHWM of that process.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KINDS = {"land cover": (26.0, 0.06, 2.0), "noisy": (12.0, 0.3, 1.5)}
"""Kind of raster -> how wide patches are, how strong and how wide the noise on their borders is (px)."""
MIN_PIXELS, TOLERANCE_PX, PIXEL_M, TILE = 50, 1.5, 0.2, 512

PEAK = """
def peak_mb():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
"""

PRELUDE = f"""
import json, sys, time
source, small, output = sys.argv[1:4]
{PEAK}
def report(start, polygons):
    print(json.dumps({{"seconds": time.perf_counter() - start, "peak_mb": peak_mb(), "polygons": polygons}}))
"""

OURS = f"""{PRELUDE}
import logging, os
from pathlib import Path
from aerialseg.legend import LandClass, Legend
from aerialseg.vector.layers import polygonize
legend = Legend(tuple(LandClass(one, f"class {{one}}", (one * 20, 90, 200)) for one in range(12)))
def run(raster):
    return polygonize(Path(raster), None, Path(output), legend=legend, min_pixels={MIN_PIXELS},
                      tolerance_px={TOLERANCE_PX}, smooth=SMOOTH).polygons
run(small)
start = time.perf_counter()
report(start, run(source))
"""

SHAPES = f"""{PRELUDE}
import geopandas, numpy as np, rasterio, rasterio.features, shapely, shapely.geometry
def run(raster):
    with rasterio.open(raster) as file:
        classes, mask, transform, crs = file.read(1), file.read_masks(1), file.transform, file.crs
    if SIEVE:
        classes = rasterio.features.sieve(classes, {MIN_PIXELS}, connectivity=4, mask=mask)
    found = rasterio.features.shapes(classes, mask=mask, connectivity=4, transform=transform)
    rows = [(int(value), shapely.geometry.shape(shape)) for shape, value in found]
    frame = geopandas.GeoDataFrame({{"class_id": [row[0] for row in rows]}}, geometry=[row[1] for row in rows], crs=crs)
    del rows
    simple = shapely.coverage_simplify(frame.geometry.values, {TOLERANCE_PX * PIXEL_M}, simplify_boundary=False)
    frame = frame.set_geometry(geopandas.GeoSeries(simple, crs=crs))
    frame["area_m2"] = frame.geometry.area
    frame.to_file(output, driver="GPKG", layer="landcover")
    return len(frame)
run(small)
start = time.perf_counter()
report(start, run(source))
"""

XARRAY = f"""{PRELUDE}
import geopandas, rasterio, xarray
try:
    from xrspatial.polygonize import polygonize
except ImportError:
    from xrspatial.experimental.polygonize import polygonize
def run(raster):
    with rasterio.open(raster) as file:
        array, transform, crs = xarray.DataArray(file.read(1).astype("int32")), file.transform, file.crs
    frame = polygonize(array, connectivity=4, transform=tuple(transform)[:6], return_type="geopandas", column_name="id")
    frame.set_crs(crs, inplace=True, allow_override=True)
    frame.to_file(output, driver="GPKG", layer="landcover")
    return len(frame)
run(small)
start = time.perf_counter()
report(start, run(source))
"""

GDAL = f"""{PRELUDE}
import io, contextlib, runpy
def call(name, *arguments):
    sys.argv = [name, *arguments]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path("/usr/bin/" + name, run_name="__main__")
start = time.perf_counter()
if SIEVE:
    call("gdal_sieve.py", "-q", "-st", "{MIN_PIXELS}", "-4", source, output + ".tif")
    source = output + ".tif"
call("gdal_polygonize.py", "-q", source, "-f", "GPKG", output, "landcover", "class_id")
end = time.perf_counter()
from osgeo import ogr
made = ogr.Open(output)
report(start + time.perf_counter() - end, made.GetLayer(0).GetFeatureCount())
"""


def draw(path: Path, side: int, wide: float, strong: float, fine: float) -> None:
    """A class raster of ``side`` x ``side`` px whose edges fit together (so that it can be laid side by side)."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)

    def smoothed(sigma: float) -> Any:
        noise = gaussian_filter(rng.standard_normal((side, side), np.float32), sigma, mode="wrap", truncate=3)
        noise /= noise.std()
        return noise

    def levels(count: int) -> Any:
        field = smoothed(wide)
        field += strong * smoothed(fine)
        return np.digitize(field, np.quantile(field[::7, ::11], np.arange(1, count) / count)).astype(np.uint8)

    write(path, 3 * levels(4) + levels(3), side)


def write(path: Path, tile: Any, side: int) -> None:
    """The tile, repeated to ``side`` x ``side`` px, written strip by strip."""
    import numpy as np
    import rasterio

    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": 255, "crs": "EPSG:32633", "tiled": True}
    profile |= {"blockxsize": TILE, "blockysize": TILE, "compress": "zstd", "zstd_level": 1, "bigtiff": "if_safer"}
    transform = rasterio.Affine(PIXEL_M, 0, 500_000, 0, -PIXEL_M, 5_000_000)
    with rasterio.open(path, "w", height=side, width=side, transform=transform, **profile) as file:
        for row in range(0, side, TILE):
            rows = np.arange(row, min(row + TILE, side)) % len(tile)
            strip = np.tile(tile[rows], (1, -(-side // tile.shape[1])))[:, :side]
            file.write(strip, 1, window=((row, row + len(rows)), (0, side)))


def measure(python: str, script: str, source: Path, small: Path) -> dict[str, Any]:
    """Seconds, peak memory and polygons of one process; an empty dictionary if it cannot do it."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        command = [python, "-c", script, str(source), str(small), f"{folder}/out.gpkg"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not done.stdout.strip():
        print(f"    failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return {}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def contestants(arguments: argparse.Namespace) -> dict[str, tuple[str, str, int]]:
    """Name -> (python, script, how often)."""
    ours, theirs = arguments.repeats, arguments.peer_repeats
    found = {
        "aerialseg": (sys.executable, OURS.replace("SMOOTH", "0"), ours),
        "aerialseg, smoothed": (sys.executable, OURS.replace("SMOOTH", "2"), ours),
    }
    if arguments.no_peers:
        return found
    found["shapes"] = (sys.executable, SHAPES.replace("SIEVE", "True"), theirs)
    if arguments.thorough:
        found["shapes, no sieve"] = (sys.executable, SHAPES.replace("SIEVE", "False"), theirs)
    if Path("/usr/bin/gdal_polygonize.py").exists():
        found["gdal_polygonize.py"] = ("/usr/bin/python3", GDAL.replace("SIEVE", "False"), theirs)
        found["gdal_sieve.py + .."] = ("/usr/bin/python3", GDAL.replace("SIEVE", "True"), theirs)
    if arguments.xarray_python:
        found["xarray-spatial"] = (arguments.xarray_python, XARRAY, theirs)
    return found


def compare(kind: str, source: Path, small: Path, side: int, arguments: argparse.Namespace) -> None:
    print(f"\n{kind}, {side:,} x {side:,} px ({source.stat().st_size / 1e6:.1f} MB)")
    print(f"{'':20} {'median s':>9} {'(all)':>24} {'Mpx/s':>7} {'ratio':>6} {'peak MB':>8} {'polygons':>10}")
    base = 0.0
    for name, (python, script, repeats) in contestants(arguments).items():
        taken = [one for _ in range(repeats) if (one := measure(python, script, source, small))]
        if not taken:
            print(f"{name:20} failed", flush=True)
            continue
        seconds = [one["seconds"] for one in taken]
        median = statistics.median(seconds)
        base = base or median
        every = "(" + " ".join(f"{one:.1f}" for one in seconds) + ")"
        peak = max(one["peak_mb"] for one in taken)
        line = f"{name:20} {median:9.2f} {every:>24} {side**2 / median / 1e6:7.1f} {median / base:6.1f} {peak:8,.0f}"
        print(f"{line} {taken[0]['polygons']:10,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=10_000, metavar="PX")
    parser.add_argument(
        "--large", type=int, metavar="PX", help="ours alone, on this many pixels square (tiles of --side)"
    )
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=3, help="of ours")
    parser.add_argument("--peer-repeats", type=int, default=1)
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--xarray-python", metavar="PYTHON", help="a Python that has xarray-spatial and geopandas")
    parser.add_argument("--folder", type=Path, help="where drawn rasters stay and are found again")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        draw(folder / "small.tif", 300, *KINDS["noisy"])
        for kind in arguments.kinds:
            source = folder / f"{kind.replace(' ', '-')}-{arguments.side}.tif"
            if not source.exists():
                draw(source, arguments.side, *KINDS[kind])
            side = arguments.large or arguments.side
            if arguments.large:
                arguments.no_peers, arguments.repeats = True, 1
                source = enlarged(source, side)
            compare(kind, source, folder / "small.tif", side, arguments)


def enlarged(source: Path, side: int) -> Path:
    import rasterio

    large = source.with_name(f"{source.stem}-as-{side}.tif")
    if not large.exists():
        with rasterio.open(source) as file:
            write(large, file.read(1), side)
    return large


if __name__ == "__main__":
    main()

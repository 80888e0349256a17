"""The networks side by side, in exact tiles and in the usual ones; and a map from file to layer.

    python benchmarks/decoders.py [--size PX] [--rounds N] [--threads N] [--model DIR] [--job PX] [--json FILE]

In one run, one after the other, medians over the rounds:

1. Seconds per megapixel of the answer in the middle of a large raster: the bundled model (a light U-Net), and fastai's
   U-Net and smp's Unet over the same encoder, in exact tiles on OpenVINO in fp32, bf16 and, where the card has ranges,
   int8; smp's Unet as it is usually run, by torch in fp32 in tiles of 512 px with 64 px of overlap on each side.
2. A drawn scene of --size px cut into blocks of 512 px: the share of labels that the whole image has, computed at once
   in the same runtime and fp32.
3. With --job PX: a drawn scene of PX x PX at 20 cm as a GeoTIFF, and ``segment-raster`` with smp's network in a process
   of its own: seconds and peak memory.

fastai's and smp's have random weights, set so that values neither fade nor explode; of smp's --model may give
others. Time does not depend on weights; how many labels change where tiles are cut does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.crs import CRS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from throughput import Exact, Naive

from aerialseg.datasets.demo import draw_scene
from aerialseg.model.card import Architecture
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card, load_network, save
from aerialseg.seams.operations import operations_per_pixel, work_per_pixel
from tests.model.nets import card, lively_network

CLASSES = 19


def make_model(folder: Path, decoder: str) -> Path:
    """A model folder of such a network over a ResNet-34, at 20 cm."""
    network = lively_network("resnet34", CLASSES, decoder=decoder, norm="batch")
    about = card(network, architecture=Architecture("resnet34", decoder=decoder, norm="batch"), gsd_m=0.2)
    save(folder, about, network.state_dict(), torch.float32)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1536)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model", type=Path, help="a trained model with smp's network")
    parser.add_argument("--job", type=int, default=0, metavar="PX")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{platform.processor() or platform.machine()}, {given.threads} threads, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        smp = given.model or make_model(Path(scratch) / "smp", "smp-unet")
        fastai = make_model(Path(scratch) / "fastai", "fastai-dynamic-unet")
        models = {"bundled": Path("embedded"), "fastai": fastai, "smp": smp}
        for name, model in models.items():
            network = load_network(model)[1]
            operations, tiles = operations_per_pixel(network), work_per_pixel(network, 2048)
            print(f"{operations:,.0f} multiplications a pixel, {tiles:.2f} times in exact tiles of 2048 px  {name}")
        ways = make_ways(models)
        found: dict[str, Any] = {"seconds_per_mpx": time_ways(ways, given.rounds)}
        found["same_labels"] = compare_labels(ways, given.size)
        if given.job:
            found["job"] = time_job(smp, given.job, given.threads, Path(scratch))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def make_ways(models: dict[str, Path]) -> dict[str, Exact | Naive]:
    """Each way to answer by its name."""
    ways: dict[str, Exact | Naive] = {
        f"{name}, exact tiles, openvino {precision}": Exact(
            resolve(model, device="cpu", runtime="openvino", precision=precision)
        )
        for name, model in models.items()
        for precision in ("fp32", "bf16", *(["int8"] if load_card(model).ranges else []))
    }
    about, network = load_network(models["smp"])
    ways["smp, usual tiles 512/64, torch fp32"] = Naive(network, about, "cpu", 64, blend=False)
    return ways


def time_ways(ways: dict[str, Exact | Naive], rounds: int) -> dict[str, float]:
    """Median seconds per megapixel of the answer."""
    side = max(way.predictor.tile + 2 * way.card.halo for way in ways.values() if isinstance(way, Exact))
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), dtype=np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        for _ in range(rounds + 1):
            start = time.perf_counter()
            answered = way.unit(pixels)
            taken[name].append((time.perf_counter() - start) / answered * 1e6)
        if isinstance(way, Exact):
            way.predictor.release()  # all at once would hold 20 GB
    medians = {name: statistics.median(values[1:]) for name, values in taken.items()}  # the first compiles
    for name, seconds in medians.items():
        print(f"{seconds:8.2f} s/Mpx  {name}", flush=True)
    return medians


def compare_labels(ways: dict[str, Exact | Naive], size: int) -> dict[str, float]:
    """Share of the labels that the whole image has, computed at once; fp32 ways alone."""
    scene = draw_scene(size, size, {name: n for n, name in enumerate(_names())})
    found = {}
    reference = {name.split(",")[0]: way for name, way in ways.items() if isinstance(way, Exact) and "fp32" in name}
    at_once = {name: way.at_once(scene.pixels) for name, way in reference.items()}
    for name, way in ways.items():
        if "fp32" in name:
            found[name] = float((way.whole(scene.pixels) == at_once[name.split(",")[0]]).mean())
            print(f"{found[name]:10.4%} of labels as of the whole image  {name}", flush=True)
    return found


def _names() -> tuple[str, ...]:
    from aerialseg.datasets.demo import CLASSES as names

    return names


def time_job(model: Path, side: int, threads: int, scratch: Path) -> dict[str, float]:
    """segment-raster over a drawn GeoTIFF, in a process of its own."""
    scene = draw_scene(side, side, {name: n for n, name in enumerate(_names())})
    ortho, place = scratch / "ortho.tif", rasterio.Affine(0.2, 0, 500_000, 0, -0.2, 5_000_000)
    profile = {"driver": "GTiff", "count": 3, "height": side, "width": side, "dtype": "uint8", "tiled": True}
    with rasterio.open(ortho, "w", **profile, transform=place, crs=CRS.from_epsg(32633), compress="deflate") as file:
        file.write(scene.pixels)
    del scene
    command = [sys.executable, "-c", "from aerialseg.cli import segment_raster; segment_raster()"]
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    subprocess.run(
        [*command, str(ortho), str(scratch / "map.gpkg"), "--model", str(model)], check=True, env=environment
    )
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{side * side / 1e6:.1f} Mpx from file to layer: {seconds:.1f} s, peak {peak:.2f} GB")
    return {"mpx": side * side / 1e6, "seconds": seconds, "peak_gb": peak}


if __name__ == "__main__":
    main()

"""Megapixels per second of the network and of the whole job, for the ways of tiling that users know and for ours.

    python benchmarks/throughput.py [--device cpu|cuda] [--rounds N] [--size PX] [--model DIR] [--json FILE] [--peers]

Three tables, of things measured in turn in one run:

1. The network alone, per pixel of the answer, in the middle of a large raster: a 512 px tile with 64 px of overlap on
   each side (its core of 384 px is kept), 512 px tiles blended at half overlap (a quarter of each counts), and exact
   tiles in each runtime and precision that is here. Medians over the rounds.
2. A whole raster (a drawn scene) through each way, cut into tiles of 512 px: time, and the share of labels that the
   whole image has as well when it is computed at once in the same numbers (what the cutting costs) and in fp32 (what
   cutting and rounding cost). With --peers also through MONAI and geoai, where they are installed.
3. segment() from file to layer: its time over the network's own, and the busy share of each stage.

On a GPU: python benchmarks/throughput.py --device cuda --size 20480 --scene 2048
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aerialseg.datasets.demo import draw_demo, draw_scene
from aerialseg.mapping.segment import segment
from aerialseg.model.card import ModelCard
from aerialseg.model.cpu import has_openvino
from aerialseg.model.device import choose, choose_size
from aerialseg.model.folders import model_dir
from aerialseg.model.interface import Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor, ModelSpec
from aerialseg.model.store import load_network
from aerialseg.raster.grid import Box, Grid
from aerialseg.seams.operations import work_per_pixel
from aerialseg.training.torchvision_compat import patch_torchvision

FLOP_PER_PX = 963e3
"""Of the default network on a whole image, multiplications and additions (torch's FLOP counter)."""

H200_BF16 = 790e12
"""FLOP/s that the matrix units of an H200 reach in bf16, as measured (DESIGN's papers)."""

Labels = NDArray[np.uint8]


class Naive:
    """What most tools do: eager fp32, normalisation on the host, tiles pulled back at the far edges."""

    side = 512

    def __init__(self, network: Network, card: ModelCard, device: str, overlap: int, *, blend: bool) -> None:
        self.network, self.card, self.device, self.overlap, self.blend = (
            copy.deepcopy(network).to(device),
            card,
            device,
            overlap,
            blend,
        )
        self.step = self.side - overlap if blend else self.side - 2 * overlap
        ramp = np.hanning(self.side + 2)[1:-1].astype(np.float32)
        self.weight = torch.from_numpy(np.outer(ramp, ramp)).to(device)

    @torch.inference_mode()
    def scores(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        mean, std = (np.array(v, np.float32).reshape(-1, 1, 1) for v in (self.card.mean, self.card.std))
        image = torch.from_numpy((pixels.astype(np.float32) / 255 - mean) / std)[None]
        logits: torch.Tensor = self.network(image.to(self.device))[0]
        logits[list(self.card.void)] = -torch.inf
        return logits

    def unit(self, pixels: NDArray[np.uint8]) -> int:
        """One tile in the middle of a raster; pixels of the answer that it settles."""
        part = pixels[:, : self.side, : self.side]
        if self.blend:
            total = self.scores(part).softmax(0) * self.weight
            total.argmax(0).cpu()
        else:
            self.scores(part).argmax(0).cpu()
        return self.step**2

    def whole(self, pixels: NDArray[np.uint8]) -> Labels:
        return (self._blended if self.blend else self._cut)(pixels)

    def _blended(self, pixels: NDArray[np.uint8]) -> Labels:
        total = torch.zeros((len(self.card.legend), *pixels.shape[1:]), device=self.device)
        for row, col in self._corners(pixels.shape[1:]):
            here = (slice(row, row + self.side), slice(col, col + self.side))
            total[:, *here] += self.scores(pixels[:, *here]).softmax(0) * self.weight
        return total.argmax(0).cpu().numpy().astype(np.uint8)

    def _cut(self, pixels: NDArray[np.uint8]) -> Labels:
        out = np.zeros(pixels.shape[1:], np.uint8)
        rim = self.overlap
        for row, col in self._corners(pixels.shape[1:]):
            labels = self.scores(pixels[:, row : row + self.side, col : col + self.side]).argmax(0).cpu().numpy()
            top, left = (rim if row else 0), (rim if col else 0)
            out[row + top : row + self.side, col + left : col + self.side] = labels[top:, left:]
        return out

    def _corners(self, shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        rows, cols = ([*range(0, max(1, n - self.side), self.step), max(0, n - self.side)] for n in shape)
        return ((row, col) for row in dict.fromkeys(rows) for col in dict.fromkeys(cols))


class Exact:
    """Ours: a predictor in one runtime and precision."""

    def __init__(self, spec: ModelSpec) -> None:
        self.predictor: ModelPredictor = spec.load()
        self.card = spec.card

    def unit(self, pixels: NDArray[np.uint8]) -> int:
        core, halo = self.predictor.tile, self.card.halo
        side = core + 2 * halo
        part = np.ascontiguousarray(pixels[:, :side, :side])
        box = Box(halo, halo, halo + core, halo + core)
        self.predictor.predict(Tile(part, np.ones(part.shape[1:], bool), Box(0, 0, side, side), box))
        return core**2

    def at_once(self, pixels: NDArray[np.uint8]) -> Labels:
        """Without cutting: what this runtime and precision say of the whole image."""
        side = -(-max(pixels.shape) // self.card.stride) * self.card.stride
        tile, self.predictor.tile = self.predictor.tile, side
        try:
            return self.whole(pixels, side)
        finally:
            self.predictor.tile = tile

    def whole(self, pixels: NDArray[np.uint8], block: int = 512) -> Labels:
        """In blocks of 512 px, so that a small scene is cut as well."""
        grid = Grid(*pixels.shape[1:], block, self.card.halo, self.card.stride)
        out = np.zeros(pixels.shape[1:], np.uint8)
        padded = np.zeros((3, *grid.canvas.shape), np.uint8)
        padded[:, : pixels.shape[1], : pixels.shape[2]] = pixels
        valid = np.zeros(grid.canvas.shape, bool)
        valid[grid.raster.slices] = True
        for core in grid:
            window = grid.window(core)
            tile = Tile(padded[:, *window.slices].copy(), valid[window.slices].copy(), window, core)
            out[core.slices] = self.predictor.predict(tile).classes
        return out


class OnnxRuntime:
    """The same exact tile exported to ONNX at one shape, fp32: how ONNX Runtime fares."""

    core = 1024

    def __init__(self, network: Network, card: ModelCard, folder: Path) -> None:
        import onnxruntime

        from aerialseg.model.fold import fold_for_inference
        from aerialseg.model.fx_trace import _Tile

        side, halo = self.core + 2 * card.halo, card.halo
        module = _Tile(
            fold_for_inference(network), Box(0, 0, side, side), Box(halo, halo, halo + self.core, halo + self.core)
        )
        self.path, self.side = folder / "tile.onnx", side
        torch.onnx.export(module, (torch.zeros(1, 3, side, side),), str(self.path), dynamo=False, input_names=["x"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def unit(self, pixels: NDArray[np.uint8]) -> int:
        image = pixels[None, :, : self.side, : self.side].astype(np.float32) / 255
        self.session.run(None, {"x": image})[0].argmax(1)
        return self.core**2


def exact_ways(model: str | None, device: str) -> dict[str, ModelSpec]:
    folder, card = model_dir(model), load_network(model)[0]
    runtimes = ["torch", *(["openvino"] if device == "cpu" and has_openvino() else [])]
    found = {}
    for runtime in runtimes:
        for precision in ("fp32", "bf16", *(["int8"] if runtime == "openvino" and card.quantization else [])):
            way = choose(device, precision, runtime, card)
            tile, batch = choose_size(way)
            found[f"exact, {runtime} {precision}, core {tile}"] = ModelSpec(
                str(folder), card, device, precision, runtime, tile, batch
            )
    return found


def network_alone(ways: dict[str, Any], rounds: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 5376, 5376), dtype=np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            px = way.unit(pixels)
            if number:  # the first round warms up
                taken[name].append((time.perf_counter() - start) / px * 1e6)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    naive, blended = list(medians.values())[:2]
    return [
        {
            "way": name,
            "seconds_per_mpx": round(seconds, 3),
            "mpx_per_s": round(1 / seconds, 3),
            "times_512_64": round(naive / seconds, 2),
            "times_half_overlap": round(blended / seconds, 2),
        }
        for name, seconds in medians.items()
    ]


def whole_raster(
    ways: dict[str, Any], card: ModelCard, side: int, peers: dict[str, Callable[[Any], Labels]]
) -> list[dict[str, Any]]:
    scene = draw_scene(side, side, {entry.name: entry.id for entry in card.legend})
    pixels = np.where(scene.valid, scene.pixels, 0).astype(np.uint8)
    canvas = Grid(side, side, 512, card.halo, card.stride).canvas
    reference = next(iter(ways.values()))
    padded = np.zeros((3, *canvas.shape), np.uint8)
    padded[:, :side, :side] = pixels
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # a GPU rounds fp32 otherwise
        truth = reference.scores(padded).argmax(0).cpu().numpy()[:side, :side]
    rows = []
    runs = {name: way.whole for name, way in ways.items()} | peers
    for name, run in runs.items():
        start = time.perf_counter()
        labels = run(pixels)
        seconds = time.perf_counter() - start
        own = ways[name].at_once(pixels) if isinstance(ways.get(name), Exact) else truth
        same, as_fp32 = (round(float((labels == other).mean()), 6) for other in (own, truth))
        rows.append(
            {"way": name, "seconds": round(seconds, 1), "same_as_at_once": same, "same_as_at_once_in_fp32": as_fp32}
        )
    return rows


def end_to_end(model: str | None, device: str, side: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        ortho, _ = draw_demo(Path(folder) / "scene", width=side, height=side, overwrite=True)
        start = time.perf_counter()
        result = segment(ortho, Path(folder) / "landcover.gpkg", model=model, device=device)
        seconds = time.perf_counter() - start
    stages = {stage.stage: stage for stage in result.timeline}
    network = stages["predict"].seconds
    return {
        "mpx": round(side * side / 1e6, 2),
        "numerics": result.plan.numerics,
        "seconds": round(seconds, 2),
        "mpx_per_s": round(side * side / 1e6 / seconds, 3),
        "times_the_network": round(seconds / network, 3),
        "device_busy_share_of_blocks": round(network / stages["blocks"].seconds, 3),
        "stages": {name: round(stage.seconds, 2) for name, stage in stages.items()},
    }


def installed_peers(network: Network, card: ModelCard) -> dict[str, Callable[[Any], Labels]]:
    """The same weights through other people's tilers, at their defaults but for a 512 px window."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (card.mean, card.std))
    found: dict[str, Callable[[Any], Labels]] = {}
    try:
        from monai.inferers import sliding_window_inference
    except ImportError:
        print("monai is not installed: left out")
    else:
        for mode, overlap in (("constant", 0.25), ("gaussian", 0.5)):

            @torch.inference_mode()
            def monai(pixels: Any, mode: str = mode, overlap: float = overlap) -> Labels:
                image = (torch.from_numpy(pixels)[None].float() / 255 - mean) / std
                scores = sliding_window_inference(image, 512, 1, network, overlap=overlap, mode=mode)
                return scores[0].argmax(0).numpy().astype(np.uint8)

            found[f"MONAI sliding_window_inference, {mode}, overlap {overlap}"] = monai
    patch_torchvision()  # beside a torch without CUDA
    try:
        from geoai.train import semantic_inference_on_geotiff
    except ImportError as error:
        print(f"geoai is not installed or does not import ({error}): left out")
    else:
        found["geoai semantic_inference_on_geotiff, defaults"] = _geoai(network, card, semantic_inference_on_geotiff)
    return found


def _geoai(network: Network, card: ModelCard, inference: Callable[..., Any]) -> Callable[[Any], Labels]:
    class Normalising(torch.nn.Module):
        """geoai divides by 255 and no more."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (card.mean, card.std))
            out: torch.Tensor = network((x - mean) / std)
            return out

    def run(pixels: Any) -> Labels:
        import rasterio

        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "in.tif", Path(folder) / "out.tif"
            profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": "EPSG:32633"}
            height, width = pixels.shape[1:]
            transform = rasterio.Affine(0.035, 0, 400000, 0, -0.035, 5000000)
            with rasterio.open(source, "w", height=height, width=width, transform=transform, **profile) as file:
                file.write(pixels)
            inference(Normalising().eval(), str(source), str(target), num_classes=len(card.legend), device="cpu")
            with rasterio.open(target) as file:
                labels: Labels = file.read(1)
        return labels

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=4096, help="side of the raster that segment() maps")
    parser.add_argument("--scene", type=int, default=1280, help="side of the scene that every way maps")
    parser.add_argument("--model", default=None)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--parts", default="network,whole,job", help="which of the three tables")
    given = parser.parse_args()
    card, network = load_network(given.model)
    specs = exact_ways(given.model, given.device)
    ways: dict[str, Any] = {
        "512 px, 64 px overlap, eager fp32": Naive(network, card, given.device, 64, blend=False),
        "512 px blended at half overlap, eager fp32": Naive(network, card, given.device, 256, blend=True),
    }
    ways |= {name: Exact(spec) for name, spec in specs.items()}
    report: dict[str, Any] = {"machine": _machine(given.device), "torch": torch.__version__}
    if "network" in given.parts:
        with tempfile.TemporaryDirectory() as folder:
            report["network alone"] = network_alone(
                ways | _onnx(network, card, given.device, Path(folder)), given.rounds
            )
        _show(report["network alone"])
    if "whole" in given.parts:
        peers = installed_peers(network, card) if given.peers else {}
        report["whole raster"] = whole_raster(ways, card, given.scene, peers)
        _show(report["whole raster"])
    if "job" in given.parts:
        report["segment()"] = end_to_end(given.model, given.device, given.size)
        if given.device == "cuda":
            work = work_per_pixel(network, choose_size(choose("cuda", "auto", "auto"))[0])
            share = report["segment()"]["mpx_per_s"] * 1e6 * FLOP_PER_PX * work / H200_BF16
            report["segment()"]["share_of_790_tflops"] = round(share, 3)
        print(json.dumps(report["segment()"], indent=1))
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _onnx(network: Network, card: ModelCard, device: str, folder: Path) -> dict[str, Any]:
    try:
        import onnx  # noqa: F401

        return {"exact, onnxruntime fp32, core 1024": OnnxRuntime(network, card, folder)} if device == "cpu" else {}
    except ImportError as error:
        print(f"{error}: ONNX Runtime left out")
        return {}


def _machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {torch.get_num_threads()} threads"


def _show(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    widths = [max(len(str(row[name])) for row in [*rows, dict.fromkeys(names, name) | {name: name}]) for name in names]
    for row in [dict(zip(names, names, strict=True)), *rows]:
        print("  ".join(str(row[name]).ljust(width) for name, width in zip(names, widths, strict=True)))
    print(flush=True)


if __name__ == "__main__":
    main()

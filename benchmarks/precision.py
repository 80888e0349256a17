"""What each runtime and precision does to the labels, and what it gains, on the held-out frames of a configuration.

    python benchmarks/precision.py configs/training/drone.toml DATA_DIR [--model DIR] [--frames N]

Prints one line each: share of pixels labelled as torch does in fp32, pixel accuracy, mean IoU, seconds per megapixel.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aerialseg.datasets.images import read_image
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import find_pairs, read_split, split_pairs
from aerialseg.errors import AerialsegError
from aerialseg.evaluation.scores import Confusion
from aerialseg.legend import Legend
from aerialseg.model.device import PRECISIONS, RUNTIMES
from aerialseg.model.predictor import ModelPredictor, resolve
from aerialseg.training.config import TrainingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--frames", type=int, default=0, help="so many of them, spread evenly (0: all)")
    given = parser.parse_args()
    config = TrainingConfig.read(given.config)
    legend = Legend.from_csv(config.data.legend)
    _, held = split_pairs(find_pairs(given.data, config.data), read_split(config.data.split))
    frames = list(held.values())[:: max(1, len(held) // (given.frames or len(held)))]
    ways = dict(ways_here(given.model))
    print(f"{len(frames)} frames\nway                   as torch fp32  accuracy  mean IoU  s/Mpx")
    counts = {name: Confusion.empty(len(legend)) for name in ways}
    agreed, seconds, pixels = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0.0), 0
    for image_path, mask_path in frames:
        image = np.ascontiguousarray(np.asarray(read_image(image_path, config.data.size)).transpose(2, 0, 1))
        truth = read_mask(mask_path, legend, config.data.void)
        pixels += truth.size
        said: dict[str, np.ndarray] = {}
        for name, predictor in ways.items():
            started = time.perf_counter()
            said[name] = predictor.predict_array(image).classes
            seconds[name] += time.perf_counter() - started
            agreed[name] += int((said[name] == said["torch fp32"]).sum())
            counts[name] += Confusion.of(truth, said[name], len(legend))
    for name, found in counts.items():
        print(
            f"{name:20}  {agreed[name] / pixels:13.4f}  {found.pixel_accuracy:8.4f}  {found.mean_iou:8.4f}"
            f"  {seconds[name] / pixels * 1e6:5.2f}"
        )


def ways_here(model: str | None) -> Iterator[tuple[str, ModelPredictor]]:
    """Each runtime and precision that this machine and the model have on a CPU."""
    for runtime in RUNTIMES[1:]:
        for precision in PRECISIONS[1:]:
            try:
                spec = resolve(model, device="cpu", precision=precision, runtime=runtime)
            except AerialsegError:
                continue
            yield f"{runtime} {precision}", spec.load()


if __name__ == "__main__":
    main()

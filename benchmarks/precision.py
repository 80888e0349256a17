"""How far bf16 labels agree with fp32 ones, and what bf16 gains, on the held-out frames of a training configuration.

    python benchmarks/precision.py configs/training/drone.toml DATA_DIR [--model DIR] [--frames N]

Prints JSON: agreement (share of pixels with the same label), accuracy of each precision, seconds per megapixel.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from aerialseg.legend import NODATA, Legend
from aerialseg.model.store import resolve
from aerialseg.training.config import TrainingConfig
from aerialseg.training.dataset import find_pairs, read_image, read_mask, read_split, split_pairs
from aerialseg.training.evaluate import predict_frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default=None)
    parser.add_argument("--frames", type=int, default=8)
    given = parser.parse_args()
    print(json.dumps(measure(given.config, given.data, given.model, given.frames), indent=1))


def measure(config_path: Path, data: Path, model: str | None, frames: int) -> dict[str, float]:
    config = TrainingConfig.read(config_path)
    legend = Legend.from_csv(config.data.legend)
    _, held = split_pairs(find_pairs(data, config.data), read_split(config.data.split))
    chosen = list(held.values())[:: max(1, len(held) // frames)][:frames]
    specs = {name: resolve(model, precision=name) for name in ("fp32", "bf16")}
    said: dict[str, list[np.ndarray]] = {name: [] for name in specs}
    seconds = dict.fromkeys(specs, 0.0)
    truth = []
    for image_path, mask_path in chosen:
        pixels = np.ascontiguousarray(np.asarray(read_image(image_path, config.data.size)).transpose(2, 0, 1))
        truth.append(read_mask(mask_path, legend, config.data.void))
        for name, spec in specs.items():
            predictor = spec.load()
            started = time.perf_counter()
            said[name].append(predict_frame(predictor, pixels, halo=spec.card.halo).classes)
            seconds[name] += time.perf_counter() - started
    megapixels = sum(part.size for part in said["fp32"]) / 1e6
    return {
        "frames": len(chosen),
        "agreement": round(
            float(np.mean([np.mean(a == b) for a, b in zip(said["fp32"], said["bf16"], strict=True)])), 5
        ),
        **{f"accuracy_{name}": round(_accuracy(said[name], truth), 4) for name in specs},
        **{f"seconds_per_megapixel_{name}": round(seconds[name] / megapixels, 2) for name in specs},
    }


def _accuracy(said: list[np.ndarray], truth: list[np.ndarray]) -> float:
    right = known = 0
    for predicted, mask in zip(said, truth, strict=True):
        if mask.shape == predicted.shape:
            right += int(((predicted == mask) & (mask != NODATA)).sum())
            known += int((mask != NODATA).sum())
    return right / known if known else float("nan")


if __name__ == "__main__":
    main()

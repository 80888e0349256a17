"""What helps training, one thing at a time: configs/training/ablation.toml and variants of it, judged by place.

    python benchmarks/ablation.py --data DIR --weights DIR_OF_WEIGHTS --out FOLDER [--only NAME,NAME]

Some minutes of a core each. Goes on where it was cut off; prints a Markdown table of all that is done. The second seed
tells what chance does: differences that are no larger say nothing.
"""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerialseg.progress import Silent
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.pyramid import Pyramid
from aerialseg.training.distillation.teacher import score_teacher
from aerialseg.training.distillation.torchvision_encoders import bare_resnet
from aerialseg.training.learner import use_bf16
from aerialseg.training.loop import TrainingLoop
from aerialseg.training.training_frames import load_training_frames

CONFIG = Path(__file__).parents[1] / "configs" / "training" / "ablation.toml"
DEEPENED, TEACHERS = "resnet18-encoder-fp16.safetensors", "resnet50v1-imagenet1k-fp16.safetensors"
STEPS = "steps"
VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "another seed": {"seed": 1},
    "a ResNet-50 with ImageNet weights": {
        "encoder": {"arch": "resnet50", "start": "pretrained", "v1": True, "calibrate": 0}
    },
    "from random weights": {"encoder": {"start": "scratch"}},
    "no flips and turns": {"augment": {"turn": False}},
    "no change of scale": {STEPS: {"zoom": [1.0, 1.0]}},
    "no change of light and hue": {"augment": {"lighting": 0.0, "hue": 0.0}},
    "no crops centred on rare classes": {STEPS: {"balanced": 0.0}},
    "rare classes weigh no more": {"balance": 0.0},
}


def varied(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a configuration with a variant's values; those of ``steps`` go into each step."""
    values = dict(base)
    for name, value in change.items():
        if name == STEPS:
            values[STEPS] = [{**step, **value} for step in base[STEPS]]
        else:
            values[name] = {**base[name], **value} if isinstance(value, dict) else value
    return values


def run(name: str, given: argparse.Namespace) -> dict[str, float]:
    """Scores and seconds of one variant, trained if it is not yet."""
    work = given.out / name.replace(" ", "-")
    work.mkdir(parents=True, exist_ok=True)
    found = work / "scores.json"
    if not found.exists():
        config = TrainingConfig.from_dict(varied(tomllib.loads(CONFIG.read_text()), VARIANTS[name]), CONFIG.parent)
        sides = load_training_frames(config, given.data, given.out / "prepared", Silent())
        weights = given.weights / (TEACHERS if config.encoder.arch == "resnet50" else DEEPENED)
        started = time.monotonic()
        saved = TrainingLoop(config, sides, work, weights).run()
        network = Pyramid(bare_resnet(config.encoder.arch, v1=config.encoder.v1), len(sides.legend))
        network.load_state_dict(saved.weights)
        confusion = score_teacher(network, sides.held, sides.legend, config, use_bf16(config.precision))
        scores = {"accuracy": confusion.pixel_accuracy, "mean_iou": confusion.mean_iou}
        found.write_text(json.dumps({**scores, "seconds": time.monotonic() - started}))
    return dict(json.loads(found.read_text()))


def main() -> None:
    """Run what is wanted; print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default=",".join(VARIANTS))
    given = parser.parse_args()
    print("| what is varied | pixel accuracy | mean IoU | seconds |\n|---|---|---|---|")
    for name in given.only.split(","):
        scores = run(name, given)
        print(f"| {name} | {scores['accuracy']:.3f} | {scores['mean_iou']:.3f} | {scores['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    main()

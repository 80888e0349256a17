"""How much several teachers know together, and how much more when they look eight times.

    python benchmarks/teachers.py configs/training/teacher.toml DATA_DIR TEACHER_DIR ...

Each alone, all together and all together over the eight flips and turns of each frame, on the held-out frames: what a
network that follows them (``[follow]`` of a training configuration) has to learn from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from aerialseg.datasets.pairs import find_pairs, read_split, split_pairs
from aerialseg.legend import Legend
from aerialseg.model.tta import TURNS, Turn
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.teacher import read_teacher, score_teacher
from aerialseg.training.learner import use_bf16


class Together(nn.Module):
    """Logarithms of the mean probability of several networks, each of which looks at an image in several turns."""

    def __init__(self, networks: Sequence[nn.Module], turns: Sequence[Turn]) -> None:
        super().__init__()
        self.networks, self.turns = nn.ModuleList(networks), turns

    def forward(self, x: Tensor) -> Tensor:
        looks = [turn.back(network(turn.ahead(x))).float() for network in self.networks for turn in self.turns]
        return torch.stack([look.softmax(1) for look in looks]).mean(0).log()


def main() -> None:
    """Print the scores of all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("teachers", type=Path, nargs="+")
    given = parser.parse_args()
    read = TrainingConfig.read(given.config)
    legend = Legend.from_csv(read.data.legend)
    held = split_pairs(find_pairs(given.data, read.data), read_split(read.data.split))[1]
    networks = [read_teacher(path, legend).network for path in given.teachers]
    asked = [
        (str(path), Together([network], TURNS[:1])) for path, network in zip(given.teachers, networks, strict=True)
    ]
    asked += [("together", Together(networks, TURNS[:1])), ("together, eight looks", Together(networks, TURNS))]
    print(f"{len(held)} held-out frames at {read.data.size[0]} x {read.data.size[1]} px: accuracy, mean IoU")
    for name, network in asked:
        confusion = score_teacher(network, held, legend, read, use_bf16(read.precision))
        print(f"{name}: {confusion.pixel_accuracy:.4f} {confusion.mean_iou:.4f}", flush=True)


if __name__ == "__main__":
    main()

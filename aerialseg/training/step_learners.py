"""The learner of each step of a training: its network as far as the step trains it, its crops, and how it begins."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aerialseg.datasets.pairs import class_weights
from aerialseg.training import weight_averaging as averaging
from aerialseg.training.checkpoint import Saved, plain_state, read_checkpoint
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.dataset import make_loaders
from aerialseg.training.finer_layers import initialise_finer_layers
from aerialseg.training.learner import (
    autocast,
    make_learner,
    seed_everything,
    some_batches,
)
from aerialseg.training.partial_unet import load_weights
from aerialseg.training.training_frames import TrainingFrames

ESTIMATED_ON = 64
"""Crops from which BatchNorm is estimated where the network has grown."""


class StepLearners:
    """Makes the learners of one training run."""

    def __init__(self, config: TrainingConfig, sides: TrainingFrames, work: Path, bf16: bool) -> None:
        self.config, self.sides, self.work, self.bf16 = config, sides, work, bf16

    def bare(self, step: Step, at_once: int) -> Any:
        learn, legend = self.sides.learn, self.sides.legend
        forks = multiprocessing.get_start_method() == "fork"  # what the loaders look up cannot be pickled
        workers = min(8, os.cpu_count() or 1) if torch.cuda.is_available() and forks else 0
        batch = min(at_once, len(learn))
        loaders = make_loaders(
            learn,
            self.sides.watched,
            legend,
            step,
            self.config.augment,
            batch=batch,
            workers=workers,
            normalisation=self.sides.normalisation,
        )
        balance = self.config.balance
        weights = torch.from_numpy(class_weights(learn, len(legend), balance)) if balance else None
        learner = make_learner(loaders, self.config, len(legend), weights, step.stride)
        learner.path, learner.model_dir = self.work, "search"
        return learner

    def begin(self, learner: Any, number: int, step: Step, saved: Saved) -> None:
        """Give a step the weights that it begins with: the last ones or the mean of several, and finer layers grown."""
        before = self.config.steps[number - 1]
        if step.average > 1:
            files = [step_file(number - back) for back in reversed(range(1, step.average + 1))]
            mean = averaging.load_average(self.work, files, learner, bf16=self.bf16, estimate=not before.keep_norms)
            saved = replace(saved, weights=mean)
        self.grow(learner, before.stride, step.stride, saved)

    def whole(self, number: int) -> Saved:
        """The checkpoint that a finished step left, as one of the whole network.

        After a step with a stride the finer layers pass on what its coarse classifier says (``growing``).
        """
        saved, step = read_checkpoint(self.work, step_file(number)), self.config.steps[number]
        assert saved is not None
        if step.stride == 1:
            return saved
        seed_everything(self.config.seed)
        at_once = next(found["at_once"] for found in saved.searches if found["step"] == number)
        learner = self.bare(replace(step, stride=1), at_once)
        load_weights(learner.model, saved.weights)
        self.grow(learner, step.stride, 1, saved)
        return replace(saved, weights=plain_state(learner.model))

    def grow(self, learner: Any, coarser: int, finer: int, saved: Saved) -> None:
        """Let the layers from one stride to a finer one begin with what the coarse classifier says."""
        if coarser > finer:
            device, classes = learner.dls.device, len(self.sides.legend)
            coarse, bias = (saved.weights[f"aside.{name}"][:classes].to(device) for name in ("weight", "bias"))
            with autocast(device, self.bf16):
                initialise_finer_layers(
                    learner.model.to(device), coarse, bias, coarser, some_batches(learner.dls, ESTIMATED_ON)
                )


def step_file(number: int) -> str:
    """The checkpoint that a finished step leaves."""
    return f"step{number}.safetensors"

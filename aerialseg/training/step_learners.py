"""The learner of each step of a training: its network as far as the step trains it, its crops, and how it begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aerialseg.training.checkpoint import Saved, plain_state, read_checkpoint
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.distillation.pyramid import WIDTH
from aerialseg.training.distillation.teacher_learner import start_teacher, teacher_learner
from aerialseg.training.growing import weight_averaging as averaging
from aerialseg.training.growing.finer_layers import initialise_finer_layers
from aerialseg.training.growing.partial_unet import PartialUNet, load_weights, whole_network
from aerialseg.training.learner import autocast, make_learner, seed_everything, some_batches, start_encoder
from aerialseg.training.training_frames import TrainingFrames

ESTIMATED_ON = 64
"""Crops from which BatchNorm is estimated where the network has grown."""


class StepLearners:
    """Makes the learners of one training run."""

    def __init__(self, config: TrainingConfig, sides: TrainingFrames, work: Path, bf16: bool) -> None:
        self.config, self.sides, self.work, self.bf16 = config, sides, work, bf16

    def bare(self, step: Step, at_once: int) -> Any:
        """From random weights, of the network as far as the step trains it."""
        network_learner = teacher_learner if self.config.teaches else None
        learner = make_learner(self.config, self.sides, step, at_once, network_learner)
        if step.stride > 1:
            hints = WIDTH if self.config.follow.hints else 0
            part = PartialUNet(learner.model, step.stride, len(self.sides.legend), hints)
            learner.model = part.to(learner.dls.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner.path, learner.model_dir = self.work, "search"
        return learner

    def start(self, learner: Any, weights: str | Path | None) -> None:
        """Give the first step's network the weights that the configuration starts from. Raises as `start_encoder`."""
        if self.config.teaches:
            start_teacher(learner, self.config, weights)
        else:
            start_encoder(whole_network(learner.model), learner.dls, self.config, weights)

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

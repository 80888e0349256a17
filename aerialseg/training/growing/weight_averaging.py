"""The mean of the weights that several steps ended with, which does better in places unseen than any of them.

Steps that train the same layers again and again, each a one-cycle of its own, end at different points of one wide
valley, whose middle is lower than its sides. (Izmailov et al. 2018, "Averaging weights leads to wider optima and better
generalization", arXiv 1803.05407.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aerialseg.training.checkpoint import Saved, plain_state, read_checkpoint, write_checkpoint
from aerialseg.training.encoder import calibrate
from aerialseg.training.growing.partial_unet import load_weights
from aerialseg.training.learner import autocast, some_batches

NAME = "averaged.safetensors"
"""Checkpoint that a finished training leaves beside the others, where its configuration averages."""
ESTIMATED_ON = 128
"""Crops from which BatchNorm is estimated anew."""


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor, summed in float64; of counts the last."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(last.dtype)
        if last.is_floating_point()
        else last
        for name, last in states[-1].items()
    }


def load_average(folder: Path, files: Sequence[str], learner: Any, *, bf16: bool, estimate: bool) -> dict[str, Tensor]:
    """Give the learner's model the mean of the weights in the steps' ``files``; that mean.

    BatchNorm is estimated again on crops of the learner's frames if ``estimate`` says so, for the statistics of several
    weights are not those of their mean.
    """
    ends = [read_checkpoint(folder, name) for name in files]
    mean = mean_weights([end.weights for end in ends if end is not None])
    load_weights(learner.model, mean)
    if estimate:
        with autocast(learner.dls.device, bf16):
            calibrate(learner.model.to(learner.dls.device), some_batches(learner.dls, ESTIMATED_ON))
    return mean


def write_average(folder: Path, files: Sequence[str], learner: Any, *, bf16: bool, estimate: bool) -> None:
    """Leave in ``folder`` the last checkpoint with the weights of ``load_average``; learner: of the last step."""
    last = read_checkpoint(folder)
    assert last is not None
    load_average(folder, files, learner, bf16=bf16, estimate=estimate)
    write_checkpoint(folder, replace(last, weights=plain_state(learner.model), optimizer={}), NAME)


def read_finished(folder: Path) -> Saved | None:
    """The checkpoint that a model is made of: the averaged one if there is one, else the last epoch's."""
    return read_checkpoint(folder, NAME) or read_checkpoint(folder)

"""Classifiers on the stages of a frozen encoder: multinomial logistic regression on labelled pixels, in seconds.

Features are standardised, classes weigh alike, and the loss is convex: from any start L-BFGS finds the same weights.
(Liu & Nocedal 1989, "On the limited memory BFGS method for large scale optimization", 10.1007/BF01589116.)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.model.network import Network
from aerialseg.model.stage_heads import StageHeads, stage_features
from aerialseg.progress import Progress
from aerialseg.training.teaching.chip_pixels import ChipPixels

PENALTY = 0.3
"""Of the squared weights, as a part of the loss of 100 pixels: what did best on three kinds of imagery."""
PIXELS = 3000
"""Of each class, at most: neighbouring pixels say the same."""
STEPS = 200
_LEAST_SPREAD = 1e-3


def fit_heads(network: StageHeads, chips: ChipPixels, seed: int, progress: Progress) -> None:
    """Let the heads of ``network`` tell the classes of the labelled pixels of ``chips``; its encoder stays as it is."""
    features, truth = sample_features(network, chips, seed, progress)
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(_LEAST_SPREAD)
    weights, bias = fit_regression((features - mean) / spread, truth, network.classes)
    weights /= spread
    put_into_heads(network, weights, bias - weights @ mean)


@torch.no_grad()
def put_into_heads(network: StageHeads, weights: Tensor, bias: Tensor) -> None:
    """Weights (classes, features) to the heads whose features they are of, coarse to fine; the bias to the first."""
    heads = network.readers
    parts = torch.split(weights, [head.in_channels for head in heads], dim=1)
    for number, (head, part) in enumerate(zip(heads, parts, strict=True)):
        head.weight.copy_(part[:, :, None, None])
        if head.bias is not None:
            head.bias.copy_(bias if number == 0 else torch.zeros_like(bias))


def fit_regression(features: Tensor, truth: Tensor, classes: int, penalty: float = PENALTY) -> tuple[Tensor, Tensor]:
    """(weights (classes, features), bias (classes,)) of standardised features; classes without a pixel never win."""
    counts = torch.bincount(truth, minlength=classes).float()
    share = (1 / counts.clamp_min(1))[truth]
    share /= share.sum()
    weights = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        error = F.cross_entropy(features @ weights.T + bias, truth, reduction="none") @ share
        total = error + penalty / 200 * weights.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        bias[counts == 0] = float(bias.min()) - 100
    return weights.detach(), bias.detach()


@torch.no_grad()
def sample_features(network: Network, chips: ChipPixels, seed: int, progress: Progress) -> tuple[Tensor, Tensor]:
    """(features float32 (n, channels of all stages), classes int64 (n,)) of labelled pixels, drawn evenly."""
    progress.stage("teach", len(chips.frames))
    network.eval()
    wanted = np.minimum(1.0, PIXELS / np.maximum(1, chips.counts.sum(axis=0)))
    features, truth = [], []
    for number in range(len(chips.frames)):
        image, mask = chips.chip(number)
        rows, cols = _draw(mask, wanted, np.random.default_rng((seed, number)))
        if len(rows):
            stages = stage_features(network, chips.normalised(image)[None])
            features.append(_at(stages, rows, cols, mask.shape))
            truth.append(torch.from_numpy(mask[rows, cols].astype(np.int64)))
        progress.advance(1)
    return torch.cat(features), torch.cat(truth)


def _draw(
    mask: NDArray[np.uint8], wanted: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(rows, columns) of the share of each class's pixels that is wanted, at least one of each that is there."""
    chosen = []
    for number, share in enumerate(wanted):
        places = np.flatnonzero(mask == number)
        if len(places):
            chosen.append(rng.choice(places, max(1, round(share * len(places))), replace=False))
    rows, cols = np.divmod(np.concatenate(chosen) if chosen else np.zeros(0, np.intp), mask.shape[1])
    return rows, cols


def _at(stages: list[Tensor], rows: NDArray[np.intp], cols: NDArray[np.intp], shape: tuple[int, int]) -> Tensor:
    """The features (n, channels) of all stages at the centres of pixels, interpolated."""
    x, y = (torch.from_numpy((at + 0.5) / side * 2 - 1) for at, side in ((cols, shape[1]), (rows, shape[0])))
    grid = torch.stack([x, y], dim=1).float()[None, None]
    found = [F.grid_sample(one, grid, padding_mode="border", align_corners=False)[0, :, 0] for one in stages]
    return torch.cat(found).T.contiguous()

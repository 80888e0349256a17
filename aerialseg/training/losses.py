"""Losses in which void does not count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.datasets.masks import VOID
from aerialseg.training.torchvision_fix import mend_torchvision

mend_torchvision()

from fastai.vision.all import CrossEntropyLossFlat  # noqa: E402

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(name: str, weights: Tensor | None = None) -> Any:
    """The loss of a configuration's name, of logits (B, classes, h, w) and class ids (B, h, w). weights: by class."""
    if name == "focal":
        return FocalLoss(weights)
    if name == "dice":
        return DiceLoss()
    cross_entropy = CrossEntropyLossFlat(axis=1, ignore_index=VOID, weight=weights)
    return SumOfLosses(cross_entropy, DiceLoss()) if name == "cross-entropy+dice" else cross_entropy


class FocalLoss(nn.Module):
    """Cross-entropy in which a pixel counts (1 - its probability) ** gamma (Lin et al. 2017, arXiv 1708.02002)."""

    def __init__(self, weights: Tensor | None = None, gamma: float = 2.0) -> None:
        super().__init__()
        self.weights, self.gamma = weights, gamma

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        logits, truth = plain(logits), plain(truth)
        known = truth != VOID
        chosen = truth.clamp(max=logits.shape[1] - 1).unsqueeze(1)
        log_p = F.log_softmax(logits, dim=1).gather(1, chosen).squeeze(1)
        count = known.float() if self.weights is None else self.weights[chosen.squeeze(1)] * known
        losses = -((1 - log_p.exp()) ** self.gamma) * log_p * count
        return losses.sum() / count.sum().clamp(min=1e-6)


class DiceLoss(nn.Module):
    """1 - the soft Dice coefficient, the mean over the classes that occur in the batch (Milletari et al. 2016)."""

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        logits, truth = plain(logits), plain(truth)
        known = (truth != VOID).unsqueeze(1)
        said = F.softmax(logits, dim=1) * known
        right = torch.zeros_like(said).scatter_(1, truth.clamp(max=logits.shape[1] - 1).unsqueeze(1), 1.0) * known
        both, total, occurs = (said * right).sum((0, 2, 3)), (said + right).sum((0, 2, 3)), right.sum((0, 2, 3)) > 0
        dice = 2 * both[occurs] / total[occurs]
        return 1 - dice.mean() if len(dice) else logits.sum() * 0


class SumOfLosses(nn.Module):
    """Several losses, added."""

    def __init__(self, *losses: Any) -> None:
        super().__init__()
        self.losses = losses

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        total: Tensor = sum(plain(loss(logits, truth)) for loss in self.losses)  # type: ignore[assignment]
        return total


def plain(tensor: Tensor) -> Tensor:
    """Without fastai's subclass, whose every operation costs a detour."""
    return tensor.as_subclass(torch.Tensor)

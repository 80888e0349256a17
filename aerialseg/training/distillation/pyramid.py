"""A light network to teach with: a ResNet of any depth under a feature pyramid, which gives classes at stride 8.

Over a ResNet-50 fastai's decoder is many times as large as the ResNet; a pyramid of ``WIDTH`` channels is small, and
what is wanted of a teacher is the ResNet's eye for things, not sharp outlines. (Lin et al. 2017, "Feature pyramid
networks for object detection", arXiv 1612.03144.)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.training.distillation.torchvision_encoders import StageFeatures

WIDTH = 128
"""Channels of the pyramid, and so of the hints."""
STRIDE = 8


class Pyramid(nn.Module):
    """Logits (B, classes, h, w) of images (B, 3, h, w), computed at stride 8 and interpolated."""

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = StageFeatures(encoder)
        self.laterals = nn.ModuleList(_normed(n, WIDTH, 1) for n in self.encoder.channels[1:])
        self.context = _normed(WIDTH, WIDTH, 3)
        self.merge = nn.Sequential(_normed(WIDTH, WIDTH, 3), nn.ReLU(), _normed(WIDTH, WIDTH, 3), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(WIDTH, classes, 1))

    def hints(self, x: Tensor) -> Tensor:
        """(B, WIDTH, h/8, w/8): what all three levels of the pyramid see."""
        fine, middle, coarse = (
            lateral(feature) for lateral, feature in zip(self.laterals, self.encoder(x)[1:], strict=True)
        )
        coarse = F.relu(self.context(F.relu(coarse)))
        return F.relu(fine + _enlarged(F.relu(middle + _enlarged(coarse, middle)), fine))

    def classes(self, hints: Tensor, size: tuple[int, int]) -> Tensor:
        """Logits (B, classes, *size) from hints."""
        logits = self.classifier(self.merge(hints))
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.hints(x), (x.shape[-2], x.shape[-1]))


def _normed(n_in: int, n_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(n_out))


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)

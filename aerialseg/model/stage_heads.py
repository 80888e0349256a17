"""Linear classifiers on a ResNet's stages: what ``aerialseg teach`` fits in seconds, a tenth of a U-Net's work.

Each classifier reads the features of its own stage, and its logits are interpolated to the next finer one and added
there. That is the same as interpolating all features to single pixels and reading them there (Hariharan et al. 2015,
"Hypercolumns for object segmentation", arXiv 1411.5752), without their ever being interpolated. Interpolation is a
fixed convolution of layers whose reach is known, so that a tile equals the whole image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture
from aerialseg.model.encoders import EncoderShape, make_encoder
from aerialseg.model.global_layers import NORMS
from aerialseg.model.network import Doubling, Network

_NEAR, _FAR = 0.75, 0.25
"""What the two nearest cells weigh in one of half their size: bilinear interpolation of cells by their centres."""


class StageHeads(Network):
    """Logits of the stem (stride 2) and the four stages, added. ``heads`` go from coarse (stride 32) to fine."""

    classifier = "heads.0.weight"

    def __init__(
        self, shape: EncoderShape, classes: int, *, bands: int = 3, options: Architecture | None = None
    ) -> None:
        super().__init__()
        options = options or Architecture(decoder="stage-heads")
        if options.blur or options.self_attention or options.norm != "none":
            raise ModelError("stage-heads have no blur, self_attention or norm: leave them out of the card")
        self.encoder = make_encoder(shape, bands, NORMS[options.encoder_norm])
        self.heads = nn.ModuleList(nn.Conv2d(n, classes, 1) for n in (*reversed(shape.channels), shape.stem))
        self.enlarge = enlarging(classes)
        self.finish(classes, bands)

    @property
    def readers(self) -> list[nn.Conv2d]:
        """The classifiers, coarse to fine."""
        return [head for head in self.heads if isinstance(head, nn.Conv2d)]

    def encoder_layers(self) -> nn.Sequential:
        return self.encoder

    def middle(self) -> nn.Module:
        return self.heads[0]

    def doublings(self) -> list[Doubling]:
        steps = [self._doubling(head) for head in self.readers[1:]]
        return [*steps, Doubling(self.enlarge, lambda up, _: up, nn.Identity(), joins=False)]

    def _doubling(self, head: nn.Module) -> Doubling:
        return Doubling(self.enlarge, lambda up, skip: up + head(skip), head)


def enlarging(channels: int) -> nn.Sequential:
    """Bilinear interpolation to twice the resolution, each channel by itself, the edge's cells repeated beyond it."""
    convolution = nn.Conv2d(channels, channels * 4, 3, groups=channels, bias=False)
    before, after = torch.tensor([_FAR, _NEAR, 0.0]), torch.tensor([0.0, _NEAR, _FAR])
    kernels = torch.stack([rows[:, None] * cols for rows in (before, after) for cols in (before, after)])
    with torch.no_grad():
        convolution.weight.copy_(kernels[:, None].repeat(channels, 1, 1, 1))
    convolution.weight.requires_grad_(False)
    return nn.Sequential(nn.ReplicationPad2d(1), convolution, nn.PixelShuffle(2))


def stage_features(network: Network, images: Tensor) -> list[Tensor]:
    """What the heads read, coarse to fine: the outputs of the four stages from the last, and of the stem."""
    found, out = [], images
    for number, stage in enumerate(network.encoder_stages()):
        out = stage(out)
        if number != 1:
            found.append(out)
    return found[::-1]

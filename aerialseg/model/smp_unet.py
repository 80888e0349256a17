"""The ``Unet`` of segmentation_models_pytorch over a ResNet, with that package's parameter names.

Nearest upsampling, concatenation, and two convolutions a block: a quarter of the work of fastai's DynamicUnet. A state
dict of the package loads into it and the other way round. (segmentation_models_pytorch 0.6, MIT:
decoders/unet/decoder.py, base/modules.py, base/heads.py. Ronneberger et al. 2015, "U-Net", arXiv 1505.04597.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import cast

import torch
from torch import nn

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture
from aerialseg.model.encoders import EncoderShape, make_encoder
from aerialseg.model.global_layers import NORMS
from aerialseg.model.network import Doubling, Network
from aerialseg.model.reach import Composed

WIDTHS = (256, 128, 64, 32, 16)
"""Channels of the decoder's blocks, coarse to fine: the package's default."""
ENCODER_NAMES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


class DecoderBlock(Composed):
    """Two convolutions over the enlarged features and the encoder's."""

    def __init__(self, n_in: int, n_out: int, norm: str) -> None:
        super().__init__()
        self.enlarge = nn.UpsamplingNearest2d(scale_factor=2)
        self.conv1 = _convolution(n_in, n_out, norm)
        self.conv2 = _convolution(n_out, n_out, norm)

    def doubling(self) -> Doubling:
        through = nn.Sequential(self.conv1, self.conv2)
        return Doubling(self.enlarge, lambda up, skip: through(torch.cat([up, skip], dim=1)), through)

    def last_doubling(self, head: nn.Module) -> Doubling:
        """That to the image's resolution, which nothing is joined to, and the head behind it."""
        through = nn.Sequential(self.conv1, self.conv2, head)
        return Doubling(self.enlarge, lambda up, _: through(up), through, joins=False)


class Decoder(Composed):
    """The package's container of the blocks."""

    def __init__(self, blocks: Iterable[DecoderBlock]) -> None:
        super().__init__()
        self.center = nn.Identity()
        self.blocks = nn.ModuleList(blocks)


def _convolution(n_in: int, n_out: int, norm: str) -> nn.Sequential:
    """A 3x3 convolution, its norm (then without bias), ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(n_in, n_out, 3, padding=1, bias=norm == "none")]
    return nn.Sequential(*layers, NORMS[norm](n_out), nn.ReLU(inplace=True))


class SmpUNet(Network):
    """smp's ``Unet`` with five blocks, without attention and centre block."""

    classifier = "segmentation_head.0.weight"

    def __init__(
        self, shape: EncoderShape, classes: int, *, bands: int = 3, options: Architecture | None = None
    ) -> None:
        super().__init__()
        options = options or Architecture(decoder="smp-unet", norm="batch")
        if options.blur or options.self_attention:
            raise ModelError("smp's Unet has neither blur nor self_attention: set both to false in the card")
        encoder = make_encoder(shape, bands, NORMS[options.encoder_norm])
        self.encoder = nn.Sequential(OrderedDict(zip(ENCODER_NAMES, encoder, strict=True)))
        skips = (*reversed(shape.channels[:3]), shape.stem, 0)
        before = (shape.channels[3], *WIDTHS[:-1])
        joined = [n_up + n_skip for n_up, n_skip in zip(before, skips, strict=True)]
        self.decoder = Decoder(DecoderBlock(n_in, n, options.norm) for n_in, n in zip(joined, WIDTHS, strict=True))
        self.segmentation_head = nn.Sequential(nn.Conv2d(WIDTHS[-1], classes, 3, padding=1))
        self.finish(classes, bands)

    def encoder_layers(self) -> nn.Sequential:
        return self.encoder

    def middle(self) -> nn.Module:
        return self.decoder.center

    def doublings(self) -> list[Doubling]:
        *blocks, last = cast(list[DecoderBlock], list(self.decoder.blocks))
        return [*(block.doubling() for block in blocks), last.last_doubling(self.segmentation_head)]

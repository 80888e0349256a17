"""fastai's DynamicUnet with narrow fine blocks: a third of its work, and the bundled model's network.

More than half of the work of fastai's decoder over a ResNet-34 is done at strides 4, 2 and 1, where its layers have
256, 96 and 99 channels. Here they have ``WIDTHS``, and one convolution stands in the place of the last residual block.
What lies before them keeps fastai's parameter names: the weights of a trained DynamicUnet load into it.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture
from aerialseg.model.encoders import EncoderShape, make_encoder
from aerialseg.model.global_layers import NORMS
from aerialseg.model.network import Doubling, Network
from aerialseg.model.unet import UpBlock, convolution, upsampling

WIDTHS = (64, 32)
"""Channels of the blocks at strides 4 and 2; the image's resolution has those of stride 2 and its bands."""
SHARED = 6
"""How many of its layers fastai's DynamicUnet has, too: the encoder, the bridge, the blocks at strides 16 and 8."""


class LightUNet(Network):
    """``layers`` has fastai's indices: 0 encoder, 1-3 bridge, 4-7 blocks; 8 enlarges, 9 gives the classes."""

    classifier = "layers.9.0.weight"

    def __init__(
        self, shape: EncoderShape, classes: int, *, bands: int = 3, options: Architecture | None = None
    ) -> None:
        super().__init__()
        options = options or Architecture(decoder="light-unet", norm="batch")
        if options.blur or options.self_attention:
            raise ModelError("a light U-Net has neither blur nor self_attention: set both to false in the card")
        norm, n_up = options.norm, shape.channels[3]
        bridge = nn.Sequential(convolution(n_up, n_up * 2, norm=norm), convolution(n_up * 2, n_up, norm=norm))
        encoder = make_encoder(shape, bands, NORMS[options.encoder_norm])
        layers: list[nn.Module] = [encoder, nn.BatchNorm2d(n_up), nn.ReLU(), bridge]
        skips = (*reversed(shape.channels[:3]), shape.stem)
        for n_skip, width in zip(skips, (None, None, *WIDTHS), strict=True):
            block = UpBlock(n_up, n_skip, norm=norm, width=width)
            layers.append(block)
            n_up = block.n_out
        layers += [upsampling(n_up, n_up, norm=norm)]
        layers.append(nn.Sequential(nn.Conv2d(n_up + bands, classes, 3, padding=1)))
        self.layers = nn.ModuleList(layers)
        self.finish(classes, bands)

    def encoder_layers(self) -> nn.Sequential:
        return cast(nn.Sequential, self.layers[0])

    def middle(self) -> nn.Module:
        return nn.Sequential(*self.layers[1:4])

    def doublings(self) -> list[Doubling]:
        blocks = [block.doubling() for block in self.layers if isinstance(block, UpBlock)]
        return [*blocks, Doubling(self.layers[8], self._classes, self.layers[9])]

    def _classes(self, features: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.layers[9](torch.cat([features, x], dim=1))
        return out

"""The U-Net without its finest layers, which cost most of the computing: what a step with a ``stride`` trains.

Above the encoder each block of fastai's decoder doubles the resolution, and the last ones, at half and full resolution,
take most of the time. A step that stops at stride 8 learns from four to five times as many pixels a second, and what it
teaches (the encoder, the bridge, the coarse half of the decoder) stays when a later step trains the whole. The idea is
that of growing networks (Karras et al. 2018, arXiv 1710.10196), the means is deep supervision (Lee et al. 2015, arXiv
1409.5185): a convolution reads the classes from the coarse features, and is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.model.network import Network
from aerialseg.training.config import STRIDES

ASIDE = "aside."
"""Prefix of what is not part of the network: the coarse classifier."""
_BRIDGED = 4
"""Layers of fastai's DynamicUnet before its first block, whose output has stride 16."""


class PartialUNet(nn.Module):
    """fastai's ``DynamicUnet``, or a ``LightUNet``, down to ``stride``, a power of two from 2 to 16.

    Logits (B, classes, h, w) as it has.

    Shares the layers of ``unet`` and names them alike; those that it leaves out get no gradient. Logits are computed at
    the stride and interpolated to the size of the image, so that loss and metrics see the whole mask. With ``hints``
    the same convolution reads so many channels more, at the stride, which ``hinted`` has after a call: what is compared
    with a teacher's features.
    """

    def __init__(self, unet: Any, stride: int, classes: int, hints: int = 0) -> None:
        super().__init__()
        self.layers, self.sfs = unet.layers, getattr(unet, "sfs", ())
        self._unet = (unet,)  # out of the module's sight, but alive: with it fastai's hooks on the encoder would end
        self.last = layers_down_to(stride)
        self.classes, self.hinted = classes, torch.empty(0)
        self.aside = nn.Conv2d(self._channels(), classes + hints, 1)

    def _channels(self) -> int:
        convolutions = [module for module in self.layers[self.last - 1].modules() if isinstance(module, nn.Conv2d)]
        return convolutions[-1].out_channels

    def __getitem__(self, index: Any) -> nn.Module:
        """A layer or several, as fastai's splitter takes them; the coarse classifier is the last one."""
        return nn.ModuleList([*self.layers, self.aside])[index]

    def forward(self, x: Tensor) -> Tensor:
        logits, self.hinted = self.aside(self._features(x)).tensor_split([self.classes], dim=1)
        return F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)

    def _features(self, x: Tensor) -> Tensor:
        unet = self._unet[0]
        if isinstance(unet, Network):
            return unet.decode(x, self.last - _BRIDGED)
        for layer in self.layers[: self.last]:
            x = layer(x)
        return x


def whole_network(model: nn.Module) -> nn.Module:
    """The U-Net of which a model is a part, with the layers that it leaves out; else the model itself."""
    whole: nn.Module = model._unet[0] if isinstance(model, PartialUNet) else model
    return whole


def layers_down_to(stride: int) -> int:
    """How many of the layers of fastai's ``DynamicUnet`` it takes to come down to a stride from 2 to 16."""
    return _BRIDGED + STRIDES[::-1].index(stride) + 1


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's weights into a U-Net or a part of it; a coarse classifier only where it is of that stride."""
    wanted = model.state_dict()
    own = {name: tensor for name, tensor in wanted.items() if name.startswith(ASIDE)}
    fitting = {name: weights[name] for name, now in own.items() if name in weights and weights[name].shape == now.shape}
    model.load_state_dict({**network_weights(weights), **own, **fitting})


def network_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the network alone."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(ASIDE)}

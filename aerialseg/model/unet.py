"""fastai's DynamicUnet over a ResNet, with fastai's parameter names: a ``state_dict`` loads into it and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.model.card import Architecture
from aerialseg.model.encoders import EncoderShape, make_encoder
from aerialseg.model.global_layers import NORMS, SelfAttention
from aerialseg.model.network import Doubling, Network
from aerialseg.model.reach import Composed

ATTENTIVE = 1
"""Which of the decoder's blocks has the self-attention, if there is one: fastai's choice, at stride 8."""


class UpBlock(Composed):
    """fastai's UnetBlock: doubles the resolution, joins the encoder's features, refines both.

    width: of its enlarged features and of its answer, instead of fastai's widths.
    """

    def __init__(
        self,
        n_up: int,
        n_skip: int,
        *,
        final: bool = False,
        blur: bool = False,
        norm: str = "none",
        attention: bool = False,
        width: int | None = None,
    ) -> None:
        super().__init__()
        enlarged = width or n_up // 2
        joined = enlarged + n_skip
        n_out = width or (joined // 2 if final else joined)
        self.shuf = upsampling(n_up, enlarged, blur=blur, norm=norm)
        self.bn = nn.BatchNorm2d(n_skip)
        self.conv1 = convolution(joined, n_out, norm=norm)
        self.conv2 = convolution(n_out, n_out, norm=norm)
        if attention:
            self.conv2.append(SelfAttention(n_out))
        self.n_out = n_out

    def refine(self, up: Tensor, skip: Tensor) -> Tensor:
        """The block's answer for features that already cover the same cells."""
        out: Tensor = self.conv2(self.conv1(F.relu(torch.cat([up, self.bn(skip)], dim=1), inplace=True)))
        return out

    def doubling(self) -> Doubling:
        return Doubling(self.shuf, self.refine, nn.Sequential(self.conv1, self.conv2))


class ResBlock(Composed):
    """fastai's last block: two convolutions beside the identity."""

    def __init__(self, channels: int, *, norm: str = "none") -> None:
        super().__init__()
        plain = convolution(channels, channels, norm=norm, active=False)
        self.convpath = nn.Sequential(convolution(channels, channels, norm=norm), plain)
        self.idpath = nn.Sequential()

    def branches(self) -> Iterable[nn.Module]:
        return self.convpath, self.idpath

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convpath(x) + x, inplace=True)


def convolution(n_in: int, n_out: int, kernel: int = 3, *, norm: str = "none", active: bool = True) -> nn.Sequential:
    """fastai's ConvLayer: a convolution, its norm (then without bias), ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=norm in ("none", "group")),
        *([NORMS[norm](n_out)] if norm != "none" else []),
        *([nn.ReLU(inplace=True)] if active else []),
    ]
    return nn.Sequential(*layers)


def upsampling(n_in: int, n_out: int, *, blur: bool = False, norm: str = "none") -> nn.Sequential:
    """fastai's PixelShuffle_ICNR: twice the resolution from a 1x1 convolution."""
    layers: list[nn.Module] = [convolution(n_in, n_out * 4, kernel=1, norm=norm), nn.PixelShuffle(2)]
    layers += [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)] if blur else []
    return nn.Sequential(*layers)


class UNet(Network):
    """``layers`` has the indices of fastai's DynamicUnet: 0 encoder, 1-3 bridge, 4-7 decoder, 8 to full resolution,
    (9, 10 resize and merge: no parameters), 11 residual block, 12 classifier.
    """

    classifier = "layers.12.0.weight"

    def __init__(
        self, shape: EncoderShape, classes: int, *, bands: int = 3, options: Architecture | None = None
    ) -> None:
        super().__init__()
        options = options or Architecture()
        skips = (*reversed(shape.channels[:3]), shape.stem)
        n_up, norm, blur = shape.channels[3], options.norm, options.blur
        bridge = nn.Sequential(convolution(n_up, n_up * 2, norm=norm), convolution(n_up * 2, n_up, norm=norm))
        layers: list[nn.Module] = [make_encoder(shape, bands, NORMS[options.encoder_norm])]
        layers += [nn.BatchNorm2d(n_up), nn.ReLU(), bridge]
        for number, n_skip in enumerate(skips):
            attention = options.self_attention and number == ATTENTIVE
            block = UpBlock(n_up, n_skip, final=number == 3, blur=blur, norm=norm, attention=attention)
            layers.append(block)
            n_up = block.n_out
        layers += [upsampling(n_up, n_up, norm=norm), nn.Identity(), nn.Identity(), ResBlock(n_up + bands, norm=norm)]
        layers.append(convolution(n_up + bands, classes, kernel=1, norm=norm, active=False))
        self.layers = nn.ModuleList(layers)
        self.spare = 0  # channels of zeros that fold.py adds to the last layers, for the sake of speed
        self.finish(classes, bands)

    def encoder_layers(self) -> nn.Sequential:
        return cast(nn.Sequential, self.layers[0])

    def middle(self) -> nn.Module:
        return nn.Sequential(*self.layers[1:4])

    def doublings(self) -> list[Doubling]:
        steps = [block.doubling() for block in self.layers if isinstance(block, UpBlock)]
        return [*steps, Doubling(self.layers[8], self._head, nn.Sequential(self.layers[11], self.layers[12]))]

    def _head(self, features: Tensor, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, 0, self.spare)) if self.spare else x
        out: Tensor = self.layers[12](self.layers[11](torch.cat([features, x], dim=1)))
        return out

    def pad_channels(self, multiple: int) -> None:
        """Let the layers at full resolution, 99 wide, be a multiple; what is added is zero and stays zero."""
        residual: Any = self.layers[11]
        first, second, last = residual.convpath[0], residual.convpath[1], cast(Any, self.layers[12])
        self.spare = more = -first[0].in_channels % multiple
        first[0], second[0] = _widened(first[0], more, more), _widened(second[0], more, more)
        last[0] = _widened(last[0], more, 0)


def _widened(conv: nn.Conv2d, more_in: int, more_out: int) -> nn.Conv2d:
    """The convolution with so many more channels, of zero weights and biases."""
    wide = nn.Conv2d(
        conv.in_channels + more_in,
        conv.out_channels + more_out,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=True,
        dtype=conv.weight.dtype,
    ).requires_grad_(False)
    for parameter in wide.parameters():
        parameter.zero_()
    wide.weight[: conv.out_channels, : conv.in_channels] = conv.weight
    if conv.bias is not None and wide.bias is not None:
        wide.bias[: conv.out_channels] = conv.bias
    return wide

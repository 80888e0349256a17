"""The network in plain torch: fastai's DynamicUnet over a ResNet, with fastai's parameter names and explicit skips.

No hooks and no state between calls, so several threads may use one network. A fastai ``state_dict`` loads into it and
the other way round. ``forward_tile`` computes a part of the image that equals the whole: between stages every feature
map is cropped to the cells that the rest of the network still needs (see reach.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.model.reach import Reach, margin_before, round_up
from aerialseg.raster.grid import Box

STRIDE = 32


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """A ResNet as numbers: blocks a stage, channels a stage, and whether blocks are bottlenecks (expansion 4)."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False

    @property
    def stem(self) -> int:
        return self.widths[0]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(width * (4 if self.bottleneck else 1) for width in self.widths)


ENCODERS = {
    "resnet18": EncoderShape((2, 2, 2, 2)),
    "resnet34": EncoderShape((3, 4, 6, 3)),
    "resnet50": EncoderShape((3, 4, 6, 3), bottleneck=True),
    "resnet101": EncoderShape((3, 4, 23, 3), bottleneck=True),
    "resnet10-narrow": EncoderShape((1, 1, 1, 1), (8, 16, 24, 32)),
}
"""Encoders by the name that a model card gives; the last one is for tests and trials."""


class Block(nn.Module):
    """A residual block of torchvision's ResNet, basic or bottleneck."""

    def __init__(self, n_in: int, width: int, stride: int, *, bottleneck: bool) -> None:
        super().__init__()
        n_out = width * (4 if bottleneck else 1)
        sizes = [(n_in, width, 1, 1), (width, width, 3, stride), (width, n_out, 1, 1)]
        sizes = sizes if bottleneck else [(n_in, width, 3, stride), (width, width, 3, 1)]
        self.convs = len(sizes)
        for number, (before, after, kernel, step) in enumerate(sizes, start=1):
            setattr(self, f"conv{number}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{number}", nn.BatchNorm2d(after))
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def branches(self) -> Iterable[nn.Module]:
        yield nn.Sequential(*(getattr(self, f"conv{number}") for number in range(1, self.convs + 1)))
        yield self.downsample or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for number in range(1, self.convs + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            if number < self.convs:
                out = F.relu(out, inplace=True)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class UpBlock(nn.Module):
    """fastai's UnetBlock: doubles the resolution, joins the encoder's features, refines both."""

    def __init__(self, n_up: int, n_skip: int, *, final: bool, blur: bool) -> None:
        super().__init__()
        joined = n_up // 2 + n_skip
        n_out = joined // 2 if final else joined
        self.shuf = upsampling(n_up, n_up // 2, blur=blur)
        self.bn = nn.BatchNorm2d(n_skip)
        self.conv1 = conv_relu(joined, n_out)
        self.conv2 = conv_relu(n_out, n_out)
        self.n_out = n_out

    def forward(self, up: Tensor, skip: Tensor) -> Tensor:
        up = self.shuf(up)
        if up.shape[-2:] != skip.shape[-2:]:
            up = F.interpolate(up, skip.shape[-2:], mode="nearest")
        return self.refine(up, skip)

    def refine(self, up: Tensor, skip: Tensor) -> Tensor:
        """The block's answer for features that already cover the same cells."""
        out: Tensor = self.conv2(self.conv1(F.relu(torch.cat([up, self.bn(skip)], dim=1), inplace=True)))
        return out


class ResBlock(nn.Module):
    """fastai's last block: two convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        plain = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1))
        self.convpath = nn.Sequential(conv_relu(channels, channels), plain)
        self.idpath = nn.Sequential()

    def branches(self) -> Iterable[nn.Module]:
        return self.convpath, self.idpath

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convpath(x) + x, inplace=True)


def conv_relu(n_in: int, n_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2), nn.ReLU(inplace=True))


def upsampling(n_in: int, n_out: int, *, blur: bool = False) -> nn.Sequential:
    """fastai's PixelShuffle_ICNR: twice the resolution from a 1x1 convolution."""
    layers: list[nn.Module] = [conv_relu(n_in, n_out * 4, kernel=1), nn.PixelShuffle(2)]
    layers += [nn.ReplicationPad2d((1, 0, 1, 0)), nn.AvgPool2d(2, stride=1)] if blur else []
    return nn.Sequential(*layers)


def _encoder(shape: EncoderShape, n_in: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(n_in, shape.stem, 7, 2, 3, bias=False), nn.BatchNorm2d(shape.stem)]
    layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    before = shape.stem
    for stage, (depth, width, after) in enumerate(zip(shape.depths, shape.widths, shape.channels, strict=True)):
        stride = 1 if stage == 0 else 2
        blocks = [Block(before, width, stride, bottleneck=shape.bottleneck)]
        blocks += [Block(after, width, 1, bottleneck=shape.bottleneck) for _ in range(depth - 1)]
        layers.append(nn.Sequential(*blocks))
        before = after
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Logits (B, classes, h, w) for normalised images (B, bands, h, w).

    ``layers`` has the indices of fastai's DynamicUnet: 0 encoder, 1-3 bridge, 4-7 decoder, 8 to full resolution,
    (9, 10 resize and merge: no parameters), 11 residual block, 12 classifier.
    """

    def __init__(self, shape: EncoderShape, classes: int, *, bands: int = 3, blur: bool = False) -> None:
        super().__init__()
        self.classes, self.bands = classes, bands
        skips = (*reversed(shape.channels[:3]), shape.stem)
        n_up = shape.channels[3]
        bridge = nn.Sequential(conv_relu(n_up, n_up * 2), conv_relu(n_up * 2, n_up))
        layers: list[nn.Module] = [_encoder(shape, bands), nn.BatchNorm2d(n_up), nn.ReLU(), bridge]
        for number, n_skip in enumerate(skips):
            block = UpBlock(n_up, n_skip, final=number == 3, blur=blur)
            layers.append(block)
            n_up = block.n_out
        layers += [upsampling(n_up, n_up), nn.Identity(), nn.Identity(), ResBlock(n_up + bands)]
        layers.append(nn.Sequential(nn.Conv2d(n_up + bands, classes, 1)))
        self.layers = nn.ModuleList(layers)
        self.reach = find_reach(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a whole image of any size."""
        out, skips = x, []
        for number, stage in enumerate(self._encoder_stages()):
            out = stage(out)
            if number != 1:  # the pooling is the only stage that is not joined again
                skips.append(out)
        out = self.layers[3](self.layers[2](self.layers[1](skips.pop())))
        for block in self._up_blocks():
            out = block(out, skips.pop())
        out = self.layers[8](out)
        if out.shape[-2:] != x.shape[-2:]:
            out = F.interpolate(out, x.shape[-2:], mode="nearest")
        return self._head(out, x)

    def forward_tile(self, x: Tensor, window: Box, core: Box) -> Tensor:
        """Logits of ``core`` alone, equal to what ``forward`` says of the whole image that ``window`` is a part of.

        x covers ``window``, whose edges are multiples of 32. Where the window ends inside the image it must reach
        ``self.reach.halo`` beyond the core; where it ends with the image, the network's own padding applies. Raises
        ValueError where x or core do not fit the window.
        """
        if core not in window or tuple(x.shape[-2:]) != window.shape:
            raise ValueError(
                f"tile of {tuple(x.shape[-2:])} px for {window}, core {core}: wanted the core inside the window"
            )
        return _TilePass(self, window, core).run(x)

    def _encoder_stages(self) -> list[nn.Module]:
        """Stem, pooling, and the four stages: each halves the resolution but the third."""
        encoder = self.layers[0]
        assert isinstance(encoder, nn.Sequential)
        return [encoder[:3], *list(encoder.children())[3:]]

    def _up_blocks(self) -> list[UpBlock]:
        return [block for block in self.layers if isinstance(block, UpBlock)]

    def _head(self, features: Tensor, x: Tensor) -> Tensor:
        out: Tensor = self.layers[12](self.layers[11](torch.cat([features, x], dim=1)))
        return out


class _TilePass:
    """One pass over one tile: which cells each stage needs, as boxes in cells of its stride."""

    def __init__(self, network: UNet, window: Box, core: Box) -> None:
        self.network, self.window, self.core = network, window, core
        self.centre = core.align(STRIDE)

    def cells(self, stride: int, margin: int) -> Box:
        """The cells at ``stride`` that lie within ``margin`` of the core and within the window."""
        return self.centre.scale_down(stride).grow(margin) & self.window.scale_down(stride)

    def run(self, x: Tensor) -> Tensor:
        skips = self._encode(x)
        out, have = self._bridge(*skips.pop())
        stride = STRIDE
        reach = self.network.reach
        for block, margin in zip(self.network._up_blocks(), reach.joins, strict=True):
            stride //= 2
            want = self.cells(stride, margin)
            up, skip = _crop(block.shuf(out), _finer(have), want), _crop(*skips.pop(), want)
            out, have = block.refine(up, skip), want
        want = self.cells(1, reach.final)
        out = _crop(self.network.layers[8](out), _finer(have), want)
        return _crop(self.network._head(out, _crop(x, self.window, want)), want, self.core)

    def _encode(self, x: Tensor) -> list[tuple[Tensor, Box]]:
        """Output of stem and stages, with the cells that each covers."""
        reach = self.network.reach
        margins = [reach.image, reach.pool, *reach.layers]
        out, have, stride, kept = x, self.window, 1, []
        for number, (stage, margin) in enumerate(zip(self.network._encoder_stages(), margins, strict=True)):
            step = 1 if number == 2 else 2
            want = self.cells(stride, round_up(margin, step))
            out, have, stride = stage(_crop(out, have, want)), want.scale_down(step), stride * step
            if number != 1:
                kept.append((out, have))
        return kept

    def _bridge(self, out: Tensor, have: Box) -> tuple[Tensor, Box]:
        layers, want = self.network.layers, self.cells(STRIDE, self.network.reach.middle)
        return layers[3](layers[2](layers[1](_crop(out, have, want)))), want


def _crop(x: Tensor, have: Box, want: Box) -> Tensor:
    rows, cols = want.within(have)
    return x if want == have else x[..., rows, cols]


def _finer(box: Box) -> Box:
    return Box(box.top * 2, box.left * 2, box.bottom * 2, box.right * 2)


def find_reach(network: UNet) -> Reach:
    """The reach of the network, by going backwards through its own layers."""
    final = margin_before(nn.Sequential(network.layers[11], network.layers[12]), 0)
    need = margin_before(network.layers[8], final)
    joins: list[int] = []
    for block in reversed(network._up_blocks()):
        joins.insert(0, margin_before(nn.Sequential(block.conv1, block.conv2), need))
        need = margin_before(block.shuf, joins[0])
    middle = need = margin_before(network.layers[3], need)
    at_16, at_8, at_4, at_2 = joins
    inputs: list[int] = []
    for stage, joined in zip(reversed(network._encoder_stages()), (at_16, at_8, at_4, 0, at_2, final), strict=True):
        need = max(margin_before(stage, need), joined)
        inputs.insert(0, need)
    image, pool, *layers = inputs
    return Reach(final, tuple(joins), middle, tuple(layers), pool, image)


def build(encoder: str, classes: int, *, bands: int = 3, blur: bool = False) -> UNet:
    """The untrained network of an encoder's name. Raises ModelError if the name is not known."""
    shape = ENCODERS.get(encoder)
    if shape is None:
        raise ModelError(f"encoder {encoder!r} is not known: wanted one of {', '.join(ENCODERS)}")
    return UNet(shape, classes, bands=bands, blur=blur)

"""The network in plain torch: fastai's DynamicUnet over a ResNet, with fastai's parameter names and explicit skips.

No hooks and no state between calls, so several threads may use one network. A fastai ``state_dict`` loads into it and
the other way round. ``forward_tile`` computes a part of the image that equals the whole: between stages every feature
map is cropped to the cells that the rest of the network still needs (see reach.py). Layers that look at everything at
once (layers.py) make a network that cannot be exact: its tiles are run as images of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.encoders import ENCODERS, EncoderShape, make_encoder
from aerialseg.model.global_layers import NORMS, SelfAttention
from aerialseg.model.reach import Composed, Margin, Reach, margin_before, round_up, unbounded_layers, widest
from aerialseg.raster.grid import Box

STRIDE = 32
ATTENTIVE = 1
"""Which of the decoder's blocks has the self-attention, if there is one: fastai's choice, at stride 8."""


class UpBlock(Composed):
    """fastai's UnetBlock: doubles the resolution, joins the encoder's features, refines both."""

    def __init__(
        self, n_up: int, n_skip: int, *, final: bool, blur: bool, norm: str = "none", attention: bool = False
    ) -> None:
        super().__init__()
        joined = n_up // 2 + n_skip
        n_out = joined // 2 if final else joined
        self.shuf = upsampling(n_up, n_up // 2, blur=blur, norm=norm)
        self.bn = nn.BatchNorm2d(n_skip)
        self.conv1 = convolution(joined, n_out, norm=norm)
        self.conv2 = convolution(n_out, n_out, norm=norm)
        if attention:
            self.conv2.append(SelfAttention(n_out))
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


class UNet(Composed):
    """Logits (B, classes, h, w) for normalised images (B, bands, h, w).

    ``layers`` has the indices of fastai's DynamicUnet: 0 encoder, 1-3 bridge, 4-7 decoder, 8 to full resolution,
    (9, 10 resize and merge: no parameters), 11 residual block, 12 classifier. ``inexact`` names the layers for which no
    halo is wide enough; where it is empty, a tile with ``reach.halo`` equals the whole image.
    """

    def __init__(
        self, shape: EncoderShape, classes: int, *, bands: int = 3, options: Architecture | None = None
    ) -> None:
        super().__init__()
        options = options or Architecture()
        self.classes, self.bands = classes, bands
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
        self.inexact = tuple(unbounded_layers(self))
        self._reach = None if self.inexact else find_reach(self)

    @property
    def reach(self) -> Reach:
        """How far an answer looks. Raises ModelError, naming the layer, where it looks at everything."""
        if self._reach is None:
            raise ModelError(f"this network has no reach: its layer {self.inexact[0]} looks at the whole image at once")
        return self._reach

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
        ``self.reach.halo`` beyond the core; where it ends with the image, the network's own padding applies. With a
        smaller window, or where ``self.inexact`` names layers, the answer is an approximation. Raises ValueError where
        x or core do not fit the window.
        """
        if core not in window or tuple(x.shape[-2:]) != window.shape:
            raise ValueError(
                f"tile of {tuple(x.shape[-2:])} px for {window}, core {core}: wanted the core inside the window"
            )
        if self.inexact:
            return _crop(self(x), window, core)
        return TilePass(self, window, core).run(x)

    def _encoder_stages(self) -> list[nn.Module]:
        """Stem, pooling, and the four stages: each halves the resolution but the third."""
        encoder = self.layers[0]
        assert isinstance(encoder, nn.Sequential)
        return [encoder[:3], *list(encoder.children())[3:]]

    def _up_blocks(self) -> list[UpBlock]:
        return [block for block in self.layers if isinstance(block, UpBlock)]

    def _head(self, features: Tensor, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, 0, 0, self.spare)) if self.spare else x
        out: Tensor = self.layers[12](self.layers[11](torch.cat([features, x], dim=1)))
        return out


class TilePass:
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
    return x[..., rows, cols]  # always, so that a traced network (trace.py) shows the same steps for every tile


def _finer(box: Box) -> Box:
    return Box(box.top * 2, box.left * 2, box.bottom * 2, box.right * 2)


def find_reach(network: UNet) -> Reach:
    """The reach of the network, by going backwards through its own layers."""
    final = margin_before(nn.Sequential(network.layers[11], network.layers[12]), Margin(0, 0))
    need = margin_before(network.layers[8], final)
    joins: list[Margin] = []
    for block in reversed(network._up_blocks()):
        joins.insert(0, margin_before(nn.Sequential(block.conv1, block.conv2), need))
        need = margin_before(block.shuf, joins[0])
    middle = need = margin_before(network.layers[3], need)
    at_16, at_8, at_4, at_2 = joins
    inputs: list[Margin] = []
    alone = Margin(0, 0)
    for stage, joined in zip(reversed(network._encoder_stages()), (at_16, at_8, at_4, alone, at_2, final), strict=True):
        need = widest([margin_before(stage, need), joined])
        inputs.insert(0, need)
    image, pool, *layers = (margin.cells for margin in inputs)
    return Reach(final.cells, tuple(join.cells for join in joins), middle.cells, tuple(layers), pool, image)


def build(encoder: str, classes: int, *, bands: int = 3, blur: bool = False, **options: Any) -> UNet:
    """The untrained network of an encoder's name; ``options`` are the other ones of ``Architecture``.

    Raises ModelError if a name is not known.
    """
    architecture = Architecture(encoder=encoder, blur=blur, **options)
    shape = ENCODERS.get(architecture.encoder)
    if shape is None:
        raise ModelError(f"encoder {encoder!r} is not known: wanted one of {', '.join(ENCODERS)}")
    if architecture.decoder != "fastai-dynamic-unet":
        raise ModelError(f"decoder {architecture.decoder!r} is not known: wanted 'fastai-dynamic-unet'")
    for norm in (architecture.norm, architecture.encoder_norm):
        if norm not in NORMS:
            raise ModelError(f"norm {norm!r} is not known: wanted one of {', '.join(NORMS)}")
    return UNet(shape, classes, bands=bands, options=architecture)


def build_for(card: ModelCard) -> UNet:
    """The untrained network that a card describes. Raises ModelError."""
    return build(classes=len(card.legend), bands=len(card.bands), **asdict(card.architecture))

"""What every network here is: a ResNet, and a decoder that doubles its resolution five times, back to the image's.

A kind of network (unet.py, smp_unet.py) names its parts; all else is written once: the pass over a whole image, the
pass over a tile that equals it, and the reach that makes the tile exact. No hooks and no state between calls, so
several threads may use one network. Between the parts of a tile's pass every feature map is cropped to the cells that
the rest of the network still needs (tile_crops.py). Layers that look at everything at once (global_layers.py) make a
network that cannot be exact: its tiles are run as images of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.model.reach import Composed, Margin, margin_before, unbounded_layers, widest
from aerialseg.model.tile_crops import POOLING, Reach, find_crops
from aerialseg.raster.grid import Box


@dataclass(frozen=True, slots=True)
class Doubling:
    """One step of a decoder, from features at one stride to those at half of it.

    enlarge: gives twice the resolution. join: what comes out for (enlarged, skip), where skip is what the encoder saw
    at that stride, and the image itself at stride 1; both cover the same cells. through: what ``join`` sends them
    through, as one module, to derive the reach. joins: whether it looks at skip at all.
    """

    enlarge: nn.Module
    join: Callable[[Tensor, Tensor], Tensor]
    through: nn.Module
    joins: bool = True


class Network(Composed):
    """Logits (B, classes, h, w) for normalised images (B, bands, h, w).

    A subclass has the three methods below, ``classifier``, the name of the weights that have one row a class, and calls
    ``finish`` at the end of its ``__init__``. ``inexact`` names the layers for which no halo is wide enough; where it
    is empty, a tile with ``reach.halo`` equals the whole image.
    """

    classifier: str
    classes: int
    bands: int
    inexact: tuple[str, ...] = ()
    _reach: Reach | None = None

    def encoder_layers(self) -> nn.Sequential:
        """Stem (0-2), pooling (3), four stages, as ``make_encoder`` gives them."""
        raise NotImplementedError

    def middle(self) -> nn.Module:
        """What stands between the encoder and the first doubling."""
        raise NotImplementedError

    def doublings(self) -> list[Doubling]:
        """The five steps of the decoder, coarse to fine; the last one gives the logits."""
        raise NotImplementedError

    def pad_channels(self, multiple: int) -> None:
        """Let layers with an odd number of channels have a multiple of so many, by zeros, where there are any."""

    def finish(self, classes: int, bands: int) -> None:
        """Find out whether and how far this network, whose layers are now all there, looks."""
        self.classes, self.bands = classes, bands
        self.inexact = tuple(unbounded_layers(self))
        self._reach = None if self.inexact else find_reach(self)

    @property
    def reach(self) -> Reach:
        """How far an answer looks. Raises ModelError, naming the layer, where it looks at everything."""
        if self._reach is None:
            raise ModelError(
                f"this network has no bounded receptive field: its layer {self.inexact[0]} depends on the "
                "whole image at once"
            )
        return self._reach

    def encoder_stages(self) -> list[nn.Module]:
        """Stem, pooling, and the four stages: each halves the resolution but the third."""
        encoder = self.encoder_layers()
        return [encoder[:3], *list(encoder.children())[3:]]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a whole image of any size."""
        return self.decode(x, len(self.doublings()))

    def decode(self, x: Tensor, steps: int) -> Tensor:
        """What so many of the decoder's steps give for a whole image; all of them give the logits."""
        out, skips = x, [x]
        for number, stage in enumerate(self.encoder_stages()):
            out = stage(out)
            if number != POOLING:
                skips.append(out)
        out = self.middle()(skips.pop())
        for doubling in self.doublings()[:steps]:
            up, skip = doubling.enlarge(out), skips.pop()
            if up.shape[-2:] != skip.shape[-2:]:
                up = F.interpolate(up, skip.shape[-2:], mode="nearest")
            out = doubling.join(up, skip)
        return out

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
            rows, cols = core.within(window)
            whole: Tensor = self(x)
            return whole[..., rows, cols]
        return TilePass(self, window, core).run(x)


class TilePass:
    """One pass over one tile: each crop (tile_crops.py) is a step of its own, so that a trace shows them all."""

    def __init__(self, network: Network, window: Box, core: Box) -> None:
        self.network = network
        self._crops = iter(find_crops(network.reach, window, core).tolist())

    def run(self, x: Tensor) -> Tensor:
        kept = [x]
        for number, stage in enumerate(self.network.encoder_stages()):
            x = stage(self._crop(x))
            if number != POOLING:
                kept.append(x)
        out = self.network.middle()(self._crop(kept.pop()))
        for doubling in self.network.doublings():
            up, skip = self._crop(doubling.enlarge(out)), kept.pop()
            out = doubling.join(up, self._crop(skip) if doubling.joins else skip)
        return self._crop(out)

    def _crop(self, x: Tensor) -> Tensor:
        (top, left), (bottom, right) = next(self._crops)
        return x[..., top:bottom, left:right]


def find_reach(network: Network) -> Reach:
    """The reach of the network, by going backwards through its own layers."""
    need, alone = Margin(0, 0), Margin(0, 0)
    joined: list[Margin] = []
    skipped: list[Margin] = []
    for doubling in reversed(network.doublings()):
        joined.insert(0, margin_before(doubling.through, need))
        skipped.insert(0, joined[0] if doubling.joins else alone)
        need = margin_before(doubling.enlarge, joined[0])
    middle = need = margin_before(network.middle(), need)
    at_16, at_8, at_4, at_2, at_1 = skipped
    inputs: list[Margin] = []
    stages = reversed(network.encoder_stages())
    for stage, skip in zip(stages, (at_16, at_8, at_4, alone, at_2, at_1), strict=True):
        need = widest([margin_before(stage, need), skip])
        inputs.insert(0, need)
    image, pool, *layers = (margin.cells for margin in inputs)
    joins = tuple(margin.cells for margin in joined)
    skips = tuple(doubling.joins for doubling in network.doublings())
    return Reach(joins[-1], joins[:-1], middle.cells, tuple(layers), pool, image, skips)

"""One image cut into tiles in several ways, each against the whole image computed at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.model.card import ModelCard
from aerialseg.model.network import Network
from aerialseg.raster.grid import Box, Grid

TIE = 1e-4
"""Where the two best scores are closer than this, either label is right: kernels round differently for other shapes."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Of ``pixels`` valid ones: how many have another label, how many of those where there is no tie; and the largest
    difference of a score (logit), of any class."""

    pixels: int = 0
    changed: int = 0
    clear_changed: int = 0
    largest: float = 0.0

    def __add__(self, other: Difference) -> Difference:
        return Difference(
            self.pixels + other.pixels,
            self.changed + other.changed,
            self.clear_changed + other.clear_changed,
            max(self.largest, other.largest),
        )


class Whole:
    """What the network says of a whole image: the measure of all tiles.

    pixels: uint8 (C, h, w); valid: bool (h, w). labels, clear (no tie) and valid are arrays of that size. The image is
    padded to the lattice and normalised as the predictor does it. Computes in float32.
    """

    @torch.inference_mode()
    def __init__(
        self,
        network: Network,
        card: ModelCard,
        pixels: NDArray[np.uint8],
        valid: NDArray[np.bool_],
        device: torch.device | str = "cpu",
    ) -> None:
        self.network, self.card, self.valid = network.to(device), card, valid
        self.raster = Box(0, 0, *valid.shape)
        self.canvas = self.raster.align(card.stride)
        self.image = self._normalised(pixels, device)
        self.logits: Tensor = network(self.image)[0]
        self.labels = self.label(self.logits[:, *self.raster.slices])
        best = self._allowed(self.logits[:, *self.raster.slices]).topk(2, dim=0).values
        self.clear: NDArray[np.bool_] = (best[0] - best[1] > TIE).cpu().numpy()

    def _normalised(self, pixels: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.card.mean, self.card.std))
        image = torch.zeros(1, len(pixels), *self.canvas.shape)
        values = (torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255 - mean) / std
        image[0, :, *self.raster.slices] = values.masked_fill_(~torch.from_numpy(self.valid), 0.0)
        return image.to(device, memory_format=torch.channels_last)

    def label(self, logits: Tensor) -> NDArray[np.uint8]:
        """The best class that is not void, uint8 (h, w), of logits (classes, h, w)."""
        labels: NDArray[np.uint8] = self._allowed(logits).argmax(0).to(torch.uint8).cpu().numpy()
        return labels

    def _allowed(self, logits: Tensor) -> Tensor:
        void = list(self.card.void)
        return logits.index_fill(0, torch.tensor(void, device=logits.device), -torch.inf) if void else logits

    def difference(self, core: Box, logits: Tensor) -> Difference:
        """How ``logits`` (classes, h, w) differ from the whole image's in ``core``, where it is valid."""
        valid, clear = self.valid[core.slices], self.clear[core.slices]
        changed = (self.label(logits) != self.labels[core.slices]) & valid
        gap = (logits - self.logits[:, *core.slices]).abs().amax(0)[torch.from_numpy(valid).to(logits.device)]
        largest = float(gap.max()) if len(gap) else 0.0
        return Difference(int(valid.sum()), int(changed.sum()), int((changed & clear).sum()), largest)

    @torch.inference_mode()
    def tiles(self, core_px: int, halo: int) -> Iterator[tuple[Box, Tensor]]:
        """(core, its logits) of tiles on the lattice with this halo, clipped at the border: ours."""
        grid = Grid(*self.raster.shape, block=core_px, halo=halo, stride=self.card.stride)
        for core in grid:
            window = grid.window(core)
            yield core, self.network.forward_tile(self.image[..., *window.slices], window, core)[0]

    @torch.inference_mode()
    def usual_tiles(self, side: int, overlap: int) -> Iterator[tuple[Box, Tensor]]:
        """(core, its logits) of tiles as many tools cut them: the last of a row is pulled back to end with the image.

        Each tile answers as far as the middle of its overlap with the next one.
        """
        height, width = self.raster.shape
        for top, bottom, row in tile_cuts(height, side, overlap):
            for left, right, col in tile_cuts(width, side, overlap):
                core = Box(top, left, bottom, right)
                window = Box(row, col, min(row + side, height), min(col + side, width))
                logits = self.network(self.image[..., *window.slices].contiguous())[0]
                yield core, logits[:, *core.within(window)]

    @torch.inference_mode()
    def moved(self, offset: int) -> Difference | None:
        """The difference when windows start ``offset`` pixels off the lattice; the halo is whole, so nothing else is.

        Only pixels count that no border can reach, in either image. None where there are none.
        """
        stride, reach = self.card.stride, self.card.halo
        shifted = Box(0, 0, self.canvas.height - stride, self.canvas.width - stride)
        if min(shifted.shape) <= 2 * reach:
            return None
        core = shifted.grow(-reach)
        image = self.image[..., offset : offset + shifted.height, offset : offset + shifted.width].contiguous()
        ground = Box(*(edge + offset for edge in (core.top, core.left, core.bottom, core.right))) & self.raster
        part = self.network.forward_tile(image, shifted, core)[0]
        return self.difference(ground, part[:, : ground.height, : ground.width])


def tile_cuts(length: int, side: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """(first pixel, end, start of the tile) along one axis."""
    last = max(0, length - side)
    starts = [*range(0, last, side - overlap), last]
    edges = [0, *(start + overlap // 2 for start in starts[1:]), length]
    yield from zip(edges, edges[1:], starts, strict=False)

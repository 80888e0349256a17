"""Logits of a network at labelled pixels of held-out frames: what a calibration is fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from aerialseg.datasets.images import read_image
from aerialseg.datasets.masks import read_mask
from aerialseg.legend import NODATA
from aerialseg.model.card import ModelCard
from aerialseg.model.network import Network
from aerialseg.raster.grid import Grid

_BLOCK = 1024
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Logits, float32 (pixels, classes), of known pixels, and their true classes, int64 (pixels,)."""

    logits: Tensor
    truth: Tensor

    @classmethod
    def joined(cls, parts: Iterable[Samples]) -> Samples:
        parts = list(parts)
        return cls(torch.cat([part.logits for part in parts]), torch.cat([part.truth for part in parts]))

    def without(self, classes: tuple[int, ...]) -> Samples:
        """The same pixels, had the network never heard of these classes."""
        return Samples(self.logits.index_fill(1, torch.tensor(classes, dtype=torch.int64), -math.inf), self.truth)

    def parts(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(logits, truth) of so many pixels at a time that memory is no question."""
        return zip(torch.split(self.logits, _AT_ONCE), torch.split(self.truth, _AT_ONCE), strict=True)

    def __len__(self) -> int:
        return len(self.truth)


def sample_frame(
    network: Network,
    card: ModelCard,
    image: Path,
    mask: Path,
    size: tuple[int, int] | None,
    most: int,
    rng: np.random.Generator,
) -> Samples:
    """Logits and truth of at most so many known pixels of a frame, drawn evenly from it."""
    picture = read_image(image, size, len(card.bands))
    whole = Image.fromarray(read_mask(mask, card.legend, card.void))
    truth = np.asarray(whole.resize(picture.size, Image.Resampling.NEAREST))
    known = np.flatnonzero(truth != NODATA)
    chosen = np.zeros(truth.shape, dtype=np.bool_)
    chosen.flat[rng.choice(known, min(most, len(known)), replace=False)] = True
    logits, where = logits_at(network, card, np.asarray(picture), chosen)
    return Samples(logits, torch.from_numpy(truth[where].astype(np.int64)))


@torch.inference_mode()
def logits_at(
    network: Network, card: ModelCard, pixels: NDArray[np.uint8], chosen: NDArray[np.bool_]
) -> tuple[Tensor, tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """(logits float32 (n, classes), (rows, columns)) of the chosen pixels (h, w) of an image (h, w, bands).

    The image is looked at in blocks, as a run does: those of an exact model say what the whole image would.
    """
    height, width = chosen.shape
    grid = Grid(height, width, block=_BLOCK, halo=card.halo, stride=card.stride)
    image = (torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - _bands(card.mean)) / _bands(card.std)
    image = F.pad(image, (0, grid.canvas.width - width, 0, grid.canvas.height - height))
    parts, rows, cols = [], [], []
    for core in grid:
        row, col = np.nonzero(chosen[core.slices])
        if not len(row):
            continue
        window = grid.window(core)
        tile = image[:, *window.slices].unsqueeze(0)
        logits = network.forward_tile(tile, window.relative_to(window), core.relative_to(window))[0]
        parts.append(logits[:, row, col].T.contiguous())
        rows.append(row + core.top)
        cols.append(col + core.left)
    if not parts:
        return torch.empty(0, len(card.legend)), (np.empty(0, np.intp), np.empty(0, np.intp))
    return torch.cat(parts), (np.concatenate(rows), np.concatenate(cols))


def _bands(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)

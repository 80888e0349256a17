"""The chips of a data set as arrays: read once, kept in memory, cut into crops that repeat for a seed and a step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.datasets.chipset import IMAGES, MASKS
from aerialseg.datasets.images import read_image
from aerialseg.legend import NODATA
from aerialseg.model.card import ModelCard
from aerialseg.raster.image import read_samples

KEPT = 2000
"""Chips that are kept in memory: of 512 x 512 px, 2 GB."""
LIGHT, TINT = 0.2, 0.06
"""By how much the brightness of a crop varies, and each of its bands beside that, as parts of 1."""


class ChipPixels:
    """Chips by their number. counts: labelled pixels, (chips, classes)."""

    def __init__(self, folder: Path, frames: Sequence[str], classes: int, card: ModelCard) -> None:
        self.folder, self.frames = folder, tuple(frames)
        self.mean, self.std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (card.mean, card.std))
        self.chip = lru_cache(KEPT)(self._read)
        masks = (self.chip(number)[1] for number in range(len(frames)))
        self.counts = np.array([np.bincount(mask[mask != NODATA], minlength=classes) for mask in masks])

    def _read(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        name = f"{self.frames[number]}.png"
        image = np.asarray(read_image(self.folder / IMAGES / name)).transpose(2, 0, 1)
        return np.ascontiguousarray(image), read_samples(self.folder / MASKS / name, "PNG")[0]

    def normalised(self, image: NDArray[np.uint8]) -> Tensor:
        """float32 (bands, h, w) as the network takes it."""
        return torch.from_numpy((image.astype(np.float32) / 255 - self.mean) / self.std)

    def batch(self, size: int, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crops (count, bands, size, size) and their masks: each around a label of a class that is drawn evenly.

        They are flipped, turned and lit at random.
        """
        crops = [self._crop(size, rng) for _ in range(count)]
        images = torch.stack([self.normalised(image) for image, _ in crops])
        return images, torch.stack([torch.from_numpy(mask.astype(np.int64)) for _, mask in crops])

    def _crop(self, size: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        there = np.flatnonzero(self.counts.sum(axis=0))
        chosen = int(rng.choice(there))
        column = self.counts[:, chosen]
        image, mask = self.chip(int(rng.choice(len(column), p=column / column.sum())))
        places = np.flatnonzero(mask == chosen)
        row, col = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
        size = min(size, *mask.shape)
        top = int(np.clip(row - rng.integers(size), 0, mask.shape[0] - size))
        left = int(np.clip(col - rng.integers(size), 0, mask.shape[1] - size))
        image, mask = image[:, top : top + size, left : left + size], mask[top : top + size, left : left + size]
        return _lit(_turned(image, way := int(rng.integers(8))), rng), _turned(mask, way)


def _turned(pixels: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    """One of the eight flips and rotations of the last two axes."""
    pixels = np.rot90(pixels, way % 4, axes=(-2, -1))
    return np.ascontiguousarray(pixels[..., ::-1] if way >= 4 else pixels)


def _lit(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    factors = (1 + rng.uniform(-LIGHT, LIGHT)) * (1 + rng.uniform(-TINT, TINT, (len(image), 1, 1)))
    return np.clip(image * factors, 0, 255).astype(np.uint8)

"""Pairs of image and mask as fastai takes them: crops at random places and scales, whole frames to look at."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from aerialseg.datasets.band_image import BandImage
from aerialseg.datasets.images import read_image
from aerialseg.datasets.layout import RGB_NORMALISATION, Normalisation
from aerialseg.datasets.pairs import Pairs
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.bands import RGB
from aerialseg.training.config import Augment, Step
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()

from fastai.vision.all import (  # noqa: E402
    Brightness,
    Contrast,
    DataBlock,
    DataLoaders,
    FuncSplitter,
    Hue,
    ImageBlock,
    IntToFloatTensor,
    MaskBlock,
    Normalize,
    PILImage,
    PILMask,
    RandTransform,
    Saturation,
    TensorImage,
    Transform,
    TransformBlock,
)


class ScaledCrop(RandTransform):
    """A crop at a random place, scale and orientation for training; the whole frame at ``size`` for validation.

    Crop and scaling happen in one resampling, inside the frame: nothing is padded, so no label is made up.
    """

    order = 1
    split_idx = None

    def __init__(self, size: tuple[int, int], crop: tuple[int, int] | None, augment: Augment, **kwargs: Any) -> None:
        super().__init__(p=1.0, **kwargs)
        self.size, self.crop, self.augment = size, crop or size, augment
        self.train = True
        self.place: tuple[float, float, float, tuple[float, float] | None] = (1.0, 0.5, 0.5, None)
        self.turns: list[Image.Transpose] = []

    def before_call(self, b: Any, split_idx: int | None) -> None:
        self.train = not split_idx
        low, high = self.augment.zoom
        zoom = low * (high / low) ** random.random()
        centre = self._on_a_class(b) if self.train and random.random() < self.augment.balanced else None
        self.place = (zoom, random.random(), random.random(), centre)
        self.turns = self._random_turns() if self.augment.turn else []

    def _on_a_class(self, pair: Any) -> tuple[float, float] | None:
        """(x, y) of a pixel of one of the frame's classes, as shares of its sides; None where all is void."""
        mask = np.asarray(pair[1])
        there = [
            class_id for class_id in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)) if class_id != NODATA
        ]
        if not there:
            return None
        row, col = divmod(random.choice(np.flatnonzero(mask == random.choice(there))), mask.shape[1])
        return (col + 0.5) / mask.shape[1], (row + 0.5) / mask.shape[0]

    def _random_turns(self) -> list[Image.Transpose]:
        square = self.crop[0] == self.crop[1]
        options = [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM]
        options += [Image.Transpose.TRANSPOSE] if square else []
        return [turn for turn in options if random.random() < 0.5]

    def encodes(self, x: PILImage) -> Any:
        return self._apply(x, Image.Resampling.BILINEAR)

    def encodes(self, x: BandImage) -> Any:  # type: ignore[no-redef]  # noqa: F811
        return self._apply(x, Image.Resampling.BILINEAR)

    def encodes(self, x: PILMask) -> Any:  # type: ignore[no-redef]  # noqa: F811
        return self._apply(x, Image.Resampling.NEAREST)

    def _apply(self, x: Any, resampling: Image.Resampling) -> Any:
        if not self.train:
            return x.resize((self.size[1], self.size[0]), resampling)
        zoom, across, down, centre = self.place
        per_px = max(x.width / self.size[1], x.height / self.size[0]) / zoom
        per_px = min(per_px, x.width / self.crop[1], x.height / self.crop[0])
        width, height = self.crop[1] * per_px, self.crop[0] * per_px
        left, top = across * (x.width - width), down * (x.height - height)
        if centre is not None:  # the class lies anywhere in the crop, as far as the frame goes
            left = min(max(centre[0] * x.width - across * width, 0.0), x.width - width)
            top = min(max(centre[1] * x.height - down * height, 0.0), x.height - height)
        cut = x.resize((self.crop[1], self.crop[0]), resampling, box=(left, top, left + width, top + height))
        for turn in self.turns:
            cut = cut.transpose(turn)
        return cut


class BandsToTensor(Transform):
    """What fastai's ToTensor does with images of three bands, for those of others."""

    order = 5

    def encodes(self, x: BandImage) -> Any:
        return TensorImage(torch.from_numpy(np.asarray(x).transpose(2, 0, 1).copy()))


class OnColours(RandTransform):
    """Changes of the light, in red, green and blue alone: heights have none."""

    order, split_idx = 40, 0

    def __init__(self, changes: list[Any], bands: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(p=1.0, **kwargs)
        self.changes, self.places = changes, [bands.index(name) for name in RGB if name in bands]

    def encodes(self, x: TensorImage) -> Any:
        if len(self.places) < len(RGB):
            return x
        colours = TensorImage(x[:, self.places])
        for change in self.changes:
            colours = change(colours, split_idx=0)
        changed = x.clone()
        changed[:, self.places] = colours
        return changed


def make_loaders(
    learn: Pairs,
    watched: Pairs,
    legend: Legend,
    step: Step,
    augment: Augment,
    *,
    batch: int,
    workers: int = 0,
    normalisation: Normalisation = RGB_NORMALISATION,
) -> DataLoaders:
    """fastai's DataLoaders of one step: random crops to learn from, ``batch`` at once; whole frames to look at."""
    augment = step.augmented(augment)
    light, pairs = augment.lighting, {**learn, **watched}
    lighting = [Brightness(light, p=0.75), Contrast(light, p=0.75), Saturation(light, p=0.75)] if light else []
    lighting += [Hue(augment.hue, p=0.75)] if augment.hue else []
    bands = normalisation.bands
    images = ImageBlock
    if len(bands) != len(RGB):
        lighting = [OnColours(lighting, bands)] if lighting else []
        images = TransformBlock(
            type_tfms=partial(read_image, bands=len(bands)), item_tfms=BandsToTensor, batch_tfms=IntToFloatTensor
        )
    block = DataBlock(
        blocks=(images, MaskBlock(list(legend.names))),
        get_x=lambda name: pairs[name][0],
        get_y=lambda name: pairs[name][1],
        splitter=FuncSplitter(lambda name: name in watched),
        item_tfms=[ScaledCrop(step.size, step.crop, augment)],
        batch_tfms=[*lighting, Normalize.from_stats(normalisation.mean, normalisation.std)],
    )
    in_a_frame = max(1, round(step.size[0] * step.size[1] / (step.seen[0] * step.seen[1])))
    watched_at_once = max(1, batch // in_a_frame)
    return block.dataloaders([*learn, *watched], bs=batch, val_bs=watched_at_once, num_workers=workers)

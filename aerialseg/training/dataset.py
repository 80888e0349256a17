"""Pairs of image and mask as fastai takes them: crops at random places and scales, whole frames to look at."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from PIL import Image

from aerialseg.legend import Legend
from aerialseg.training.config import Augment, Step
from aerialseg.training.torchvision_fix import mend_torchvision

mend_torchvision()

from fastai.vision.all import (  # noqa: E402
    Brightness,
    Contrast,
    DataBlock,
    DataLoaders,
    FuncSplitter,
    ImageBlock,
    MaskBlock,
    Normalize,
    PILImage,
    PILMask,
    RandTransform,
    Saturation,
    imagenet_stats,
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
        self.fractions = (1.0, 0.5, 0.5)
        self.turns: list[Image.Transpose] = []

    def before_call(self, b: Any, split_idx: int | None) -> None:
        self.train = not split_idx
        zoom = random.uniform(*self.augment.zoom)
        self.fractions = (zoom, random.random(), random.random())
        self.turns = self._random_turns() if self.augment.turn else []

    def _random_turns(self) -> list[Image.Transpose]:
        square = self.crop[0] == self.crop[1]
        options = [Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM]
        options += [Image.Transpose.TRANSPOSE] if square else []
        return [turn for turn in options if random.random() < 0.5]

    def encodes(self, x: PILImage) -> Any:
        return self._apply(x, Image.Resampling.BILINEAR)

    def encodes(self, x: PILMask) -> Any:  # type: ignore[no-redef]  # noqa: F811
        return self._apply(x, Image.Resampling.NEAREST)

    def _apply(self, x: Any, resampling: Image.Resampling) -> Any:
        if not self.train:
            return x.resize((self.size[1], self.size[0]), resampling)
        zoom, across, down = self.fractions
        per_px = max(x.width / self.size[1], x.height / self.size[0]) / zoom
        per_px = min(per_px, x.width / self.crop[1], x.height / self.crop[0])
        width, height = self.crop[1] * per_px, self.crop[0] * per_px
        left, top = across * (x.width - width), down * (x.height - height)
        cut = x.resize((self.crop[1], self.crop[0]), resampling, box=(left, top, left + width, top + height))
        for turn in self.turns:
            cut = cut.transpose(turn)
        return cut


def make_loaders(
    learn: dict[str, tuple[Path, Path]],
    held: dict[str, tuple[Path, Path]],
    legend: Legend,
    step: Step,
    augment: Augment,
    *,
    workers: int = 0,
) -> DataLoaders:
    """fastai's DataLoaders of one step: random crops to learn from, whole held-out frames to look at."""
    light, pairs = augment.lighting, learn | held
    lighting = [Brightness(light, p=0.75), Contrast(light, p=0.75), Saturation(light, p=0.75)] if light else []
    block = DataBlock(
        blocks=(ImageBlock, MaskBlock(list(legend.names))),
        get_x=lambda name: pairs[name][0],
        get_y=lambda name: pairs[name][1],
        splitter=FuncSplitter(lambda name: name in held),
        item_tfms=[ScaledCrop(step.size, step.crop, augment)],
        batch_tfms=[*lighting, Normalize.from_stats(*imagenet_stats)],
    )
    return block.dataloaders([*learn, *held], bs=step.batch, val_bs=step.batch, num_workers=workers)

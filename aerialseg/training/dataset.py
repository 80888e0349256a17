"""Pairs of image and mask: found, checked, prepared once, and handed to fastai."""

from __future__ import annotations

import csv
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.errors import InputError
from aerialseg.legend import NODATA, Legend
from aerialseg.training.config import Augment, DataConfig, Step
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

logger = logging.getLogger(__name__)
VOID = NODATA
"""Mask value of pixels that are neither learned nor scored."""
_INDEXED = ("L", "P", "I", "I;16")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


def find_pairs(data_dir: str | Path, config: DataConfig) -> dict[str, tuple[Path, Path]]:
    """Stem to (image, mask) of every image that has a mask, in the order of stems. Raises InputError."""
    images, masks = (_by_stem(Path(data_dir) / folder) for folder in (config.images, config.masks))
    pairs = {stem: (images[stem], masks[stem]) for stem in sorted(set(images) & set(masks))}
    if not pairs:
        raise InputError(
            f"{data_dir}: no image of {config.images}/ has a mask of the same name in {config.masks}/; "
            f"met {len(images)} images and {len(masks)} masks"
        )
    return pairs


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the data folder that holds {folder.name}/")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def read_split(path: str | Path) -> dict[str, bool]:
    """Frame name to True where it is held out, of a CSV file with the columns ``frame, held_out``."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["frame"]: bool(int(row["held_out"])) for row in rows}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"cannot read the split {path} (columns frame, held_out): {error!r}") from error


def split_pairs(
    pairs: dict[str, tuple[Path, Path]], split: dict[str, bool]
) -> tuple[dict[str, tuple[Path, Path]], dict[str, tuple[Path, Path]]]:
    """(to learn from, held out): the pairs that the split names. Raises InputError if a side is empty."""
    sides = [{name: pairs[name] for name in pairs if split.get(name) is held} for held in (False, True)]
    if not all(sides):
        raise InputError(
            f"the split names {len(sides[0])} frames to learn from and {len(sides[1])} held out among these data"
        )
    return sides[0], sides[1]


def read_mask(path: str | Path, legend: Legend, void: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """Class ids, uint8 (rows, columns), with ``VOID`` for void classes, of a mask of class indices or of colours.

    Raises InputError that names the first colour or index which the legend does not know, the file and the place.
    """
    try:
        with Image.open(path) as image:
            indices = np.asarray(image if image.mode in _INDEXED else image.convert("RGB"))
    except OSError as error:
        raise InputError(f"cannot read the mask {path}: {error}") from error
    ids = colors_to_ids(indices, legend, path) if indices.ndim == 3 else _checked(indices, legend, path)
    return np.where(np.isin(ids, void), np.uint8(VOID), ids)


def colors_to_ids(colors: NDArray[np.uint8], legend: Legend, name: object = "mask") -> NDArray[np.uint8]:
    """Class ids, uint8 (h, w), of colours (h, w, 3), by exact look-up: a colour outside the legend is an error."""
    packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    known = sorted(
        ((red << 16 | green << 8 | blue), entry.id) for entry in legend for red, green, blue in [entry.color]
    )
    keys = np.array([key for key, _ in known], dtype=np.uint32)
    if len(np.unique(keys)) < len(keys):
        raise InputError("two classes of the legend have the same colour: masks of colours cannot be told apart")
    at = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    wrong = np.argwhere(keys[at] != packed)
    if len(wrong):
        row, col = wrong[0]
        raise InputError(
            f"{name}: colour {tuple(int(v) for v in colors[row, col])} at row {row}, column {col} is not in the legend"
        )
    return np.array([class_id for _, class_id in known], dtype=np.uint8)[at]


def _checked(ids: NDArray[np.uint8], legend: Legend, name: object) -> NDArray[np.uint8]:
    wrong = np.argwhere(~np.isin(ids, [entry.id for entry in legend]))
    if len(wrong):
        row, col = wrong[0]
        raise InputError(f"{name}: class {ids[row, col]} at row {row}, column {col} is not in the legend")
    return ids.astype(np.uint8)


def prepare(
    pairs: dict[str, tuple[Path, Path]], config: DataConfig, legend: Legend, folder: Path
) -> dict[str, tuple[Path, Path]]:
    """The same pairs, checked and reduced to ``config.prepared`` under ``folder``: decoding large JPEGs dominates else.

    Images are averaged (antialiased), masks take the nearest pixel; what is there already is taken as it is.
    """
    rows, cols = config.prepared or config.size
    made: dict[str, tuple[Path, Path]] = {}
    for stem, (image_path, mask_path) in pairs.items():
        targets = (
            folder / f"{rows}x{cols}" / "images" / f"{stem}.png",
            folder / f"{rows}x{cols}" / "masks" / f"{stem}.png",
        )
        made[stem] = targets
        if all(target.exists() for target in targets):
            continue
        mask = Image.fromarray(read_mask(mask_path, legend, config.void)).resize((cols, rows), Image.Resampling.NEAREST)
        _save(read_image(image_path, (rows, cols)), targets[0])
        _save(mask, targets[1])
    return made


def class_weights(pairs: dict[str, tuple[Path, Path]], classes: int, power: float) -> NDArray[np.float32]:
    """(1 / share of pixels) ** power of each class in prepared masks, scaled so that the mean pixel weighs 1.

    A class without pixels weighs 1.
    """
    pixels = np.zeros(256, dtype=np.int64)
    for _, mask_path in pairs.values():
        with Image.open(mask_path) as mask:
            pixels += np.bincount(np.asarray(mask).ravel(), minlength=256)
    share = pixels[:classes] / max(1, pixels[:classes].sum())
    raw = np.power(share, -power, out=np.zeros(classes), where=share > 0)
    weights = raw / max(float((raw * share).sum()), 1e-9)
    return np.where(share > 0, weights, 1.0).astype(np.float32)


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Image.Image:
    """The RGB image, reduced or enlarged to ``size`` (rows, columns). Raises InputError."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except OSError as error:
        raise InputError(f"cannot read the image {path}: {error}") from error
    return rgb if size is None else rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    image.save(part, format="PNG", compress_level=1)
    part.replace(path)


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


Progress = Callable[[str], None]

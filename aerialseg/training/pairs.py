"""Pairs of image and mask: found, checked, read by exact look-up, prepared once. Needs Pillow, but no fastai."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.errors import InputError
from aerialseg.legend import NODATA, Legend
from aerialseg.training.config import DataConfig

VOID = NODATA
"""Mask value of pixels that are neither learned nor scored."""
_INDEXED = ("L", "P", "I", "I;16")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")

Progress = Callable[[str], None]


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

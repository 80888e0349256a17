"""Pairs of image and mask: found, checked, prepared once. Needs Pillow, but no fastai."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.datasets.band_image import SUFFIX, BandImage
from aerialseg.datasets.images import RGB_BANDS, Picture, read_image, read_shape
from aerialseg.datasets.layout import IMAGENET, DataConfig, Normalisation
from aerialseg.datasets.masks import IMAGE_SUFFIXES, folder_meaning, read_mask
from aerialseg.errors import InputError
from aerialseg.files import naming_errors, printable, read_table, write_atomically
from aerialseg.legend import NODATA, Legend
from aerialseg.model.card import MIN_STD
from aerialseg.progress import Progress
from aerialseg.raster.bands import RGB
from aerialseg.raster.image import write_bands

READING = 2
"""Counts the ways in which images and masks were read: frames that an earlier one prepared are prepared anew."""

Pairs = Mapping[str, tuple[Path, Path]]
"""Stem of a frame to its image and its mask."""


def find_pairs(data_dir: str | Path, config: DataConfig) -> dict[str, tuple[Path, Path]]:
    """Stem to (image, mask) of every image, in the order of stems. Raises InputError where an image has no mask."""
    folder_meaning.cache_clear()
    masks_folder = _masks_folder(Path(data_dir), config)
    images, masks = (_by_stem(Path(data_dir) / folder) for folder in (config.images, masks_folder))
    if not set(images) & set(masks):
        raise InputError(
            f"{data_dir}: no image of {config.images}/ has a mask of the same name in {masks_folder}/; "
            f"met {len(images)} images and {len(masks)} masks"
        )
    without = sorted(set(images) - set(masks))
    if without:
        raise InputError(
            f"{images[without[0]]} has no mask {masks_folder}/{without[0]}.* ({len(without)} such images): "
            "add the masks, or take the images away"
        )
    return {stem: (images[stem], masks[stem]) for stem in sorted(images)}


def _masks_folder(data_dir: Path, config: DataConfig) -> str:
    """The folder of masks; the Semantic Drone Dataset comes with class indices, with colours, or with both."""
    known = ("label_images_semantic", "RGB_color_image_masks")
    if config.masks in known and not (data_dir / config.masks).is_dir():
        return next((name for name in known if (data_dir / name).is_dir()), config.masks)
    return config.masks


def _by_stem(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the data folder that holds {folder.name}/")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}


def read_split(path: str | Path) -> dict[str, bool]:
    """Frame name to True where it is held out, of a CSV file with the columns ``frame, held_out``."""
    split: dict[str, bool] = {}
    for line, row in read_table(path, "split", ("frame", "held_out")):
        if row["held_out"] not in ("0", "1"):
            where = f"split {printable(path)}, line {line}"
            raise InputError(f"{where}: held_out is {row['held_out']!r}: wanted 0 (training) or 1 (test)")
        split[row["frame"]] = row["held_out"] == "1"
    return split


def read_scenes(path: str | Path) -> dict[str, str]:
    """Frame name to the name of its scene, of a split's column ``scene``; a frame without one is a scene of its own."""
    read_split(path)
    rows = read_table(path, "split", ("frame",), optional=("scene",))
    return {row["frame"]: row.get("scene") or f"frame {row['frame']}" for _, row in rows}


def split_pairs(pairs: Pairs, path: str | Path) -> tuple[dict[str, tuple[Path, Path]], dict[str, tuple[Path, Path]]]:
    """(to learn from, held out): the pairs that the split names. Raises InputError if one is missing, or a side."""
    split = read_split(path)
    missing = sorted(set(split) - set(pairs))
    if missing:
        raise InputError(
            f"the split {printable(path)} names {len(split)} frames, of which {len(missing)} are not among these data "
            f"(first {missing[0]!r}): give the data that it was made for, or another split"
        )
    sides = [{name: pairs[name] for name in pairs if split.get(name) is held} for held in (False, True)]
    if not all(sides):
        raise InputError(
            f"the split {printable(path)} names {len(sides[0])} training frames and {len(sides[1])} test frames: "
            "wanted some of each"
        )
    return sides[0], sides[1]


def prepare(
    pairs: Pairs, config: DataConfig, legend: Legend, folder: Path, progress: Callable[[], None] = lambda: None
) -> dict[str, tuple[Path, Path]]:
    """The same pairs, checked and reduced to ``config.prepared`` under ``folder``: decoding large JPEGs dominates else.

    Images are averaged (antialiased), masks take the nearest pixel; what is there already is taken as it is. progress
    is called for each pair that was made. Raises InputError, and OutputError where ``folder`` cannot be written.
    """
    rows, cols = config.prepared or config.size
    sources = sorted({path.parent.resolve() for pair in pairs.values() for path in pair})
    greys = [folder_meaning(folder, legend) for folder in sorted({mask.parent for _, mask in pairs.values()})]
    meaning = hashlib.sha256(repr((READING, legend, config.void, sources, greys)).encode()).hexdigest()[:8]
    place = folder / f"{rows}x{cols}-{meaning}"
    bands, made = len(config.bands), dict[str, tuple[Path, Path]]()
    ending = ".png" if bands == RGB_BANDS else SUFFIX
    for stem, (image_path, mask_path) in pairs.items():
        targets = (
            place / "images" / f"{stem}{ending}",
            place / "masks" / f"{stem}.png",
        )
        made[stem] = targets
        if all(target.exists() and _newer(target, image_path, mask_path) for target in targets):
            continue
        mask = Image.fromarray(read_mask(mask_path, legend, config.void))
        image = read_image(image_path, bands=bands)
        check_shapes((image.height, image.width), (mask.height, mask.width), image_path, mask_path)
        _save(image.resize((cols, rows), Image.Resampling.BILINEAR), targets[0])
        _save(mask.resize((cols, rows), Image.Resampling.NEAREST), targets[1])
        progress()
    return made


def _newer(made: Path, *sources: Path) -> bool:
    return made.stat().st_mtime_ns >= max(source.stat().st_mtime_ns for source in sources)


def check_pairs(pairs: Pairs, legend: Legend, void: tuple[int, ...], bands: int = RGB_BANDS) -> None:
    """Read every pair, for the errors. Raises InputError."""
    for image_path, mask_path in pairs.values():
        check_shapes(read_shape(image_path, bands), read_mask(mask_path, legend, void).shape, image_path, mask_path)


def check_shapes(image: tuple[int, ...], mask: tuple[int, ...], image_path: Path, mask_path: Path) -> None:
    """Raise InputError where an image and its mask, (rows, columns), have not the same ratio of sides."""
    if not same_ratio(image, mask):
        raise InputError(
            f"the mask {mask_path} has {mask[0]} x {mask[1]} px (rows x columns), its image {image_path.name} "
            f"{image[0]} x {image[1]}: wanted the same shape"
        )


def same_ratio(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether sides have the same ratio, but for a hundredth: reduced copies are rounded to whole pixels."""
    return abs(one[0] * other[1] - other[0] * one[1]) <= 0.01 * one[0] * other[1]


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes. Raises InputError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def hash_pairs(pairs: Pairs) -> str:
    """SHA-256 over the names and bytes of all images and masks, in the order of names."""
    total = hashlib.sha256()
    for name in sorted(pairs):
        total.update(name.encode())
        for path in pairs[name]:
            total.update(bytes.fromhex(hash_file(path)))
    return total.hexdigest()


def note_greys(pairs: Pairs, legend: Legend, progress: Progress) -> None:
    """Say where the numbers of grey masks are taken for the legend's colours although they might be ids."""
    for folder in sorted({mask.parent for _, mask in pairs.values()}):
        if folder_meaning(folder, legend) == "colours":
            progress.note(f"the grey masks in {folder} are read as colours of the legend (0 is black, 255 white)")


def count_pixels(pairs: Pairs) -> NDArray[np.int64]:
    """(256,) pixels of each class id, and of `NODATA`, in prepared masks."""
    pixels = np.zeros(256, dtype=np.int64)
    for _, mask_path in pairs.values():
        with Image.open(mask_path) as mask:
            pixels += np.bincount(np.asarray(mask).ravel(), minlength=256)
    return pixels


def measure_bands(pairs: Pairs, bands: tuple[str, ...]) -> Normalisation:
    """Mean and standard deviation of each band of prepared images where their masks know a class.

    Red, green and blue have those of ImageNet, for which encoders are made.
    """
    sums = np.zeros((2, len(bands)))
    count = 0
    for image_path, mask_path in pairs.values() if set(bands) - set(RGB) else ():
        with Image.open(mask_path) as mask:
            known = np.asarray(mask) != NODATA
        values = np.asarray(read_image(image_path, bands=len(bands)))[known] / 255
        sums += values.sum(axis=0), np.square(values).sum(axis=0)
        count += len(values)
    mean, square = sums / max(1, count)
    std = np.sqrt(np.maximum(square - mean**2, MIN_STD**2))
    found = [IMAGENET.get(name, (m, s)) for name, m, s in zip(bands, mean.tolist(), std.tolist(), strict=True)]
    return Normalisation(bands, tuple(round(m, 6) for m, _ in found), tuple(round(s, 6) for _, s in found))


def class_weights(pairs: Pairs, classes: int, power: float) -> NDArray[np.float32]:
    """(1 / share of pixels) ** power of each class in prepared masks, scaled so that the mean pixel weighs 1.

    A class without pixels weighs 1.
    """
    pixels = count_pixels(pairs)[:classes]
    share = pixels / max(1, pixels.sum())
    raw = np.power(share, -power, out=np.zeros(classes), where=share > 0)
    weights = raw / max(float((raw * share).sum()), 1e-9)
    return np.where(share > 0, weights, 1.0).astype(np.float32)


def _save(image: Picture, path: Path) -> None:
    with naming_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, BandImage):
        write_bands(path, np.asarray(image).transpose(2, 0, 1))
        return
    with write_atomically(path, durable=False) as part:
        image.save(part, format="PNG", compress_level=1)


def resize_ids(ids: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Class ids brought to ``shape`` (rows, columns) by taking the nearest pixel."""
    if ids.shape == shape:
        return ids
    return np.asarray(Image.fromarray(ids).resize((shape[1], shape[0]), Image.Resampling.NEAREST))

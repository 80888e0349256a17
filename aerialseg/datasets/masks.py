"""Masks as class ids: whether the numbers of a file are ids or stand for colours, or why it is refused.

Needs Pillow, but no fastai.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from aerialseg.datasets.images import bits_of, open_image
from aerialseg.errors import InputError
from aerialseg.legend import NODATA, Legend

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
_GREYS = ("L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
_COLORS = ("RGB", "RGBA", "RGBX")
_LOSSY_FORMATS, _LOSSY_TIFFS = ("JPEG", "MPO", "WEBP", "JPEG2000"), ("jpeg", "tiff_jpeg", "webp")
BLACK = (0, 0, 0)
"""What palettes are filled up with where they have fewer than 256 colours."""
_RAMP = np.repeat(np.arange(256)[:, None], 3, axis=1)
"""The palette of greys: each index is its own colour."""
_SAMPLES_PER_PIXEL = 277


@dataclass(frozen=True, slots=True)
class StoredMask:
    """What a mask's file holds: colours (h, w, 3), or numbers (h, w) and the palette (n, 3) that gives them colours."""

    values: NDArray[Any]
    palette: NDArray[Any] | None = None

    @property
    def colors(self) -> NDArray[Any]:
        """(h, w, 3), of a mask of colours or with a palette."""
        return self.values if self.palette is None else self.palette[self.values]


def read_mask(path: str | Path, legend: Legend, void: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    """Class ids, uint8 (rows, columns), of a mask of class ids or of colours; `NODATA` for void classes.

    `NODATA` among ids stays: pixels that nobody labelled. Numbers are ids, unless only the colours that they stand for
    are the legend's: those of the palette, or greys such as 0 and 255. The mask is turned as its EXIF tag says.

    Raises InputError that names the first colour or number which the legend does not know, the file and the place;
    where numbers may be one thing or the other; where a mask is transparent in places or was compressed with loss.
    """
    stored = load_mask(path)
    if stored.values.ndim == 3:
        ids = colors_to_ids(stored.values, legend, path)
    elif stored.palette is None:
        ids = _translate(stored.values, _meaning_of_greys(stored.values, Path(path), legend), path)
    else:
        ids = _translate(stored.values, _meaning_of_palette(stored.values, stored.palette, legend, path), path)
    return np.where(np.isin(ids, void), np.uint8(NODATA), ids)


def load_mask(path: str | Path) -> StoredMask:
    """What the file holds, upright. Raises InputError where ids cannot be had from such a file."""
    with open_image(path, "mask") as image:
        _check_lossless(image, path)
        bits = bits_of(image)
        bands = image.getexif().get(_SAMPLES_PER_PIXEL, 1) if image.mode.startswith("I") else 1
        image = ImageOps.exif_transpose(image)
    if image.mode not in (*_GREYS, *_COLORS, "1", "P") or (bits > 8 and (image.mode in _COLORS or bands > 1)):
        raise InputError(
            f"the mask {path} is {image.mode} of {bits} bit; wanted class ids in one band (8 or 16 bit) or 8-bit RGB "
            "colours: export it as PNG"
        )
    stored = _stored(image, bits)
    _check_opaque(image, stored, path)
    return stored


def _stored(image: Image.Image, bits: int) -> StoredMask:
    if image.mode in _COLORS:
        return StoredMask(np.asarray(image.convert("RGB")))
    if image.mode == "P":
        palette = np.zeros((256, 3), np.int64)
        given = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        palette[: len(given)] = given
        values = np.asarray(image)
        return StoredMask(values, None if (palette == _RAMP)[_used(values)].all() else palette)
    if image.mode == "1" or bits in (2, 4):  # Pillow spreads these greys over 0 to 255
        levels = (1 << bits) - 1 if image.mode != "1" else 1
        greys = np.repeat(np.arange(levels + 1)[:, None] * (255 // levels), 3, axis=1)
        return StoredMask(np.asarray(image.convert("L")) // (255 // levels), greys)
    return StoredMask(np.asarray(image.getchannel(0) if image.mode == "LA" else image))


def _check_lossless(image: Image.Image, path: str | Path) -> None:
    if image.format in _LOSSY_FORMATS or image.info.get("compression") in _LOSSY_TIFFS:
        raise InputError(
            f"the mask {path} is compressed with loss ({image.format}), which changes class ids and colours: export it "
            "anew as PNG from the program that it was drawn with (converting this file does not bring them back)"
        )


def _check_opaque(image: Image.Image, stored: StoredMask, path: str | Path) -> None:
    """Raise InputError where pixels are transparent, unless they are NODATA: nobody knows which class those are."""
    if not image.has_transparency_data:
        return
    clear = np.asarray(image.convert("RGBA").getchannel("A")) < 255
    clear &= True if stored.values.ndim == 3 else stored.values != NODATA
    if clear.any():
        row, col = np.argwhere(clear)[0]
        raise InputError(
            f"the mask {path} is transparent at row {row}, column {col} ({clear.mean():.1%} of it), which says nothing "
            "of the class: save it without an alpha channel, with a class's colour there, or id 255 for not labelled"
        )


def colors_to_ids(colors: NDArray[np.uint8], legend: Legend, name: object = "mask") -> NDArray[np.uint8]:
    """Class ids, uint8 (h, w), of colours (h, w, 3), by exact look-up: a colour outside the legend is an error."""
    packed = colors.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    known = sorted((red << 16 | green << 8 | blue, entry.id) for entry in legend for red, green, blue in [entry.color])
    keys = np.array([key for key, _ in known], dtype=np.uint32)
    if len(np.unique(keys)) < len(keys):
        raise InputError("two classes of the legend have the same colour: give each class its own")
    at = np.minimum(np.searchsorted(keys, packed), len(keys) - 1)
    wrong = np.argwhere(keys[at] != packed)
    if len(wrong):
        row, col = wrong[0]
        raise InputError(
            f"{name}: colour {tuple(int(v) for v in colors[row, col])} at row {row}, column {col} is not in the legend"
        )
    return np.array([class_id for _, class_id in known], dtype=np.uint8)[at]


def _by_color(legend: Legend) -> dict[tuple[int, int, int], int]:
    """Class ids by their colours; none where two have the same, so that colours tell nothing."""
    found = {entry.color: entry.id for entry in legend}
    return found if len(found) == len(legend) else {}


def _ids(legend: Legend) -> dict[int, int]:
    """What numbers mean where they are ids."""
    return {entry.id: entry.id for entry in legend if entry.id < NODATA} | {NODATA: NODATA}


def _greys(legend: Legend) -> dict[int, int]:
    """What numbers mean where they are greys among the legend's colours."""
    return {red: class_id for (red, green, blue), class_id in _by_color(legend).items() if red == green == blue}


def _meaning_of_greys(values: NDArray[Any], path: Path, legend: Legend) -> dict[int, int]:
    """What the numbers of a grey mask mean."""
    ids, greys = _ids(legend), _greys(legend)
    meaning = folder_meaning(path.parent, legend)
    if meaning == "each":
        return greys if _fits(_used(values), greys) and not _fits(_used(values), ids) else ids
    return greys if meaning == "colours" else ids


@lru_cache(maxsize=16)
def folder_meaning(folder: Path, legend: Legend) -> str:
    """What the numbers of a folder's grey masks are: "ids" or "colours"; "each" where each file tells by itself.

    One file does not tell where a number is one class as an id and another as a grey. In 0 and 255 alone, a black class
    and a white one are seen rather than one class and pixels that nobody labelled. Raises InputError where both remain
    possible. The answer is kept until ``find_pairs`` looks into the folder again.
    """
    ids, greys = _ids(legend), _greys(legend)
    if all(ids.get(grey, class_id) == class_id for grey, class_id in greys.items()):
        return "each"
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *(_numbers(path) for path in sorted(folder.iterdir()))]))
    if not _fits(used, greys) or all(ids.get(int(value)) == greys[int(value)] for value in used):
        return "ids"
    if not _fits(used, ids) or (NODATA in used and len(used) <= 2):
        return "colours"
    raise InputError(
        f"the grey masks in {folder} hold {_listed(used)}, which are ids of the legend and, of other classes, its "
        "colours: give those classes other colours in the legend if they are ids, else save the masks as RGB"
    )


def _numbers(path: Path) -> NDArray[Any]:
    """The numbers in a grey mask; none of any other file, and of one that cannot be read: its own reading says why."""
    try:
        stored = load_mask(path) if path.suffix.lower() in IMAGE_SUFFIXES else None
    except InputError:
        return np.zeros(0, np.int64)
    grey = stored is not None and stored.palette is None and stored.values.ndim == 2
    return _used(stored.values) if stored and grey else np.zeros(0, np.int64)


def _meaning_of_palette(
    values: NDArray[Any], palette: NDArray[Any], legend: Legend, path: str | Path
) -> dict[int, int]:
    """What the indices of a mask with a palette mean. Raises InputError where that cannot be told.

    They are ids where no colour says otherwise; else the colours count, if all of the palette are the legend's.
    """
    known, ids, used = _by_color(legend), _ids(legend), _used(values)
    colors = [(int(red), int(green), int(blue)) for red, green, blue in palette]
    by_color = {at: known[color] for at, color in enumerate(colors) if color in known}
    if _fits(used, ids) and all(_agrees(at, colors[at], by_color, ids) for at in used.tolist()):
        return ids
    all_known = set(colors) <= {*known, BLACK}
    if _fits(used, by_color) and (all_known or not _fits(used, ids)):
        return by_color
    if _fits(used, ids):
        at = next(at for at in used.tolist() if not _agrees(at, colors[at], by_color, ids))
        raise InputError(
            f"the mask {path} may hold ids or colours: index {at} is an id of the legend, and its colour {colors[at]} "
            "is another class's; save it as RGB if the colours count, in one band without a palette if the indices do"
        )
    at = next(at for at in used.tolist() if at not in by_color)
    row, col = np.argwhere(values == at)[0]
    raise InputError(
        f"{path}: colour {colors[at]} at row {row}, column {col} is not in the legend, and not all indices are its ids"
    )


def _agrees(at: int, color: tuple[int, int, int], by_color: Mapping[int, int], ids: Mapping[int, int]) -> bool:
    """Whether the colour of an index is not another class's; the black of 255 is what palettes are filled up with."""
    return by_color.get(at, ids[at]) == ids[at] or (at == NODATA and color == BLACK)


def _fits(used: NDArray[Any], meaning: Mapping[int, int]) -> bool:
    return all(value in meaning for value in used.tolist())


def _used(values: NDArray[Any]) -> NDArray[Any]:
    """The numbers that occur, sorted."""
    return np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)


def _listed(values: NDArray[Any]) -> str:
    shown = ", ".join(map(str, values.tolist()[:6]))
    return f"{shown} ..." if len(values) > 6 else shown


def _translate(values: NDArray[Any], meaning: Mapping[int, int], path: str | Path) -> NDArray[np.uint8]:
    """The numbers as class ids. Raises InputError that names the first one without a meaning."""
    unknown = [value for value in _used(values).tolist() if value not in meaning]
    if unknown:
        row, col = np.argwhere(np.isin(values, unknown))[0]
        raise InputError(
            f"{path}: class {values[row, col]} at row {row}, column {col} is not in the legend; wanted its ids, or "
            f"{NODATA} where nothing is labelled"
        )
    table = np.full(256, NODATA, np.uint8)
    table[list(meaning)] = list(meaning.values())
    return table[values]

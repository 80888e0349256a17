"""Images to learn from and to score, as 8-bit RGB and upright: what each kind of file means, or why it is refused.

Pillow turns what it is given into 8 bit without a word: 16-bit greys become white, 12-bit values nearly black. Needs
Pillow, but no fastai.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from aerialseg.datasets.band_image import BandImage, read_bands
from aerialseg.errors import InputError
from aerialseg.progress import counted
from aerialseg.raster.image import read_samples

RGB_BANDS = 3
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
_BITS_PER_SAMPLE = 258
_ORIENTATION, _SIDEWAYS = 0x0112, 5
"""The EXIF tag, and the value from which on rows and columns change places."""


Picture = Image.Image | BandImage


def read_image(path: str | Path, size: tuple[int, int] | None = None, bands: int = RGB_BANDS) -> Picture:
    """The RGB image, turned as its EXIF tag says, reduced or enlarged to ``size`` (rows, columns). Raises InputError.

    16-bit images are brought to 8 bit where their values show that all 16 bits are used. bands: other than three are
    read from a GeoTIFF of so many (`read_bands`).
    """
    whole = _read_rgb(path) if bands == RGB_BANDS else read_bands(path, bands)
    return whole if size is None else whole.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def _read_rgb(path: str | Path) -> Image.Image:
    with open_image(path, "image") as image:
        return ImageOps.exif_transpose(_rgb(image, path))


def read_shape(path: str | Path, bands: int = RGB_BANDS) -> tuple[int, int]:
    """(rows, columns) of what ``read_image`` gives, from the header where that is enough. Raises InputError as that."""
    if bands != RGB_BANDS:
        several = read_bands(path, bands)
        return several.height, several.width
    with open_image(path, "image") as image:
        if bits_of(image) <= 8 and image.getexif().get(_ORIENTATION, 1) < _SIDEWAYS:
            _check_mode(image, path)
            return image.height, image.width
    whole = _read_rgb(path)
    return whole.height, whole.width


@contextmanager
def open_image(path: str | Path, what: str) -> Iterator[Image.Image]:
    """An image or mask as Pillow opens it. Raises InputError, also where it cannot be decoded inside the block."""
    try:
        with Image.open(path) as image:
            yield image
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f"cannot read the {what} {path}: neither a JPEG, PNG or TIFF of 8 bit nor 16-bit grey; convert it, with "
            "one range for all images, such as gdal_translate -ot Byte -scale 0 65535 0 255 IN OUT"
        ) from error
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise InputError(f"cannot read the {what} {path}: {error}") from error


def bits_of(image: Image.Image) -> int:
    """Bits of a sample in the file, of an image that is opened and not yet loaded; Pillow's mode does not tell."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))
    if isinstance(image, ImageFile.ImageFile) and image.format == "PNG" and image.tile:
        found = re.search(r";(\d+)", str(image.tile[0][3]))
        return int(found[1]) if found else 8
    return 8


def _rgb(image: Image.Image, path: str | Path) -> Image.Image:
    bits = bits_of(image)
    if bits <= 8:
        _check_mode(image, path)
        return image.convert("RGB")
    samples = read_samples(path, "PNG" if image.format == "PNG" else "GTiff")
    if samples.dtype != np.uint16 or samples.shape[0] > 4:
        raise InputError(
            f"the image {path} holds {counted(samples.shape[0], 'band')} of {samples.dtype}; wanted 8-bit grey or RGB: "
            "convert all images with one range, such as gdal_translate -ot Byte -scale LOW HIGH 0 255 IN OUT"
        )
    colors = samples[:3] if samples.shape[0] > 2 else np.repeat(samples[:1], 3, axis=0)
    made = Image.fromarray(np.ascontiguousarray(_to_8_bit(colors, bits, path).transpose(1, 2, 0)))
    made.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return made


def _to_8_bit(samples: NDArray[np.uint16], bits: int, path: str | Path) -> NDArray[np.uint8]:
    """Scaled by the range of so many bits. Raises InputError where 16 bits may hold values of fewer.

    Cameras have 10, 12 or 14 bits: 16 are used where a value needs more, or where all are 8-bit ones times 257.
    """
    top = int(samples.max())
    if bits == 16 and top < 1 << 14 and (samples % 257).any():
        white = (1 << max(8, top.bit_length())) - 1
        raise InputError(
            f"the image {path} has 16 bits and no value above {top}, so which value is white is not known; convert all "
            f"images to 8 bit with one range, such as gdal_translate -ot Byte -scale 0 {white} 0 255 IN OUT (or 0 "
            "65535, where they use all 16 bits and this one is dark)"
        )
    scaled: NDArray[np.uint8] = np.rint(samples * np.float32(255 / ((1 << bits) - 1))).astype(np.uint8)
    return scaled


def _check_mode(image: Image.Image, path: str | Path) -> None:
    if image.mode not in _MODES:
        raise InputError(f"the image {path} is {image.mode} and not RGB or grey: export it as 8-bit RGB")

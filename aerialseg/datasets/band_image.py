"""Images of any number of bands, with as much of Pillow's interface as preparing images for training needs.

Pillow itself has no mode for five bands, and takes the fourth for alpha, by which it multiplies the others when it
resizes. Here each band is a grey image of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.image import read_samples

SUFFIX = ".tif"
"""Of files of other than three bands, which PNG cannot hold."""


class BandImage:
    """Bytes of several bands. Behaves like an ``Image.Image`` as far as it goes."""

    def __init__(self, bands: Sequence[Image.Image]) -> None:
        self.bands = tuple(bands)

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> BandImage:
        """Of bytes (bands, h, w)."""
        return cls([Image.fromarray(np.ascontiguousarray(band)) for band in pixels])

    @property
    def size(self) -> tuple[int, int]:
        """(columns, rows), as Pillow has it."""
        return self.bands[0].size

    @property
    def width(self) -> int:
        return self.size[0]

    @property
    def height(self) -> int:
        return self.size[1]

    def resize(
        self,
        size: tuple[int, int],
        resample: Image.Resampling | None = None,
        box: tuple[float, float, float, float] | None = None,
    ) -> BandImage:
        return BandImage([band.resize(size, resample, box) for band in self.bands])

    def transpose(self, method: Image.Transpose) -> BandImage:
        return BandImage([band.transpose(method) for band in self.bands])

    def convert(self, mode: str) -> Image.Image:
        """The first three bands (the first one, of two) as colours, to be looked at."""
        shown = self.bands[:3] if len(self.bands) > 2 else (self.bands[0],) * 3
        return Image.merge("RGB", shown).convert(mode)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """(h, w, bands), as Pillow's images give."""
        return np.stack([np.asarray(band) for band in self.bands], axis=-1).astype(dtype or np.uint8)


def read_bands(path: str | Path, count: int) -> BandImage:
    """The image of a GeoTIFF with ``count`` bands of bytes, as ``aerialseg chips`` writes them. Raises InputError."""
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise InputError(
            f"the image {printable(path)} is no TIFF; wanted a GeoTIFF of {count} bands of 8 bit, as [data] bands "
            "says: 'aerialseg chips --band-names ...' makes such images"
        )
    samples = read_samples(path, "GTiff")
    if samples.dtype != np.uint8 or len(samples) != count:
        raise InputError(
            f"the image {printable(path)} has {len(samples)} band(s) of {samples.dtype}; wanted {count} of 8 bit, as "
            "[data] bands says: 'aerialseg chips --band-names ...' makes such images"
        )
    return BandImage.of(samples)

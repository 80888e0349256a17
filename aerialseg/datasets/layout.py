"""Where the images and masks of a data set lie, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aerialseg.raster.bands import RGB
from aerialseg.toml import build, naming_file, read_toml


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Mean and standard deviation of each band, of values scaled to 0..1."""

    bands: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = {"red": (0.485, 0.229), "green": (0.456, 0.224), "blue": (0.406, 0.225)}
"""Band -> mean and standard deviation."""
RGB_NORMALISATION = Normalisation(RGB, *zip(*(IMAGENET[name] for name in RGB), strict=True))


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where the pairs lie, relative to the data folder, and what they mean.

    images, masks: folders of files with the same stems. Masks hold class indices (mode L or P) or colours of the
    legend (RGB). bands: names of the images' bands, in their order; with other than three, images are GeoTIFFs, as
    ``aerialseg chips`` makes them. scale: source values that became 0 and 255 there, for the model's card. legend,
    split: CSV files beside the configuration. void: class ids that are neither learned nor
    scored. watch: held-out frames looked at after each epoch, for show; 0 for all of them.
    prepared: (rows, columns) at which frames are kept on disk. size: (rows, columns) of a frame at the resolution of
    the finished model, whose pixels are ``gsd_m`` metres on the ground.
    """

    legend: Path
    split: Path
    size: tuple[int, int]
    gsd_m: float
    images: str = "original_images"
    masks: str = "label_images_semantic"
    prepared: tuple[int, int] | None = None
    void: tuple[int, ...] = ()
    bands: tuple[str, ...] = RGB
    scale: tuple[float, ...] = ()
    watch: int = 0

    @classmethod
    def read(cls, path: str | Path) -> DataConfig:
        """The table [data] of a training configuration, its paths relative to it. Raises InputError, UsageError."""
        values = read_toml(path, "training configuration")
        with naming_file(path):
            return build(cls, placed(values.get("data", {}), Path(path).parent), "data")


def placed(data: object, folder: Path) -> object:
    """The table [data] with its paths below ``folder``."""
    if not isinstance(data, Mapping):
        return data
    named = (name for name in ("legend", "split") if isinstance(data.get(name), str))
    return {**data, **{name: folder / data[name] for name in named}}

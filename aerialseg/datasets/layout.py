"""Where the images and masks of a data set lie, and what they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aerialseg.toml import build, naming_file, read_toml


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where the pairs lie, relative to the data folder, and what they mean.

    images, masks: folders of files with the same stems. Masks hold class indices (mode L or P) or colours of the
    legend (RGB). legend, split: CSV files beside the configuration. void: class ids that are neither learned nor
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

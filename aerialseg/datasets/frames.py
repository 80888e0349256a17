"""Which frames are scored, and against what: folders known by their names, the split, the size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.datasets.images import RGB_BANDS, read_shape
from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import Pairs, find_pairs, read_scenes, read_split, same_ratio
from aerialseg.errors import InputError, UsageError
from aerialseg.legend import Legend
from aerialseg.model.card import ModelCard

LAYOUTS = (
    ("original_images", "label_images_semantic"),
    ("original_images", "RGB_color_image_masks"),
    ("images", "masks"),
)
"""Folders of images and of masks, as data sets have them; where several are there, the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Groups that are compared in place of classes: of each id of the truth, and of the model, the group's."""

    legend: Legend
    of_truth: NDArray[np.uint8]
    of_model: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class FrameSet:
    """Pairs to score and what their masks mean.

    size: (rows, columns) that each frame is brought to; None takes it as it is. scenes: frame to scene. selection:
    which frames these are, in words. held_out: whether a split says that no model was trained on them. bands: of the
    images. groups: what classes are put together for the scores.
    """

    pairs: Pairs
    legend: Legend
    void: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    scenes: Mapping[str, str] = field(default_factory=dict)
    selection: str = ""
    held_out: bool = False
    bands: int = RGB_BANDS
    groups: Grouping | None = None

    @property
    def scored(self) -> Legend:
        """The classes of the scores: the groups, where there are any."""
        return self.groups.legend if self.groups else self.legend

    def truth(self, mask: Path) -> NDArray[np.uint8]:
        """The ids of ``scored`` of a mask. Raises InputError."""
        ids = read_mask(mask, self.legend, self.void)
        return self.groups.of_truth[ids] if self.groups else ids


def find_frames(
    card: ModelCard,
    data_dir: str | Path,
    *,
    config: str | Path | DataConfig | None = None,
    split: str | Path | None = None,
    every: bool = False,
    size: tuple[int, int] | None = None,
) -> FrameSet:
    """The frames of a data folder that the split holds out; all of them with ``every`` or where there is no split.

    Legend, void classes, folders, split and size are the configuration's. Without one, legend and void are the card's,
    the folders one of LAYOUTS and the size that of the frames which the model was trained for, if its card says so.
    ``split`` and ``size`` overrule both. Raises InputError, UsageError.
    """
    if every and split is not None:
        raise UsageError(f"all frames were asked for, and those of the split {split}: leave out one of the two")
    frames, own_split = _configured(config, data_dir) if config else (_found(card, Path(data_dir)), None)
    frames = _selected(frames, None if every else split or own_split)
    if size is not None:
        return replace(frames, size=size)
    if config is None:
        _check_aspect(frames)
    return frames


def _selected(frames: FrameSet, split: str | Path | None) -> FrameSet:
    if split is None:
        return replace(frames, selection="all there are, some of which the model may have been trained on")
    scenes = {name: scene for name, scene in read_scenes(split).items() if scene != f"frame {name}"}
    pairs = held_out_pairs(frames.pairs, read_split(split), split)
    selection = f"held out by {Path(split).name}"
    return replace(frames, pairs=pairs, scenes=scenes, selection=selection, held_out=True)


def held_out_pairs(pairs: Pairs, split: Mapping[str, bool], name: object = "the split") -> Pairs:
    """The pairs that the split holds out. Raises InputError where it holds out none, or one that is not there."""
    wanted = [frame for frame, held in split.items() if held]
    missing = sorted(set(wanted) - set(pairs))
    if missing:
        raise InputError(
            f"{name} holds out {len(wanted)} frames, of which {len(missing)} are not among these data (first "
            f"{missing[0]!r}): give the data that it was made for, or another split"
        )
    if not wanted:
        raise InputError(f"{name} holds out no frame: wanted held_out = 1 in some of its {len(split)} lines")
    return {frame: pairs[frame] for frame in sorted(wanted)}


def _configured(config: str | Path | DataConfig, data_dir: str | Path) -> tuple[FrameSet, Path]:
    data = config if isinstance(config, DataConfig) else DataConfig.read(config)
    legend = Legend.from_csv(data.legend)
    return FrameSet(find_pairs(data_dir, data), legend, data.void, data.size, bands=len(data.bands)), data.split


def _found(card: ModelCard, folder: Path) -> FrameSet:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}: give the data set's folder")
    layout = next((names for names in LAYOUTS if all((folder / name).is_dir() for name in names)), None)
    if layout is None:
        wanted = ", or ".join(f"{images}/ and {masks}/" for images, masks in LAYOUTS)
        raise InputError(f"{folder} has no known pair of folders for images and masks: wanted {wanted}")
    # What a configuration would say of such data; find_pairs reads the names of the folders alone.
    data = DataConfig(Path(), Path(), (0, 0), card.gsd_m, images=layout[0], masks=layout[1])
    pairs = find_pairs(folder, data)
    return FrameSet(pairs, card.legend, card.void, frame_size(card), bands=len(card.bands))


def _check_aspect(frames: FrameSet) -> None:
    """Raise InputError where bringing a frame to the size would squeeze it: nobody has asked for that."""
    for path, _ in frames.pairs.values() if frames.size else ():
        rows, cols = frames.size or (1, 1)
        height, width = read_shape(path, frames.bands)
        if not same_ratio((height, width), (rows, cols)):
            raise InputError(
                f"{path} has {height} x {width} px (rows x columns), and the model is for frames of {rows} x {cols}: "
                "give --size ROWS,COLS, the size to resample the frames to"
            )


def frame_size(card: ModelCard) -> tuple[int, int] | None:
    """(rows, columns) of the frames that the model was trained for, where its card says so."""
    size = card.training.get("frame_size")
    return (int(size[0]), int(size[1])) if size else None

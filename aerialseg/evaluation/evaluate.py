"""Scores of a model on pairs of image and mask, asked as the pipeline asks it. Needs Pillow, but no fastai."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from aerialseg.datasets.layout import DataConfig
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.evaluation.boundaries import Boundaries
from aerialseg.evaluation.results import Evaluation, FrameScore
from aerialseg.evaluation.scores import Confusion, Reliability
from aerialseg.legend import NODATA
from aerialseg.model.card import ModelCard, Tiling
from aerialseg.model.groups import Groups
from aerialseg.model.interface import Predictor
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card
from aerialseg.progress import Progress, Silent

try:
    from PIL import Image

    from aerialseg.datasets.frames import FrameSet, Grouping, find_frames
    from aerialseg.datasets.images import read_image
    from aerialseg.datasets.pairs import check_shapes, note_greys, resize_ids
except ModuleNotFoundError as error:
    if error.name != "PIL":
        raise
    raise UsageError("scoring frames needs Pillow: pip install 'aerialseg[scenes]'") from error

SHOWN_PX = 480
"""Columns of what is kept of each frame's prediction, to be looked at."""


def evaluate(
    model: str | Path | None,
    data_dir: str | Path,
    *,
    config: str | Path | DataConfig | None = None,
    split: str | Path | None = None,
    every: bool = False,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool = False,
    groups: str | Path | Groups | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores of a model on the test set of a data folder: the frames that the split holds out, otherwise all frames.

    Parameters
    ----------
    model : path or name
        A directory with ``card.json`` and ``weights.safetensors``, or a name. None: the bundled model.
    data_dir : path
        Folder of images and masks: original_images/ and label_images_semantic/ (or RGB_color_image_masks/), or images/
        and masks/.
    config : path or DataConfig
        Training configuration whose legend, ignored classes, folders, split and size count. Default: the model card's
        legend and ignored classes.
    split : path
        CSV (frame,held_out,scene): frames with held_out = 1 are scored. Default: the configuration's.
    every : bool
        Score all frames, whatever the configuration's split says.
    size : tuple[int, int], px
        (rows, columns) that frames are resampled to. Default: the training's, otherwise unchanged.
    device : one of auto, cpu, cuda
        Device that computes the network.
    precision : one of auto, fp32, bf16, int8
        Numbers to compute in; auto: the fastest without loss that the processor has.
    tta : bool
        Test-time augmentation (8 flips and rotations).
    groups : Groups or path
        Groups to compare instead of single classes, or the CSV file ``class,group`` of them, with the classes of model
        and data: as ``assess_map`` compares its map. The confidence stays that of the single class.
    progress : Progress
        Listener for stages and messages.

    Raises
    ------
    InputError
        The data cannot be read, or masks and images do not fit together.
    ModelError
        The model cannot be loaded, or has other classes than the data.
    ResourceError
        No such device, or not enough memory.
    UsageError
        The arguments contradict one another, or Pillow is not installed.
    """
    card = load_card(model)
    frames = find_frames(card, data_dir, config=config, split=split, every=every, size=size)
    if groups is not None:
        frames = replace(frames, groups=_grouping(groups, frames, card))
    elif frames.legend.names != card.legend.names:
        raise ModelError(
            f"the classes of the model {card.name!r} ({', '.join(card.legend.names[:3])} ...) are not those of the "
            f"data's legend ({', '.join(frames.legend.names[:3])} ...): give data of its classes, or "
            "--groups with a table of both"
        )
    if frames.bands != len(card.bands):
        raise ModelError(
            f"the model {card.name!r} takes {len(card.bands)} bands ({', '.join(card.bands)}), and the data's images "
            f"have {frames.bands}: give data with its bands"
        )
    tiling: Tiling = "exact" if card.exact else "approximate"
    spec = resolve(model, device=device, precision=precision, tiling=tiling, tta=tta)
    about = {
        "model": card.name,
        "weights_sha256": card.weights_sha256,
        "data": str(data_dir),
        "frames": len(frames.pairs),
        "selection": frames.selection,
        "held_out": frames.held_out,
        "size": list(frames.size) if frames.size else None,
        "test_time_averaging": tta,
        "numerics": spec.numerics,
    }
    return replace(score_frames(spec.load(), frames, progress=progress), about=about)


def _grouping(groups: str | Path | Groups, frames: FrameSet, card: ModelCard) -> Grouping:
    table = groups if isinstance(groups, Groups) else Groups.from_csv(groups)
    of_model = table.numbers(card.legend, f"the model {card.name!r}", card.void)
    of_truth = table.numbers(frames.legend, "the data's legend", frames.void)
    return Grouping(table.legend(card.legend), of_truth, of_model)


def score_frames(predictor: Predictor, frames: FrameSet, *, progress: Progress | None = None) -> Evaluation:
    """The evaluation of a predictor. Raises InputError."""
    progress = progress or Silent()
    note_greys(frames.pairs, frames.legend, progress)
    progress.stage("score", len(frames.pairs))
    classes, scores = len(frames.scored), []
    confusion, reliability, boundaries = Confusion.empty(classes), Reliability.empty(), Boundaries.empty(classes)
    for name in frames.pairs:
        score = score_frame(predictor, frames, name)
        confusion, reliability = confusion + score.confusion, reliability + score.reliability
        boundaries += score.boundaries
        scores.append(score)
        progress.advance(1)
    if not confusion.counts.sum():
        raise InputError(
            f"the masks of {len(scores)} frames have no labelled pixel, so there is nothing to score: give "
            "labelled masks"
        )
    void = () if frames.groups else frames.void
    return Evaluation(frames.scored, confusion, reliability, tuple(scores), void, boundaries)


def score_frame(predictor: Predictor, frames: FrameSet, name: str) -> FrameScore:
    """How one frame is met, brought to the size first. Raises InputError."""
    image_path, mask_path = frames.pairs[name]
    image = read_image(image_path, bands=frames.bands)
    mask = frames.truth(mask_path)
    check_shapes(image.size[::-1], mask.shape, image_path, mask_path)
    shape = frames.size or (image.height, image.width)
    pixels = np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    said, classes = predictor.predict_array(pixels), len(frames.scored)
    truth, found = resize_ids(mask, shape), said.classes
    if frames.groups:
        found = frames.groups.of_model[found]
        truth = np.where(found == NODATA, found, truth)
    rows, cols = shape
    small = (max(1, round(rows * min(1, SHOWN_PX / cols))), min(cols, SHOWN_PX))
    return FrameScore(
        name=name,
        image=image_path,
        mask=mask_path,
        confusion=Confusion.of(truth, found, classes),
        reliability=Reliability.of(truth, found, said.confidence),
        boundaries=Boundaries.of(truth, found, classes),
        truth=resize_ids(mask, small),
        predicted=resize_ids(found, small),
        scene=frames.scenes.get(name, ""),
        bands=frames.bands,
    )

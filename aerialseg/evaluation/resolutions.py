"""One model's scores at one resolution, for frames that it sees at several."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from aerialseg.datasets.frames import FrameSet, find_frames
from aerialseg.datasets.images import read_image
from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import resize_ids
from aerialseg.errors import UsageError
from aerialseg.evaluation.scores import Confusion
from aerialseg.model.interface import Predictor
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card
from aerialseg.progress import Progress, Silent


def evaluate_sizes(
    model: str | Path,
    data_dir: str | Path,
    config: DataConfig,
    own: tuple[int, int],
    *,
    progress: Progress | None = None,
) -> dict[str, Confusion]:
    """{"final", "own"}: matrices over the frames that the configuration's split holds out, at its final size.

    For "final" the model sees them at that size, for "own" at the size ``own`` (rows, columns), and its labels are
    enlarged by the nearest pixel. Raises InputError, ModelError.
    """
    card = load_card(model)
    frames = find_frames(card, data_dir, config=config)
    if frames.size is None:
        raise UsageError("the frames have no final size: set data.size in the configuration")
    spec = resolve(model, tiling="exact" if card.exact else "approximate")
    progress = progress or Silent()
    progress.stage("score", len(frames.pairs))
    sizes = {"final": frames.size, "own": own}
    totals = {name: Confusion.empty(len(frames.legend)) for name in sizes}
    for paths in frames.pairs.values():
        for name, confusion in _score(spec.load(), paths, frames, frames.size, sizes).items():
            totals[name] += confusion
        progress.advance(1)
    return totals


def _score(
    predictor: Predictor,
    paths: tuple[Path, Path],
    frames: FrameSet,
    final: tuple[int, int],
    sizes: Mapping[str, tuple[int, int]],
) -> dict[str, Confusion]:
    image = read_image(paths[0], bands=frames.bands)
    truth = resize_ids(read_mask(paths[1], frames.legend, frames.void), final)
    found: dict[tuple[int, int], Confusion] = {}
    for rows, cols in set(sizes.values()):
        pixels = np.asarray(image.resize((cols, rows), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        said = predictor.predict_array(pixels).classes
        found[rows, cols] = Confusion.of(truth, resize_ids(said, final), len(frames.legend))
    return {name: found[size] for name, size in sizes.items()}

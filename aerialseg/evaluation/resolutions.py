"""One model's scores at one resolution, for frames that it sees at several."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.datasets.frames import FrameSet, find_frames
from aerialseg.datasets.images import read_image
from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.pairs import resize_ids
from aerialseg.errors import UsageError
from aerialseg.evaluation.pictures import paint
from aerialseg.evaluation.scores import Confusion
from aerialseg.files import naming_errors
from aerialseg.legend import Legend
from aerialseg.model.interface import Predictor
from aerialseg.model.predictor import resolve
from aerialseg.model.store import load_card
from aerialseg.progress import Progress, Silent

DRAWN, SHOWN_PX = 3, 320
"""Frames that are drawn, and columns of their pictures."""


def evaluate_sizes(
    model: str | Path,
    data_dir: str | Path,
    config: DataConfig,
    own: tuple[int, int],
    *,
    shown: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Confusion]:
    """{"final", "own"}: matrices over the frames that the configuration's split holds out, at its final size.

    For "final" the model sees them at that size, for "own" at the size ``own`` (rows, columns), and its labels are
    enlarged by the nearest pixel. ``shown``: a folder for pictures of a few frames, the same for every model. Raises
    InputError, ModelError, OutputError.
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
    drawn = list(frames.pairs)[:: math.ceil(len(frames.pairs) / DRAWN)]
    for frame, paths in frames.pairs.items():
        image, truth = _read(paths, frames, frames.size)
        for name, said in _predict(spec.load(), image, frames.size, sizes).items():
            totals[name] += Confusion.of(truth, said, len(frames.legend))
            if shown is not None and frame in drawn and name == "final":
                _draw(shown, frame, image, truth, said, frames.legend)
        progress.advance(1)
    return totals


def _read(paths: tuple[Path, Path], frames: FrameSet, final: tuple[int, int]) -> tuple[Any, NDArray[np.uint8]]:
    return read_image(paths[0], bands=frames.bands), resize_ids(frames.truth(paths[1]), final)


def _predict(
    predictor: Predictor, image: Any, final: tuple[int, int], sizes: Mapping[str, tuple[int, int]]
) -> dict[str, NDArray[np.uint8]]:
    """Classes at the final size, of the frame at each of the sizes."""
    found: dict[tuple[int, int], NDArray[np.uint8]] = {}
    for rows, cols in set(sizes.values()):
        pixels = np.asarray(image.resize((cols, rows), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        found[rows, cols] = resize_ids(predictor.predict_array(pixels).classes, final)
    return {name: found[size] for name, size in sizes.items()}


def _draw(
    folder: Path, frame: str, image: Any, truth: NDArray[np.uint8], said: NDArray[np.uint8], legend: Legend
) -> None:
    """Image, truth and map of a frame as small pictures. Raises OutputError."""
    shape = round(truth.shape[0] * SHOWN_PX / truth.shape[1]), SHOWN_PX
    painted = {name: paint(resize_ids(ids, shape), legend) for name, ids in (("truth", truth), ("map", said))}
    with naming_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        image.convert("RGB").resize(shape[::-1]).save(folder / f"{frame}-image.png")
        for name, picture in painted.items():
            picture.save(folder / f"{frame}-{name}.png")

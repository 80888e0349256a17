"""Scores of a model on pairs of image and mask, asked as the pipeline asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.legend import Legend
from aerialseg.model.card import Tiling
from aerialseg.model.interface import Prediction, Predictor, Tile
from aerialseg.model.store import load_card, resolve
from aerialseg.raster.grid import Grid
from aerialseg.scores import Confusion
from aerialseg.training.config import TrainingConfig
from aerialseg.training.pairs import find_pairs, read_image, read_mask, read_split, split_pairs


def predict_frame(predictor: Predictor, pixels: NDArray[np.uint8], *, halo: int, stride: int = 32) -> Prediction:
    """What the pipeline would say of a whole frame, pixels (C, h, w): padded to the lattice, asked as one block."""
    _, height, width = pixels.shape
    grid = Grid(height, width, block=-(-max(height, width) // stride) * stride, halo=halo, stride=stride)
    padding = [(0, grid.canvas.height - height), (0, grid.canvas.width - width)]
    valid = np.pad(np.ones((height, width), dtype=np.bool_), padding)
    return predictor.predict(Tile(np.pad(pixels, [(0, 0), *padding]), valid, grid.canvas, grid.raster))


def score_frames(
    predictor: Predictor,
    pairs: Mapping[str, tuple[Path, Path]],
    legend: Legend,
    *,
    size: tuple[int, int] | None = None,
    void: tuple[int, ...] = (),
    halo: int = 608,
    each: Callable[[str, Confusion], None] | None = None,
) -> Confusion:
    """The confusion matrix over all pairs of image and mask, each frame brought to ``size`` (rows, columns) first."""
    total = Confusion.empty(len(legend))
    for name, (image_path, mask_path) in pairs.items():
        pixels = np.asarray(read_image(image_path, size)).transpose(2, 0, 1)
        truth = _resized(read_mask(mask_path, legend, void), pixels.shape[1:])
        predicted = predict_frame(predictor, np.ascontiguousarray(pixels), halo=halo).classes
        frame = Confusion.of(truth, predicted, len(legend))
        total += frame
        if each is not None:
            each(name, frame)
    return total


def _resized(mask: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if mask.shape == shape:
        return mask
    return np.asarray(Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.NEAREST))


def evaluate(
    config_path: str | Path,
    data_dir: str | Path,
    model: str | Path | None = None,
    *,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    precision: str = "auto",
    each: Callable[[str, Confusion], None] | None = None,
) -> tuple[Legend, Confusion]:
    """(legend, confusion matrix) of a model on the frames that the configuration's split holds out.

    size: (rows, columns) at which frames are looked at, the configuration's working size unless told. Raises
    InputError, ModelError, ResourceError.
    """
    config = TrainingConfig.read(config_path)
    tiling: Tiling = "exact" if load_card(model).exact else "approximate"
    spec = resolve(model, device=device, precision=precision, tiling=tiling)
    legend = Legend.from_csv(config.data.legend)
    _, held = split_pairs(find_pairs(data_dir, config.data), read_split(config.data.split))
    chosen = size or config.data.size
    predictor, void = spec.load(), config.data.void
    return legend, score_frames(predictor, held, legend, size=chosen, void=void, halo=spec.card.halo, each=each)

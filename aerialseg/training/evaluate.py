"""Scores: one confusion matrix over the whole set, and everything from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from aerialseg.legend import NODATA, Legend
from aerialseg.model.card import Tiling
from aerialseg.model.interface import Prediction, Predictor, Tile
from aerialseg.model.store import load_card, resolve
from aerialseg.raster.grid import Grid
from aerialseg.training.config import TrainingConfig
from aerialseg.training.dataset import find_pairs, read_image, read_mask, read_split, split_pairs


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """counts[truth, prediction]: int64 pixels, void left out. Adding two gives that of both sets together."""

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Confusion:
        return cls(np.zeros((classes, classes), dtype=np.int64))

    @classmethod
    def of(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int, void: int = NODATA) -> Confusion:
        """The matrix of two class rasters of one shape; pixels whose truth is ``void`` are not counted."""
        if truth.shape != predicted.shape:
            raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
        known = truth != void
        pairs = truth[known].astype(np.int64) * classes + predicted[known]
        return cls(np.bincount(pairs, minlength=classes * classes).reshape(classes, classes))

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.counts + other.counts)

    @property
    def pixel_accuracy(self) -> float:
        return _ratio(np.trace(self.counts), self.counts.sum())

    @property
    def present(self) -> NDArray[np.bool_]:
        """Classes that occur in the truth: the ones that means are taken over."""
        return self.counts.sum(axis=1) > 0

    @property
    def iou(self) -> NDArray[np.float64]:
        """Per class: pixels in both over pixels in either; NaN where neither has any."""
        both, either = np.diag(self.counts), self._either()
        return np.divide(both, either, out=np.full(len(both), np.nan), where=either > 0)

    @property
    def dice(self) -> NDArray[np.float64]:
        """Per class: twice the pixels in both over the sum of pixels in each; NaN where neither has any."""
        both, total = np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1)
        return np.divide(2 * both, total, out=np.full(len(both), np.nan), where=total > 0)

    @property
    def mean_iou(self) -> float:
        return float(self.iou[self.present].mean()) if self.present.any() else float("nan")

    @property
    def mean_dice(self) -> float:
        return float(self.dice[self.present].mean()) if self.present.any() else float("nan")

    @property
    def frequency_weighted_iou(self) -> float:
        share = self.counts.sum(axis=1)[self.present]
        return _ratio((share * self.iou[self.present]).sum(), share.sum())

    def _either(self) -> NDArray[np.int64]:
        both = np.diag(self.counts)
        either: NDArray[np.int64] = self.counts.sum(axis=0) + self.counts.sum(axis=1) - both
        return either

    def to_json(self, legend: Legend) -> dict[str, Any]:
        """Scores rounded to four digits, per class only for classes present in the truth."""
        share = self.counts.sum(axis=1) / max(1, self.counts.sum())
        per_class = {
            entry.name: {
                "iou": round(float(self.iou[entry.id]), 4),
                "dice": round(float(self.dice[entry.id]), 4),
                "share": round(float(share[entry.id]), 5),
            }
            for entry in legend
            if self.present[entry.id]
        }
        return {
            "pixel_accuracy": round(self.pixel_accuracy, 4),
            "mean_iou": round(self.mean_iou, 4),
            "mean_dice": round(self.mean_dice, 4),
            "frequency_weighted_iou": round(self.frequency_weighted_iou, 4),
            "classes_present": int(self.present.sum()),
            "pixels": int(self.counts.sum()),
            "per_class": per_class,
        }


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")


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

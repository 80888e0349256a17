"""Scores: one confusion matrix over the whole set, everything from it, and whether the confidence tells the truth."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import NODATA, Legend
from aerialseg.progress import counted


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """counts[truth, prediction]: int64 pixels, void left out. Adding two gives that of both sets together."""

    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Confusion:
        return cls(np.zeros((classes, classes), dtype=np.int64))

    @classmethod
    def of(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Confusion:
        """The matrix of two class rasters of one shape; pixels whose truth is NODATA are not counted."""
        if truth.shape != predicted.shape:
            raise ValueError(f"truth {truth.shape} and prediction {predicted.shape} differ in shape")
        known = truth != NODATA
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
        present: NDArray[np.bool_] = self.counts.sum(axis=1) > 0
        return present

    @property
    def iou(self) -> NDArray[np.float64]:
        """Per class: pixels in both over pixels in either; NaN where neither has any."""
        return _parts(np.diag(self.counts), self._either())

    @property
    def dice(self) -> NDArray[np.float64]:
        """Per class: twice the pixels in both over the sum of pixels in each; NaN where neither has any."""
        return _parts(2 * np.diag(self.counts), self.counts.sum(axis=0) + self.counts.sum(axis=1))

    @property
    def share(self) -> NDArray[np.float64]:
        """Per class: its part of the true pixels."""
        part: NDArray[np.float64] = self.counts.sum(axis=1) / max(1, self.counts.sum())
        return part

    @property
    def precision(self) -> NDArray[np.float64]:
        """Per class: of the pixels that were given it, the part that is right; NaN where none was."""
        return _parts(np.diag(self.counts), self.counts.sum(axis=0))

    @property
    def recall(self) -> NDArray[np.float64]:
        """Per class: of its true pixels, the part that was found; NaN where it has none."""
        return _parts(np.diag(self.counts), self.counts.sum(axis=1))

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

    def absent(self, legend: Legend, void: Collection[int] = ()) -> list[str]:
        """Names of the classes, but for void ones, that the truth does not have: no mean says anything of them."""
        return [entry.name for entry in legend if not self.present[entry.id] and entry.id not in void]

    def spoken(self, legend: Legend, void: Collection[int] = ()) -> str:
        """Accuracy and mean IoU in a line, and of which classes that mean is not."""
        absent = self.absent(legend, void)
        present = counted(int(self.present.sum()), "class")
        without = f" of {present} (not in the truth: {', '.join(absent)})" if absent else ""
        return f"accuracy {self.pixel_accuracy:.4f}, mean IoU {self.mean_iou:.4f}{without}"

    def to_json(self, legend: Legend, void: Collection[int] = ()) -> dict[str, Any]:
        """Scores rounded to four digits, per class only for classes present in the truth."""
        share = self.share
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
            "classes_absent": self.absent(legend, void),
            "pixels": int(self.counts.sum()),
            "per_class": per_class,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Whether the confidence tells the truth: of the pixels that were given each per cent, how many were right.

    seen, right: int64 (101,), by confidence in per cent, void left out. Adding two gives that of both sets together.
    (Guo et al. 2017, arXiv 1706.04599.)
    """

    seen: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def empty(cls) -> Reliability:
        return cls(np.zeros(101, dtype=np.int64), np.zeros(101, dtype=np.int64))

    @classmethod
    def of(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> Reliability:
        """Of arrays of one shape; confidence in per cent, 0 to 100; pixels whose truth is NODATA are not counted."""
        known = truth != NODATA
        said, right = confidence[known], (truth == predicted)[known]
        return cls(np.bincount(said, minlength=101), np.bincount(said[right], minlength=101))

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(self.seen + other.seen, self.right + other.right)

    @property
    def expected_calibration_error(self) -> float:
        """Mean distance between confidence and share of right pixels, per cent by per cent, weighted by pixels."""
        confidence = np.arange(101) / 100
        return _ratio(np.abs(self.right - confidence * self.seen).sum(), self.seen.sum())

    def to_json(self) -> dict[str, Any]:
        return {
            "expected_calibration_error": round(self.expected_calibration_error, 4),
            "seen": self.seen.tolist(),
            "right": self.right.tolist(),
        }


def _parts(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Element by element part / whole; NaN where the whole is nothing."""
    out: NDArray[np.float64] = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return out


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")

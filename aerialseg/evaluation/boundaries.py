"""Outlines: how near they are to those of the truth, and in what step the map draws them.

The boundary F-score is that of Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?"
(BMVC, 10.5244/C.27.32): of a class's boundary pixels in the map, the share with one of the truth within a tolerance
(precision), the same the other way round (recall), and their harmonic mean. Counts are summed over all frames before
they are divided, as those of the confusion matrix are. The tolerance here is a few pixels: theirs, 0.75 % of the
diagonal, is as wide as a person is in a drone's image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import NODATA

TOLERANCE_PX = 3
"""Pixels along rows and columns between two boundary pixels that still meet."""


@dataclass(frozen=True, slots=True, eq=False)
class Boundaries:
    """Counts of boundary pixels and of aligned squares; adding two gives those of both sets together.

    counts: int64 (classes, 4): boundary pixels of the map, those of them that meet the truth's, and the same of the
    truth. squares: int64 (5,): squares of 2 x 2 pixels from even rows and columns whose truth is known; of them those
    of one class in the map, and in the truth; and the first two for squares that begin a pixel further on.
    """

    counts: NDArray[np.int64]
    squares: NDArray[np.int64]

    @classmethod
    def empty(cls, classes: int) -> Boundaries:
        return cls(np.zeros((classes, 4), np.int64), np.zeros(5, np.int64))

    @classmethod
    def of(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Boundaries:
        """Of two class rasters of one shape; pixels whose truth is NODATA have no boundary and meet none."""
        known = truth != NODATA
        predicted = np.where(known, predicted, NODATA)
        ours, theirs = _edges(predicted), _edges(truth)
        counts = np.zeros((classes, 4), np.int64)
        for number in np.unique(np.concatenate([predicted[ours], truth[theirs]])):
            said, true = ours & (predicted == number), theirs & (truth == number)
            met, found = said & _near(true), true & _near(said)
            counts[number] = [np.count_nonzero(one) for one in (said, met, true, found)]
        return cls(counts, _squares(truth, predicted))

    def __add__(self, other: Boundaries) -> Boundaries:
        return Boundaries(self.counts + other.counts, self.squares + other.squares)

    @property
    def f_scores(self) -> NDArray[np.float64]:
        """Per class; NaN where the truth has no boundary of it."""
        said, met, true, found = self.counts.T.astype(float)
        precision, recall = met / np.maximum(said, 1), found / np.maximum(true, 1)
        scores = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return np.where(true > 0, scores, np.nan)

    @property
    def mean_f_score(self) -> float:
        """Over the classes that have a boundary in the truth."""
        scores = self.f_scores
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")

    @property
    def uniform(self) -> tuple[float, float, float]:
        """Shares of aligned squares of one class: in the map, in the truth, and in the map a pixel further on."""
        known, ours, theirs, further, moved = (float(count) for count in self.squares)
        return ours / max(known, 1), theirs / max(known, 1), moved / max(further, 1)

    def text(self) -> str:
        """What was found, in a sentence."""
        ours, theirs, moved = self.uniform
        return (
            f"boundary F-score {self.mean_f_score:.4f} (within {TOLERANCE_PX} px); 2 x 2 pixel squares of one class: "
            f"map {ours:.2%} (moved by a pixel {moved:.2%}), truth {theirs:.2%}"
        )

    def to_json(self) -> dict[str, Any]:
        ours, theirs, moved = (round(share, 5) for share in self.uniform)
        return {
            "f_score": round(self.mean_f_score, 4),
            "tolerance_px": TOLERANCE_PX,
            "uniform_2x2": {"map": ours, "truth": theirs, "map_moved_by_1_px": moved},
        }


def _edges(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with a class whose neighbour in the row or column has another one."""
    edges = np.zeros(ids.shape, bool)
    for first, second in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        one, other = ids[first], ids[second]
        differ = (one != other) & (one != NODATA) & (other != NODATA)
        edges[first] |= differ
        edges[second] |= differ
    return edges


def _near(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels within the tolerance of one of these."""
    for axis in (0, 1):
        padded = np.pad(pixels, [(TOLERANCE_PX, TOLERANCE_PX) if axis == which else (0, 0) for which in (0, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * TOLERANCE_PX + 1, axis)
        pixels = np.asarray(windows.any(axis=-1))
    return pixels


def _squares(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> NDArray[np.int64]:
    known, moved = _corners(truth != NODATA).all(axis=0), _corners(truth[1:, 1:] != NODATA).all(axis=0)
    counted = (known, known & _of_one_class(predicted), known & _of_one_class(truth), moved)
    return np.array([np.count_nonzero(one) for one in (*counted, moved & _of_one_class(predicted[1:, 1:]))], np.int64)


def _corners(values: NDArray[Any]) -> NDArray[Any]:
    """(4, h // 2, w // 2): the pixels of each square."""
    rows, cols = (side // 2 * 2 for side in values.shape)
    return np.stack([values[row:rows:2, col:cols:2] for row in (0, 1) for col in (0, 1)])


def _of_one_class(ids: NDArray[np.uint8]) -> NDArray[np.bool_]:
    corners = _corners(ids)
    same: NDArray[np.bool_] = (corners == corners[0]).all(axis=0)
    return same

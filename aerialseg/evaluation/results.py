"""What an evaluation found, as data. Needs neither Pillow nor torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.evaluation.boundaries import Boundaries
from aerialseg.evaluation.scores import Confusion, Reliability
from aerialseg.legend import Legend

if TYPE_CHECKING:
    from aerialseg.evaluation.map_accuracy import Assessment


@dataclass(frozen=True, slots=True, eq=False)
class FrameScore:
    """One frame and how well it was met.

    truth, predicted: classes, uint8 (rows, columns), reduced by taking the nearest pixel, to be looked at. bands: of
    the image.
    """

    name: str
    image: Path
    mask: Path
    confusion: Confusion
    reliability: Reliability
    boundaries: Boundaries
    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    scene: str = ""
    bands: int = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """(lowest, highest) score where one of so many scenes is left out at a time: how much hangs on which were held out.

    Frames of a place stand and fall together, so many frames of few places say less than their number promises.
    """

    scenes: int
    pixel_accuracy: tuple[float, float]
    mean_iou: tuple[float, float]

    @classmethod
    def of(cls, whole: Confusion, scenes: Iterable[Confusion]) -> Spread:
        """From the matrix of all and those of at least two scenes in it."""
        rests = [Confusion(whole.counts - scene.counts) for scene in scenes]
        accuracies, ious = [rest.pixel_accuracy for rest in rests], [rest.mean_iou for rest in rests]
        return cls(len(rests), (min(accuracies), max(accuracies)), (min(ious), max(ious)))

    def text(self) -> str:
        """What was found, in a sentence."""
        (low, high), (least, most) = self.pixel_accuracy, self.mean_iou
        return (
            f"without any one of the {self.scenes} scenes: pixel accuracy {low:.3f} to {high:.3f}, "
            f"mean IoU {least:.3f} to {most:.3f}"
        )

    def to_json(self) -> dict[str, Any]:
        ranges = {"pixel_accuracy": self.pixel_accuracy, "mean_iou": self.mean_iou}
        return {"scenes": self.scenes} | {name: [round(end, 4) for end in ends] for name, ends in ranges.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Scores over all pixels that were compared, and what they are made of.

    Attributes
    ----------
    legend : Legend
        Classes.
    confusion : Confusion
        Confusion matrix by class id, and the scores from it (``mean_iou``, ``pixel_accuracy`` ...).
    reliability : Reliability
        Calibration of the confidence; empty if there was none.
    frames : tuple of FrameScore
        Scores of each frame; empty if rasters were compared.
    void : tuple[int, ...]
        Class ids that were not counted.
    boundaries : Boundaries
        Boundary F-score, and the step in which the map's outlines are drawn; None if rasters were compared.
    about : mapping
        Facts for people and JSON, by name: model, data, selection of frames, numerics ...
    """

    legend: Legend
    confusion: Confusion
    reliability: Reliability
    frames: tuple[FrameScore, ...] = ()
    void: tuple[int, ...] = ()
    boundaries: Boundaries | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of_assessment(cls, found: Assessment) -> Evaluation:
        """The evaluation of a map that was compared with the truth."""
        about = {
            "classes": str(found.classes),
            "truth": str(found.truth),
            "pixels_compared": found.compared,
            "pixels_without_class_in_the_map": found.missed,
            "pixels_without_class_in_the_truth": found.untold,
            "pixels_of_classes_unknown_to_the_map": dict(found.ignored),
            "area_m2": None if found.area_m2 is None else round(found.area_m2, 2),
        }
        return cls(found.legend, found.confusion, found.reliability or Reliability.empty(), about=about)

    @property
    def ids(self) -> list[int]:
        """Class ids in the order of the legend."""
        return [entry.id for entry in self.legend]

    @property
    def table(self) -> NDArray[np.int64]:
        """The counts of the confusion matrix in the order of the legend, whose ids may have gaps."""
        return self.confusion.counts[np.ix_(self.ids, self.ids)]

    @property
    def scenes(self) -> dict[str, Confusion]:
        """The matrix of each scene, by its name; of frames whose scene is not known there is none."""
        found: dict[str, Confusion] = {}
        nothing = Confusion.empty(len(self.confusion.counts))
        for frame in self.frames:
            if frame.scene:
                found[frame.scene] = found.get(frame.scene, nothing) + frame.confusion
        return found

    @property
    def spread(self) -> Spread | None:
        """None where fewer than two scenes are known, or nothing is left without one of them."""
        scenes = [found for found in self.scenes.values() if found.counts.sum()]
        alone = any((self.confusion.counts == found.counts).all() for found in scenes)
        return Spread.of(self.confusion, scenes) if len(scenes) > 1 and not alone else None

    @property
    def absent(self) -> list[str]:
        """Classes that the truth does not have, but for void ones."""
        return self.confusion.absent(self.legend, self.void)

    @property
    def calibrated(self) -> bool:
        """Whether there was a confidence to look at."""
        return bool(self.reliability.seen.sum())

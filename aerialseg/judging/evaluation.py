"""What an evaluation found, as data. Needs neither Pillow nor torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import Legend
from aerialseg.scores import Confusion, Reliability

if TYPE_CHECKING:
    from aerialseg.assess import Assessment


@dataclass(frozen=True, slots=True, eq=False)
class FrameScore:
    """One frame and how well it was met.

    predicted: the classes said, uint8 (rows, columns), reduced by taking the nearest pixel, to be looked at.
    """

    name: str
    image: Path
    mask: Path
    confusion: Confusion
    reliability: Reliability
    predicted: NDArray[np.uint8]
    scene: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One confusion matrix over everything that was compared, and what it is made of.

    confusion: by class id. reliability: empty where there was no confidence. frames: none where rasters were compared.
    void: class ids that were not counted. about: facts for people and JSON, by name.
    """

    legend: Legend
    confusion: Confusion
    reliability: Reliability
    frames: tuple[FrameScore, ...] = ()
    void: tuple[int, ...] = ()
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
    def calibrated(self) -> bool:
        """Whether there was a confidence to look at."""
        return bool(self.reliability.seen.sum())

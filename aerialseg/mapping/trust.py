"""How confident the model is of a map, as a whole and by class; and when that says: this imagery is foreign to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.legend import NODATA, Legend
from aerialseg.raster.classes import ClassFile, to_bytes, to_percent

LOW_PERCENT = 50
"""Below this confidence a pixel's class is little more than a guess among several."""

FOREIGN_MEAN = 0.67
"""Mean confidence below which the imagery is unlike what a model was trained on (docs/model.md has how often)."""


@dataclass(frozen=True, slots=True)
class Certainty:
    """Of some pixels: how many, their mean confidence, and the share of those below 50 % (0 to 1)."""

    pixels: int
    mean: float
    low_share: float

    @property
    def text(self) -> str:
        return f"mean confidence {self.mean:.0%}, below {LOW_PERCENT} % on {self.low_share:.0%} of the area"

    def to_json(self) -> dict[str, float]:
        return {"mean": round(self.mean, 4), "low_share": round(self.low_share, 4)}


@dataclass(frozen=True, slots=True)
class Trust:
    """Certainty of all classified pixels, and by class id; None and empty where there are none.

    calibrated: the model's confidence was compared with held-out labels, so that a low one means something.
    """

    whole: Certainty | None = None
    by_class: Mapping[int, Certainty] = field(default_factory=dict)
    calibrated: bool = False

    @property
    def doubt(self) -> str:
        """One sentence where the imagery does not look like what the model knows; else nothing."""
        if self.whole is None or self.whole.mean >= FOREIGN_MEAN or not self.calibrated:
            return ""
        return (
            f"this imagery does not look like what the model knows (mean confidence {self.whole.mean:.0%}; on its own "
            f"kind above {FOREIGN_MEAN:.0%}): check the map against the orthophoto before use, check --resolution, or "
            "train a model on this imagery (docs/own-imagery.md)"
        )

    def metadata(self, legend: Legend) -> dict[str, str]:
        """What travels inside the products."""
        if self.whole is None:
            return {}
        classes = (f"{legend[one].name} {found.mean:.0%}" for one, found in self.by_class.items())
        values = {
            "mean_confidence": f"{self.whole.mean:.3f}",
            "low_confidence_share": f"{self.whole.low_share:.3f}",
            "confidence_by_class": ", ".join(classes),
            "warning": self.doubt,
        }
        return {name: value for name, value in values.items() if value}

    def to_json(self, names: Mapping[int, str]) -> dict[str, Any]:
        """JSON-ready: of the whole map, and by the names of the classes; those of none are left out."""
        if self.whole is None:
            return {}
        classes = {names[one]: found.to_json() for one, found in self.by_class.items() if one in names}
        return {**self.whole.to_json(), "classes": classes}


def rate_map(classes: Path, confidence: Path, *, calibrated: bool = False) -> Trust:
    """The trust in a map of a class raster and a confidence raster (uint8, per cent) on one grid. Raises InputError."""
    counts = np.zeros((NODATA + 1, NODATA + 1), np.int64)
    with ClassFile(classes) as mapped, ClassFile(confidence) as rated:
        for box in mapped.windows():
            ids = to_bytes(mapped.read(box), mapped.path).astype(np.uint16)
            percent = to_percent(rated.read(box), rated.path)
            counts += np.bincount((ids * (NODATA + 1) + percent).ravel(), minlength=counts.size).reshape(counts.shape)
    known = counts[:NODATA, :NODATA]
    present = np.flatnonzero(known.any(axis=1)).tolist()
    by_class = {one: found for one in present if (found := _certainty(known[one]))}
    return Trust(_certainty(known.sum(axis=0)), by_class, calibrated)


def _certainty(counts: NDArray[np.int64]) -> Certainty | None:
    """Of pixels counted by their confidence in per cent."""
    pixels = int(counts.sum())
    if not pixels:
        return None
    mean = float(counts @ np.arange(len(counts))) / pixels / 100
    return Certainty(pixels, mean, float(counts[:LOW_PERCENT].sum()) / pixels)

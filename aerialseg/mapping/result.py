"""What a run made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.legend import Legend
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.timeline import StageTime, to_json


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One line of the result: pixels of the class raster, area and share of the valid area after generalisation."""

    class_id: int
    name: str
    color: str
    area_m2: float
    share: float


def shares(area_m2: Mapping[int, float], legend: Legend) -> tuple[ClassShare, ...]:
    """Classes by their area, the largest first."""
    total = sum(area_m2.values()) or 1.0
    lines = [ClassShare(one, legend[one].name, legend[one].hex, area, area / total) for one, area in area_m2.items()]
    return tuple(sorted(lines, key=lambda line: -line.share))


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What became of a class raster: files made (the layer first), regions ``merged`` into others, seconds it took."""

    paths: tuple[Path, ...]
    classes: tuple[ClassShare, ...]
    polygons: int
    merged: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made. ``paths`` are the finished files, the layer first; ``run`` is its directory, if it was kept.

    ``timeline`` says when each stage was at work; ``seconds`` is its short form: seconds at work, and "total".
    """

    paths: tuple[Path, ...]
    classes: tuple[ClassShare, ...]
    polygons: int
    valid_px: int
    lost_px: int
    seconds: dict[str, float]
    timeline: tuple[StageTime, ...]
    plan: Plan
    run: Path | None

    def to_json(self) -> dict[str, Any]:
        """What a report says of it."""
        return {
            "paths": [str(path) for path in self.paths],
            "polygons": self.polygons,
            "valid_px": self.valid_px,
            "lost_px": self.lost_px,
            "seconds": {name: round(spent, 3) for name, spent in self.seconds.items()},
            "timeline": to_json(self.timeline),
            "area_m2": {line.name: line.area_m2 for line in self.classes},
        }

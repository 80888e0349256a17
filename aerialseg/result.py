"""What a run made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aerialseg.plan import Plan


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One line of the result: pixels of the class raster, area and share of the valid area after generalisation."""

    class_id: int
    name: str
    color: str
    area_m2: float
    share: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made. ``paths`` are the finished files, the layer first; ``run`` is its directory, if it was kept."""

    paths: tuple[Path, ...]
    classes: tuple[ClassShare, ...]
    polygons: int
    valid_px: int
    lost_px: int
    seconds: dict[str, float]
    plan: Plan
    run: Path | None

"""What a run made."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.mapping.plan import Plan
from aerialseg.mapping.timeline import StageTime, to_json
from aerialseg.mapping.trust import Trust

if TYPE_CHECKING:
    from aerialseg.vector.layers import LayerInfo


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One class of the layer: its id, name, colour (``#rrggbb``), pixels, area and share of the valid area (0 to 1).

    ``area_m2`` is None where the size of a pixel on the ground is not known: without a coordinate system.
    """

    class_id: int
    name: str
    color: str
    pixels: int
    area_m2: float | None
    share: float


def class_shares(info: LayerInfo) -> tuple[ClassShare, ...]:
    """Classes by their area, the largest first; by their pixels where an area is not known."""
    known = {one: area for one, area in info.area_m2.items() if area is not None}
    sizes: Mapping[int, float] = known if len(known) == len(info.area_m2) else info.pixels
    total = sum(sizes.values()) or 1.0
    lines = [
        ClassShare(one, entry.name, entry.hex, info.pixels[one], info.area_m2[one], size / total)
        for one, size in sizes.items()
        for entry in [info.legend[one]]
    ]
    return tuple(sorted(lines, key=lambda line: -line.share))


def spoken_doubts(
    pixels: int, valid_px: int, classes: Sequence[ClassShare] = (), what: str = "the raster"
) -> tuple[str, ...]:
    """What may be wrong with a map of ``pixels``, of which ``valid_px`` have a class: a sentence each."""
    shows = "gdalinfo shows what marks it so: alpha, a mask or a nodata value"
    if not valid_px:
        return (f"all of {what} is nodata, so the layer is empty; {shows}",)
    doubts = []
    if 2 * valid_px < pixels:
        doubts.append(f"{(pixels - valid_px) * 100 // pixels} % of {what} is nodata; {shows}")
    if len(classes) == 1:
        doubts.append(f"all of the map is {classes[0].name!r}; check that the model fits the imagery")
    return tuple(doubts)


@dataclass(frozen=True, slots=True)
class LayerResult:
    """A layer made of a class raster.

    Attributes
    ----------
    paths : tuple[Path, ...]
        Files made, the layer first.
    classes : tuple[ClassShare, ...]
        Id, name, colour, area (m²) and share (0 to 1) of each class, the largest first.
    polygons : int
        Polygons of the layer.
    merged : int
        Regions smaller than ``min_area_m2``, merged into neighbours.
    seconds : dict[str, float], s
        Run time of each stage.
    """

    paths: tuple[Path, ...]
    classes: tuple[ClassShare, ...]
    polygons: int
    merged: int
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Result:
    """A land-cover map made of a raster.

    Attributes
    ----------
    paths : tuple[Path, ...]
        Files made, the layer first.
    classes : tuple[ClassShare, ...]
        Id, name, colour, area (m²) and share (0 to 1) of each class, the largest first.
    polygons : int
        Polygons of the layer.
    valid_px : int, px
        Pixels that have a class.
    lost_px : int, px
        Pixels of the input that could not be read and are nodata.
    seconds : dict[str, float], s
        Run time of each stage, and "total".
    timeline : tuple[StageTime, ...]
        When each stage ran.
    trust : Trust
        Mean confidence and the share of the area below 50 %, of the whole map and by class.
    plan : Plan
        What was computed: source, model card, grid and settings.
    run : Path
        The run's directory, None if it was not kept.
    """

    paths: tuple[Path, ...]
    classes: tuple[ClassShare, ...]
    polygons: int
    valid_px: int
    lost_px: int
    seconds: dict[str, float]
    timeline: tuple[StageTime, ...]
    trust: Trust
    plan: Plan
    run: Path | None

    @property
    def doubts(self) -> tuple[str, ...]:
        """What may be wrong with the map: mostly nodata, one class only, imagery that the model does not know."""
        what = self.plan.aoi.name if self.plan.aoi else "the raster"
        found = spoken_doubts(self.plan.wanted_px, self.valid_px, self.classes, what)
        return (*found, *filter(None, [self.trust.doubt]))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, as in a run's report."""
        return {
            "paths": [str(path) for path in self.paths],
            "polygons": self.polygons,
            "valid_px": self.valid_px,
            "lost_px": self.lost_px,
            "warnings": list(self.doubts),
            "unused_sources": [list(one) for one in self.plan.view.refused],
            "seconds": {name: round(spent, 3) for name, spent in self.seconds.items()},
            "timeline": to_json(self.timeline),
            "area_m2": {line.name: line.area_m2 for line in self.classes},
            "confidence": self.trust.to_json({line.class_id: line.name for line in self.classes}),
        }


def areas_csv(result: Result) -> str:
    """Area, share and confidence of each class, the largest first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class_id", "class_name", "area_m2", "share", "pixels", "mean_confidence", "below_50_percent"])
    for line in result.classes:
        rated = result.trust.by_class.get(line.class_id)
        area = "" if line.area_m2 is None else round(line.area_m2, 3)
        sure = [round(rated.mean, 4), round(rated.low_share, 4)] if rated else ["", ""]
        writer.writerow([line.class_id, line.name, area, round(line.share, 6), line.pixels, *sure])
    return text.getvalue()

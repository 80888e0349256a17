"""Rows of the layers: regions with their final lines become features, batch by batch, and then classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.executor import TaskPool
from aerialseg.legend import NODATA
from aerialseg.raster.georef import GeoGrid
from aerialseg.vector.arcs import Arcs
from aerialseg.vector.areas import Floats, Measure
from aerialseg.vector.fields import Features
from aerialseg.vector.polygons import Batch, make_polygons
from aerialseg.vector.regions import Int64s, Regions
from aerialseg.vector.rings import Rings


@dataclass
class Rows:
    """Regions with the lines that they are drawn with; sums by class grow while `features` is walked through."""

    regions: Regions
    arcs: Arcs
    rings: Rings
    geo: GeoGrid
    pool: TaskPool | None = None
    area_m2: dict[int, float] = field(default_factory=dict)
    perimeter_m: dict[int, float] = field(default_factory=dict)

    def features(self, measure: Measure, progress: Callable[[float], None] | None = None) -> Iterator[Features]:
        """The polygons with their attributes, in the order of regions."""
        self.area_m2 = dict.fromkeys(self.classes, 0.0)
        self.perimeter_m = dict.fromkeys(self.classes, 0.0)
        for batch in make_polygons(self.arcs, self.rings, self.geo, pool=self.pool):
            features = self._features(batch, *measure(batch))
            self._add(features)
            yield features
            if progress:
                progress((int(batch.regions[-1]) + 1) / len(self.regions))

    def by_class(self) -> Iterator[Features]:
        """One multipolygon for each class, with the sums of its polygons; `features` must have been walked through.

        Polygons of one class have no edge in common (else they were one region), they only touch in points, so that
        together they are a valid multipolygon as they are. One class is in memory at a time.
        """
        order = np.argsort(self.regions.classes, kind="stable")
        _, starts = np.unique(self.regions.classes[order], return_index=True)
        for one, which in zip(self.classes, np.split(order, starts[1:]), strict=False):
            batches = make_polygons(self.arcs, self.rings, self.geo, which, pool=self.pool)
            polygons = np.concatenate([batch.polygons for batch in batches])
            columns: dict[str, NDArray[Any]] = {
                "class_id": np.array([one], np.int32),
                "area_m2": np.array([self.area_m2[one]]),
                "perimeter_m": np.array([self.perimeter_m[one]]),
                "confidence": _mean(self.regions.percent[which].sum(keepdims=True), self.regions.rated[which].sum()),
                "pixels": self.regions.pixels[which].sum(keepdims=True),
                "parts": np.array([len(which)]),
            }
            yield Features(np.array([shapely.multipolygons(polygons)], object), columns)

    @cached_property
    def classes(self) -> list[int]:
        """Ids of the classes that occur, ascending."""
        return [int(one) for one in np.unique(self.regions.classes)]

    @property
    def pixels(self) -> dict[int, int]:
        """Pixels by class id."""
        _, number = np.unique(self.regions.classes, return_inverse=True)
        totals = np.zeros(len(self.classes), np.int64)
        np.add.at(totals, number, self.regions.pixels)
        return dict(zip(self.classes, totals.tolist(), strict=True))

    @cached_property
    def vertices(self) -> Int64s:
        """Vertices of each polygon."""
        if not len(self.regions):
            return np.zeros(0, np.int64)
        return np.add.reduceat(self.rings.vertex_counts(self.arcs), self.rings.first[:-1])

    def largest(self, *, dissolve: bool) -> int:
        """Vertices of the largest geometry."""
        if dissolve and len(self.regions):
            _, number = np.unique(self.regions.classes, return_inverse=True)
            return int(np.bincount(number, self.vertices).max())
        return int(self.vertices.max(initial=0))

    def _features(self, batch: Batch, area_m2: Floats, perimeter_m: Floats) -> Features:
        which, regions = batch.regions, self.regions
        lowest = regions.lowest[which]
        columns: dict[str, NDArray[Any]] = {
            "class_id": regions.classes[which].astype(np.int32),
            "area_m2": np.asarray(area_m2, np.float64),
            "perimeter_m": np.asarray(perimeter_m, np.float64),
            "confidence": _mean(regions.percent[which], regions.rated[which]),
            "confidence_min": np.where(lowest == NODATA, np.nan, lowest / 100.0),
            "pixels": regions.pixels[which],
            "checked": np.zeros(len(which), np.bool_),
        }
        return Features(batch.polygons, columns)

    def _add(self, features: Features) -> None:
        present, number = np.unique(features.columns["class_id"], return_inverse=True)
        for name, total in (("area_m2", self.area_m2), ("perimeter_m", self.perimeter_m)):
            for one, amount in zip(present.tolist(), np.bincount(number, features.columns[name]).tolist(), strict=True):
                total[one] += amount


def _mean(percent: Int64s, rated: Int64s | np.int64) -> Floats:
    """Mean confidence, 0 to 1; NaN where no pixel has one."""
    return np.where(rated > 0, percent / np.maximum(rated, 1) / 100.0, np.nan)

"""The layer: from a class raster to a GeoPackage in which every valid pixel belongs to exactly one polygon."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError, UsageError
from aerialseg.legend import Legend
from aerialseg.vector.arcs import Arcs, find_arcs
from aerialseg.vector.areas import make_measure
from aerialseg.vector.bands import ClassRaster
from aerialseg.vector.geopackage import Features, GeoPackage
from aerialseg.vector.merge import merge_small
from aerialseg.vector.polygons import make_polygons, settle_polygons
from aerialseg.vector.regions import Regions, find_regions
from aerialseg.vector.rings import Rings, find_rings
from aerialseg.vector.simplify import simplify

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]
MergedBand = Callable[[int, NDArray[np.uint8]], None]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What was written: ``pixels`` and ``area_m2`` by class id, after merging; ``merged`` regions are no more."""

    polygons: int
    vertices: int
    pixels: dict[int, int]
    area_m2: dict[int, float]
    merged: int


@dataclass(frozen=True, slots=True)
class Shapes:
    """Regions with their lines on the lattice: the raster's polygons before they have coordinates."""

    regions: Regions
    arcs: Arcs
    rings: Rings
    merged: int


def polygonize(
    classes: Path,
    confidence: Path | None,
    output: Path,
    *,
    legend: Legend,
    min_pixels: int = 0,
    tolerance_px: float = 1.5,
    pixel_m: tuple[float, float] | None = None,
    metadata: Mapping[str, str] | None = None,
    layer: str = "landcover",
    band_rows: int = 1024,
    progress: Progress | None = None,
    merged_band: MergedBand | None = None,
    timestamp: datetime | None = None,
) -> LayerInfo:
    """Write the polygons of a class raster as a new GeoPackage and return what is in it.

    Every pixel of ``classes`` (uint8, 255 is nodata) belongs to exactly one polygon, before and after simplification;
    the outline of the valid area is kept as it is. Regions of fewer than ``min_pixels`` become part of the neighbour
    with the longest shared edge. Lines are simplified by at most ``tolerance_px`` pixels. ``confidence`` (uint8 per
    cent) gives each polygon's mean over its pixels, as classified. ``pixel_m`` (x, y) is the size of a pixel on the
    ground in metres, asked only where the raster has no CRS to tell it; without either, areas are in square units of
    the transform. The result does not depend on ``band_rows``.

    ``progress`` is told the share done, 0 to 1. ``merged_band(first_row, classes)`` is handed each band of the class
    raster as the polygons have it, after merging. ``timestamp`` (now, unless given) is the file's time of change.

    Raises InputError (raster cannot be read, a class is not in the legend), OutputError (cannot be written),
    UsageError (negative ``min_pixels`` or ``tolerance_px``).
    """
    if min_pixels < 0 or not tolerance_px >= 0 or band_rows < 1:
        raise UsageError(
            f"min_pixels={min_pixels}, tolerance_px={tolerance_px}, band_rows={band_rows}: wanted 0, 0 and 1 or more"
        )
    with ClassRaster(classes, confidence, band_rows=band_rows) as raster:
        shapes = find_shapes(raster, legend, min_pixels, merged_band=merged_band, progress=progress)
        shape, transform, crs = (raster.height, raster.width), raster.transform, raster.crs
    simple = _simplified(shapes, tolerance_px, transform)
    _tell(progress, 0.75)
    areas = simple.double_areas(len(shapes.regions))
    measure = make_measure(crs, transform, shape, areas, pixel_m)
    info = _Info(shapes)
    with GeoPackage(output, layer=layer, crs=crs, legend=legend, metadata=metadata) as package:
        for batch in make_polygons(simple, shapes.rings, transform):
            features = _features(shapes.regions, batch.regions, batch.polygons, measure(batch))
            package.write(features)
            info.add(features)
            _tell(progress, 0.75 + 0.24 * (batch.regions[-1] + 1) / len(shapes.regions))
        package.finish(timestamp)
    _tell(progress, 1.0)
    vertices = int(shapes.rings.vertex_counts(simple).sum())
    return LayerInfo(len(shapes.regions), vertices, info.pixels, info.area_m2, shapes.merged)


def find_shapes(
    raster: ClassRaster,
    legend: Legend,
    min_pixels: int,
    *,
    merged_band: MergedBand | None = None,
    progress: Progress | None = None,
) -> Shapes:
    """Regions after merging, their arcs and rings on the lattice. Raises InputError for a class not in the legend."""
    found, contacts = find_regions(raster, contacts=min_pixels > 1, progress=_part(progress, 0.0, 0.3))
    unknown = sorted(set(np.unique(found.classes).tolist()) - {entry.id for entry in legend})
    if unknown:
        raise InputError(f"class {unknown[0]} is in the raster but not in the legend: wanted {[c.id for c in legend]}")
    regions = merge_small(found, contacts, min_pixels)
    logger.info("%d regions, %d of them merged into neighbours", len(found), len(found) - len(regions))
    arcs = find_arcs(raster, regions, merged_band=merged_band, progress=_part(progress, 0.3, 0.6))
    rings = find_rings(arcs, len(regions))
    if (arcs.double_areas(len(regions)) != 2 * regions.pixels).any():
        raise AssertionError("polygons and pixels differ in area: this is a bug in aerialseg, please report it")
    return Shapes(regions, arcs, rings, len(found) - len(regions))


def _simplified(shapes: Shapes, tolerance_px: float, transform: tuple[float, ...]) -> Arcs:
    if tolerance_px == 0:
        return shapes.arcs
    keep = simplify(shapes.arcs, tolerance_px)
    return settle_polygons(shapes.arcs, keep, shapes.rings, transform)


def _features(
    regions: Regions, which: NDArray[np.int64], polygons: NDArray[np.object_], area_m2: NDArray[np.float64]
) -> Features:
    rated = regions.rated[which]
    confidence = np.where(rated > 0, regions.percent[which] / np.maximum(rated, 1) / 100.0, np.nan)
    return Features(polygons, regions.classes[which].astype(np.int32), area_m2, confidence)


class _Info:
    """Sums by class, over the batches."""

    def __init__(self, shapes: Shapes) -> None:
        regions = shapes.regions
        present = np.unique(regions.classes).tolist()
        self.pixels = {one: int(regions.pixels[regions.classes == one].sum()) for one in present}
        self.area_m2 = dict.fromkeys(present, 0.0)

    def add(self, features: Features) -> None:
        for one in np.unique(features.class_id).tolist():
            self.area_m2[one] += float(features.area_m2[features.class_id == one].sum())


def _tell(progress: Progress | None, share: float) -> None:
    if progress:
        progress(float(share))


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """A progress whose 0 to 1 is start to stop of another one."""
    return None if progress is None else lambda share: progress(start + (stop - start) * share)

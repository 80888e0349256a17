"""The layer: from a class raster to polygons on disk; every valid pixel belongs to exactly one of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from aerialseg.errors import InputError, UsageError
from aerialseg.executor import TaskPool
from aerialseg.legend import Legend
from aerialseg.raster.classes import ClassRaster
from aerialseg.raster.describe import source_date
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.palette import Palette, read_palette
from aerialseg.vector.arcs import Arcs, find_arcs
from aerialseg.vector.areas import describe_measures, make_measure
from aerialseg.vector.formats import LAYER_NAME, check_place, ending_of
from aerialseg.vector.merge import merge_small
from aerialseg.vector.polygons import settle_polygons
from aerialseg.vector.qgis_project import Project
from aerialseg.vector.regions import Fixed, Regions, find_regions, regions_with
from aerialseg.vector.rings import Rings, find_rings
from aerialseg.vector.rows import Rows
from aerialseg.vector.simplify import simplify
from aerialseg.vector.smooth import MAX_STEPS, smoothed
from aerialseg.vector.trace import differs
from aerialseg.vector.writing import NewLayers, check_room

logger = logging.getLogger(__name__)

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """What was written: ``pixels`` and ``area_m2`` by class id, after merging; ``merged`` regions are no more.

    An area is None where it is not known.
    """

    polygons: int
    vertices: int
    pixels: dict[int, int]
    area_m2: dict[int, float | None]
    merged: int
    legend: Legend


@dataclass(frozen=True, slots=True)
class Shapes:
    """Regions with their lines on the lattice: the raster's polygons before they have coordinates."""

    regions: Regions
    arcs: Arcs
    rings: Rings
    merged: int
    legend: Legend


def polygonize(
    classes: Path,
    confidence: Path | None,
    output: Path,
    *,
    legend: Legend | None = None,
    min_pixels: int = 0,
    tolerance_px: float = 1.5,
    smooth: int = 0,
    dissolve: bool = False,
    pixel_m: tuple[float, float] | None = None,
    metadata: Mapping[str, str] | None = None,
    layer: str = LAYER_NAME,
    strip_rows: int = 1024,
    pool: TaskPool | None = None,
    progress: Progress | None = None,
    timestamp: datetime | None = None,
    fixed: Fixed | None = None,
    project: Project | None = None,
) -> LayerInfo:
    """Write the polygons of a class raster as a new layer and return what is in it.

    The ending of ``output`` is the format (formats.py). Every pixel of ``classes`` that is not nodata belongs to
    exactly one polygon, before and after simplification; the outline of the valid area is kept as it is. ``legend``
    names the classes; without one the raster's own names and colours do, as far as it has any. Regions of fewer than
    ``min_pixels`` become part of the neighbour with the longest shared edge, but not those with ``fixed`` pixels. Lines
    are simplified by at most ``tolerance_px`` pixels, then corners are rounded by ``smooth`` (0 to 3) steps of
    Chaikin's. ``dissolve``: a second layer, ``{layer}_by_class``, has one multipolygon for each class. ``confidence``
    (uint8 per cent) gives each polygon's mean over its pixels, as classified, and the lowest one.
    ``pixel_m`` (x, y) is the size of a pixel on the ground in metres, asked only where the raster has no CRS to tell
    it; without either, areas and lengths are in pixels.

    ``pool`` does the work (None: a thread of this process for each core), and stays the giver's. The result depends on
    neither it nor ``strip_rows``. ``progress`` gets the share done, 0 to 1. ``timestamp`` is the time of
    change that a GeoPackage notes: by default that of ``classes``, so that the same input gives the same bytes.
    ``project``: what the project inside a GeoPackage shows besides the layers.

    Raises InputError (raster cannot be read, a class is not in the legend), OutputError (cannot be written),
    ResourceError (no room for it), UsageError (unknown ending, GeoJSON of a raster without place, settings below 0).
    """
    if min_pixels < 0 or not tolerance_px >= 0 or strip_rows < 1 or not 0 <= smooth <= MAX_STEPS:
        raise UsageError(
            f"min_pixels={min_pixels}, tolerance_px={tolerance_px}, strip_rows={strip_rows}, smooth={smooth}: "
            f"wanted 0, 0 and 1 or more, and 0 to {MAX_STEPS}"
        )
    output = Path(output).absolute()
    ending_of(output)
    made = timestamp or source_date(classes)
    raster = ClassRaster(classes, confidence, strip_rows=strip_rows)
    check_place(output, raster.geo.crs)
    measures = describe_measures(raster.geo, pixel_m)
    with nullcontext(pool) if pool else TaskPool() as pool:
        names = read_palette(classes) if legend is None else legend
        shapes = find_shapes(raster, names, min_pixels, fixed=fixed, pool=pool, progress=progress)
        lines = make_lines(shapes, tolerance_px, smooth, raster.geo, pool)
        _tell(progress, 0.75)
        measure = make_measure(raster.geo, lines.double_areas(len(shapes.regions)), pixel_m)
        rows = Rows(shapes.regions, lines, shapes.rings, raster.geo, pool)
        vertices = int(rows.vertices.sum())
        check_room(output, len(shapes.regions), vertices, rows.largest(dissolve=dissolve), dissolve=dissolve)
        with NewLayers(
            output,
            layer=layer,
            crs=raster.geo.crs,
            legend=shapes.legend,
            metadata=metadata,
            dissolve=dissolve,
            measures=measures,
            project=project,
        ) as layers:
            layers.write(rows.features(measure, _part(progress, 0.75, 0.9 if dissolve else 0.99)))
            if dissolve:
                layers.write_by_class(rows.by_class())
            layers.finish(made)
    _tell(progress, 1.0)
    areas = {one: area if measures.metric and math.isfinite(area) else None for one, area in rows.area_m2.items()}
    return LayerInfo(len(shapes.regions), vertices, rows.pixels, areas, shapes.merged, shapes.legend)


def find_shapes(
    raster: ClassRaster,
    legend: Legend | Palette,
    min_pixels: int,
    *,
    fixed: Fixed | None = None,
    pool: TaskPool | None = None,
    progress: Progress | None = None,
) -> Shapes:
    """Regions after merging, their arcs and rings on the lattice.

    Raises InputError for a class that is not in the legend; a palette makes a legend of the classes that it finds.
    """
    found, contacts = find_regions(raster, contacts=min_pixels > 1, pool=pool, progress=_part(progress, 0.0, 0.3))
    names = _legend(legend, np.unique(found.classes).tolist())
    stays = None if fixed is None or min_pixels <= 1 else regions_with(raster, found, fixed)
    regions = merge_small(found, contacts, min_pixels, stays)
    logger.info("%d regions, %d of them merged into neighbours", len(found), len(found) - len(regions))
    arcs = find_arcs(raster, regions, pool=pool, progress=_part(progress, 0.3, 0.6))
    if (arcs.double_areas(len(regions)) != 2 * regions.pixels).any():
        raise differs(raster.classes)
    rings = find_rings(arcs, len(regions))
    return Shapes(regions, arcs, rings, len(found) - len(regions), names)


def _legend(given: Legend | Palette, present: list[int]) -> Legend:
    if isinstance(given, Palette):
        return given.legend(present)
    unknown = sorted(set(present) - {entry.id for entry in given})
    if unknown:
        raise InputError(f"class {unknown[0]} is in the raster but not in the legend: wanted {[c.id for c in given]}")
    return given


def make_lines(shapes: Shapes, tolerance_px: float, smooth: int, geo: GeoGrid, pool: TaskPool | None = None) -> Arcs:
    """The arcs as they are drawn: simplified, their corners rounded, and all polygons valid."""
    if tolerance_px == 0 and smooth == 0:
        return shapes.arcs
    keep = simplify(shapes.arcs, tolerance_px, pool=pool)
    lines = settle_polygons(shapes.arcs, keep, shapes.rings, geo, pool=pool)
    return smoothed(lines, shapes.rings, geo, smooth, pool=pool) if smooth else lines


def _tell(progress: Progress | None, share: float) -> None:
    if progress:
        progress(float(share))


def _part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """A progress whose 0 to 1 is start to stop of another one."""
    return None if progress is None else lambda share: progress(start + (stop - start) * share)

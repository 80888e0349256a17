"""Polygons: rings with coordinates, checked so that together they cover the valid area exactly once.

Why the check is enough. Each arc between two regions is used once in each direction, so in the sum of the winding
numbers of all rings of all polygons it cancels out. What remains are the arcs beside nodata or the outside, and those
are neither simplified nor smoothed: the sum is the winding number of the outline of the valid area, 1 inside and 0
outside. If every polygon is valid (OGC, holes included) and its shell runs counter-clockwise and its holes clockwise,
the sum of its rings' winding numbers is 1 in it and 0 elsewhere. So then each point of the valid area is in exactly
one polygon: no gaps, no overlaps. A polygon that fails gets its arcs refined, which changes its neighbours too: those
are looked at again. At worst all vertices are back, and lattice polygons are valid. It happens in rounds, so it depends
on no order.

The affine transform comes last, by the same operations for each vertex, so shared vertices are the same floats.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.executor import TaskPool, single_thread
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.kernel import kernel
from aerialseg.vector.arcs import Arcs
from aerialseg.vector.corners import corner
from aerialseg.vector.regions import Corners, Int32s, Int64s
from aerialseg.vector.rings import Rings
from aerialseg.vector.simplify import Keep, refine

logger = logging.getLogger(__name__)

BATCH_VERTICES = 1 << 17
"""Polygons are made in batches of about so many vertices."""

Polygons = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Batch:
    """Polygons of some ``regions`` (in ascending order)."""

    regions: Int64s
    polygons: Polygons


def make_polygons(
    arcs: Arcs,
    rings: Rings,
    geo: GeoGrid,
    regions: Int64s | None = None,
    *,
    batch: int = BATCH_VERTICES,
    pool: TaskPool | None = None,
) -> Iterator[Batch]:
    """Polygons of the regions (of all, unless given), shells counter-clockwise in the grid's coordinates.

    The pool works ahead of whoever takes the batches, by a few of them.
    """
    counts = arcs.counts()
    parts = _parts(arcs, rings, regions, batch)
    return single_thread(pool).share(lambda part: Batch(part, _polygons(arcs, counts, rings, part, geo)), parts)


def settle_polygons(arcs: Arcs, keep: Keep, rings: Rings, geo: GeoGrid, *, pool: TaskPool | None = None) -> Arcs:
    """The arcs with the vertices to keep; more are kept (in ``keep`` too) until all polygons are valid."""
    simple = arcs.only(keep)
    wrong = find_wrong(simple, rings, geo, pool=pool)
    while len(wrong):
        bad = np.isin(arcs.left, wrong) | np.isin(arcs.right, wrong)
        had = np.diff(simple.offsets)
        refine(arcs, keep, np.flatnonzero(bad))
        simple = arcs.only(keep)
        changed = np.diff(simple.offsets) != had
        logger.info("%d polygons were not valid: %d arcs refined", len(wrong), int(changed.sum()))
        if not changed.any():
            raise AssertionError(f"polygon {wrong[0]} is not valid: this is a bug in aerialseg, please report it")
        touched = np.unique(np.concatenate([wrong, arcs.left[changed], arcs.right[changed]]))
        wrong = find_wrong(simple, rings, geo, touched[touched >= 0], pool=pool)
    return simple


def find_wrong(
    lines: Arcs, rings: Rings, geo: GeoGrid, regions: Int64s | None = None, *, pool: TaskPool | None = None
) -> Int64s:
    """Those of the regions (of all) whose polygon is not valid, and all that have a ring that is turned over."""
    areas = rings.signed_double_areas(lines)
    shell = np.zeros(len(areas), bool)
    shell[rings.first[:-1]] = True
    turned = np.flatnonzero(np.where(shell, areas <= 0, areas >= 0))
    counts = lines.counts()

    def invalid(part: Int64s) -> Int64s:
        return part[~shapely.is_valid(_polygons(lines, counts, rings, part, geo))]

    wrong = [np.searchsorted(rings.first, turned, side="right") - 1]
    wrong.extend(single_thread(pool).share(invalid, _parts(lines, rings, regions, BATCH_VERTICES)))
    return np.unique(np.concatenate(wrong))


def _parts(arcs: Arcs, rings: Rings, regions: Int64s | None, batch: int) -> list[Int64s]:
    """The regions (all, unless given) in batches of about so many vertices."""
    chosen = np.arange(len(rings.first) - 1) if regions is None else regions
    before = np.concatenate([[0], np.cumsum(rings.vertex_counts(arcs))])
    size = before[rings.first[chosen + 1]] - before[rings.first[chosen]]
    number = (np.cumsum(size) - size) // batch
    return [part for part in np.split(chosen, np.flatnonzero(np.diff(number)) + 1) if len(part)]


def _polygons(arcs: Arcs, counts: Int64s, rings: Rings, regions: Int64s, geo: GeoGrid) -> Polygons:
    per_region = rings.first[regions + 1] - rings.first[regions]
    first_ring = np.concatenate([[0], np.cumsum(per_region)]).astype(np.int64)
    which = np.arange(first_ring[-1]) + np.repeat(rings.first[regions] - first_ring[:-1], per_region)
    ends = np.zeros(len(which) + 1, np.int64)
    measure(counts, rings.halves, rings.offsets, which, ends)
    places = np.empty((2, ends[-1]))
    lines = arcs.vertices, arcs.offsets, arcs.rounded, arcs.steps
    fill(*lines, rings.halves, rings.offsets, which, ends, geo.determinant > 0, places)
    coordinates = np.column_stack(geo.at(*places))
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, coordinates, (ends, first_ring))


@kernel
def measure(lengths: Int64s, halves: Int32s, ring_offsets: Int64s, which: Int64s, ends: Int64s) -> None:
    """Where each ring's vertices start among those of all the rings."""
    for n in range(len(which)):
        total = 1
        for k in range(ring_offsets[which[n]], ring_offsets[which[n] + 1]):
            total += lengths[halves[k] >> 1] - 1
        ends[n + 1] = ends[n] + total


@kernel
def fill(
    vertices: Corners,
    offsets: Int64s,
    rounded: Keep,
    steps: int,
    halves: Int32s,
    ring_offsets: Int64s,
    which: Int64s,
    ends: Int64s,
    backwards: bool,
    places: NDArray[np.float64],
) -> None:
    """Columns and rows of the rings' vertices, each ring closed; in the other direction when ``backwards``."""
    for n in range(len(which)):
        m = ends[n + 1] - 1 if backwards else ends[n]
        step = -1 if backwards else 1
        for k in range(ring_offsets[which[n]], ring_offsets[which[n] + 1]):
            arc, reverse = halves[k] >> 1, halves[k] & 1
            for v in range(offsets[arc + 1] - offsets[arc] - 1):
                source = offsets[arc + 1] - 1 - v if reverse else offsets[arc] + v
                last = 0 if len(rounded) == 0 or rounded[source] == 0 else (1 << steps) - 1
                for point in range(last + 1):
                    number = last - point if reverse else point
                    row, col = float(vertices[source, 0]), float(vertices[source, 1])
                    if last > 0:
                        row, col = corner(vertices, offsets[arc], offsets[arc + 1], source, number, last + 1)
                    places[0, m], places[1, m] = col, row
                    m += step
        start = ends[n + 1] - 1 if backwards else ends[n]
        places[:, m] = places[:, start]

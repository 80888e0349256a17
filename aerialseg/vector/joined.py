"""One layer of several class rasters: regions are joined over the borders of those that lie on one grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aerialseg.errors import InputError
from aerialseg.executor import TaskPool
from aerialseg.legend import Legend
from aerialseg.raster.classes import ClassRaster
from aerialseg.vector.areas import describe_measures, make_measure
from aerialseg.vector.fields import Features
from aerialseg.vector.formats import LAYER_NAME, check_place
from aerialseg.vector.layers import find_shapes, make_lines
from aerialseg.vector.rows import Rows
from aerialseg.vector.writing import NewLayers


@dataclass(frozen=True, slots=True)
class Part:
    """One grid: its class raster (all its tiles as one), and generalisation in its pixels."""

    classes: Path
    confidence: Path | None
    min_pixels: int
    tolerance_px: float
    smooth: int


def polygonize_parts(
    parts: Sequence[Part],
    output: Path,
    *,
    legend: Legend,
    timestamp: datetime,
    metadata: Mapping[str, str] | None = None,
    layer: str = LAYER_NAME,
    workers: int | None = None,
) -> int:
    """Write the polygons of all parts as one new layer and return their number. One part is in memory at a time.

    timestamp: time of change that a GeoPackage notes, in UTC.

    Raises InputError (a raster cannot be read, coordinate systems differ), OutputError, UsageError.
    """
    output = Path(output).absolute()
    places = [ClassRaster(part.classes).geo for part in parts]
    systems = {geo.crs for geo in places}
    if len(systems) > 1:
        raise InputError("the class rasters have different coordinate systems, a layer has one: collect them apart")
    crs, measures = places[0].crs, describe_measures(places[0])
    check_place(output, crs)
    count = 0

    def features() -> Iterator[Features]:
        nonlocal count
        for part in parts:
            for batch in _features(part, legend, pool):
                count += len(batch)
                yield batch

    with (
        TaskPool(workers) as pool,
        NewLayers(output, layer=layer, crs=crs, legend=legend, metadata=metadata, measures=measures) as layers,
    ):
        layers.write(features())
        layers.finish(timestamp)
    return count


def _features(part: Part, legend: Legend, pool: TaskPool) -> Iterator[Features]:
    raster = ClassRaster(part.classes, part.confidence)
    shapes = find_shapes(raster, legend, part.min_pixels, pool=pool)
    lines = make_lines(shapes, part.tolerance_px, part.smooth, raster.geo, pool)
    measure = make_measure(raster.geo, lines.double_areas(len(shapes.regions)))
    yield from Rows(shapes.regions, lines, shapes.rings, raster.geo, pool).features(measure)

"""How long each format of the layer takes to write, how large it is, and what one stream saves over appending.

    python benchmarks/formats.py [--side 5000] [--repeats 3]

The class raster is the land-cover-like one of benchmarks/polygonize.py. Its polygons are made once; timed is what comes
after: attributes, WKB, the file, its index, style and checks, up to the final name.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio.raw
import shapely
from polygonize import KINDS, draw

from aerialseg.raster.classes import ClassRaster
from aerialseg.raster.palette import read_palette
from aerialseg.vector.areas import make_measure
from aerialseg.vector.fields import POLYGONS, to_batch
from aerialseg.vector.formats import ENDINGS, GEOJSON
from aerialseg.vector.layers import find_shapes, make_lines
from aerialseg.vector.rows import Rows
from aerialseg.vector.writing import NewLayers

MIN_PIXELS, TOLERANCE_PX = 50, 1.5


def appended(rows: Rows, measure: Callable[..., object], legend: object, path: Path, crs: str | None) -> None:
    """The same features with pyogrio's write, batch by batch: what a first version did."""
    for number, features in enumerate(rows.features(measure)):  # type: ignore[arg-type]
        batch = to_batch(features, POLYGONS, legend)  # type: ignore[arg-type]
        columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in POLYGONS.names]
        pyogrio.raw.write(
            str(path),
            shapely.to_wkb(features.geometries, flavor="iso"),
            columns,
            np.array(POLYGONS.names, dtype=object),
            driver="GPKG",
            layer="landcover",
            geometry_type="Polygon",
            promote_to_multi=False,
            crs=crs,
            append=number > 0,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "classes.tif"
        draw(source, arguments.side, *KINDS["land cover"])
        raster = ClassRaster(source)
        shapes = find_shapes(raster, read_palette(source), MIN_PIXELS)
        lines = make_lines(shapes, TOLERANCE_PX, 0, raster.geo)
        rows = Rows(shapes.regions, lines, shapes.rings, raster.geo)
        measure = make_measure(raster.geo, lines.double_areas(len(shapes.regions)))
        print(f"{len(shapes.regions):,} polygons, {int(rows.vertices.sum()):,} vertices; seconds: median of the runs")

        def stream(path: Path) -> None:
            with NewLayers(path, layer="landcover", crs=raster.geo.crs, legend=shapes.legend) as layers:
                layers.write(rows.features(measure))
                layers.finish()

        jobs = {ending: (stream, folder / f"map{ending}") for ending in ENDINGS}
        jobs[".gpkg appended"] = (
            lambda path: appended(rows, measure, shapes.legend, path, raster.geo.crs),
            folder / "appended.gpkg",
        )
        for what, (job, path) in jobs.items():
            seconds = []
            for _ in range(1 if path.suffix == GEOJSON else arguments.repeats):
                path.unlink(missing_ok=True)
                start = time.perf_counter()
                job(path)
                seconds.append(time.perf_counter() - start)
            print(f"{what:16}{statistics.median(seconds):8.2f} s{path.stat().st_size / 1e6:10.1f} MB")


if __name__ == "__main__":
    main()

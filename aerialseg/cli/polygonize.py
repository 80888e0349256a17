"""aerialseg polygonize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_paths
from aerialseg.cli.options import CONTEXT, DEBUG, DISSOLVE, QUIET, SMOOTH, Count, options

POLYGONIZE_OPTIONS = options(
    click.argument("classes", metavar="CLASSES.tif"),
    click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path)),
    click.option(
        "--legend",
        metavar="L.csv",
        type=click.Path(path_type=Path),
        help="Names and colours: id,name,r,g,b.  [default: what the raster says itself]",
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Confidence raster (0-100) on the same grid.",
    ),
    click.option(
        "--min-area",
        "min_area_m2",
        metavar="M2",
        type=float,
        default=0.0,
        help="Merge smaller regions into their neighbours.  [default: 0, none]",
    ),
    click.option(
        "--simplify",
        "simplify_m",
        metavar="M",
        type=float,
        help="Tolerance of simplification; 0 keeps pixel edges.  [default: 1.5 pixels]",
    ),
    SMOOTH,
    DISSOLVE,
    click.option("--layer", metavar="NAME", default="landcover", show_default=True, help="Name of the layer."),
    click.option("--workers", metavar="N", type=int, help="Threads to work in.  [default: one for each processor]"),
    click.option(
        "--max-pixels",
        metavar="N",
        type=Count(),
        help="Refuse a raster of more pixels than this.  [default: 1e10, 100,000 px square]",
    ),
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist."),
    QUIET,
    DEBUG,
)

POLYGONIZE_HELP = """Make the class raster CLASSES.tif into the polygons of the layer OUTPUT.

The ending of OUTPUT is its format: .gpkg, .fgb, .parquet or .geojson. CLASSES.tif may come from anywhere:
one band of uint8 or uint16, in any coordinate reference system or none. Every pixel that is not nodata
comes to lie in exactly one polygon: no gaps, no overlaps, also after merging, simplifying and rounding.

Without --legend, names and colours are those of the raster's attribute table, category names and
colour table.

Exit codes: 0 done, 2 usage, 3 input, 5 output, 6 resources, 130 interrupted.
"""


@click.command("polygonize", context_settings=CONTEXT, help=POLYGONIZE_HELP)
@POLYGONIZE_OPTIONS
def polygonize_command(
    quiet: bool, debug: bool, classes: str, output: Path, max_pixels: int | None, **options: Any
) -> None:
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.executor import aside
        from aerialseg.mapping.polygonize import discard, polygonize

        if max_pixels is not None:
            options["max_pixels"] = max_pixels
        with display.progress(quiet) as progress:
            try:
                result = aside(lambda: polygonize(classes, output, progress=progress, **options))
            except KeyboardInterrupt:
                discard(output)
                raise
        if not quiet:
            display.show_result(result)
        print_paths(result.paths)

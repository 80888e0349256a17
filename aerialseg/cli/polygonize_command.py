"""aerialseg polygonize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, options, setting_option
from aerialseg.mapping.settings import OPTIONS

POLYGONIZE_OPTIONS = options(
    click.argument("classes", metavar="CLASSES.tif"),
    click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path)),
    click.option(
        "--legend",
        metavar="L.csv",
        type=click.Path(path_type=Path),
        help="Names and colours: id,name,r,g,b.  [default: the raster's own]",
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Confidence raster (0 to 100 %) on the same grid.",
    ),
    setting_option(OPTIONS["min-area"], "0, none"),
    setting_option(OPTIONS["simplify"]),
    setting_option(OPTIONS["smooth"]),
    setting_option(OPTIONS["dissolve"]),
    click.option("--layer", metavar="NAME", default="landcover", show_default=True, help="Name of the layer."),
    click.option("--workers", metavar="N", type=int, help="Number of threads.  [default: one per processor]"),
    setting_option(OPTIONS["max-pixels"]),
    setting_option(OPTIONS["require-crs"]),
    click.option("--overwrite", is_flag=True, help="Replace existing outputs; other layers of a GeoPackage are kept."),
    JSON_PROGRESS,
    QUIET,
    DEBUG,
)

POLYGONIZE_HELP = """Turn the class raster CLASSES.tif into a layer of polygons.

CLASSES.tif may come from any program: one band of class ids (0 to 65535), in any coordinate reference system or none.
The ending of OUTPUT is the layer's format: .gpkg, .fgb, .parquet or .geojson.

Every pixel that is not nodata is in exactly one polygon: no gaps, no overlaps, also after merging, simplifying and
smoothing. Without --legend, names and colours are those of the raster's attribute table, category names and colour
table.

Exit codes: 0 done, 2 usage, 3 input, 5 output, 6 resources, 130 interrupted.
"""


@click.command("polygonize", cls=JsonCommand, context_settings=CONTEXT, help=POLYGONIZE_HELP)
@POLYGONIZE_OPTIONS
def polygonize_command(
    quiet: bool, debug: bool, json_progress: bool, classes: str, output: Path, **options: Any
) -> None:
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.cli import display

        given = {name: value for name, value in options.items() if value is not None}
        with display.progress(quiet, lines, first=display.opening([classes])) as progress:
            from aerialseg.executor import run_in_thread
            from aerialseg.mapping.polygonize import discard, polygonize

            try:
                result = run_in_thread(lambda: polygonize(classes, output, progress=progress, **given))
            except KeyboardInterrupt:
                discard(output)
                raise
        if not quiet and not lines:
            display.show_result(result)
        print_lines(result.paths)
        if lines:
            lines.done(result.paths)

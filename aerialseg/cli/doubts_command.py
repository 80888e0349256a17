"""aerialseg doubts: where a label helps most."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET
from aerialseg.cli.sections import SectionedCommand

_FILE = click.Path(path_type=Path)


@click.command("doubts", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("classes", metavar="CLASSES.tif...", nargs=-1, required=True, type=_FILE)
@click.option(
    "--confidence",
    metavar="CONF.tif",
    type=_FILE,
    multiple=True,
    required=True,
    help="Confidence raster of the map; for several maps, one each, in the same order.",
)
@click.option("-o", "--out", "output", metavar="PLACES.gpkg", type=_FILE, required=True, help="The layer to write.")
@click.option("--count", metavar="N", type=int, default=10, show_default=True, help="Number of places.")
@click.option("--side", "side_m", metavar="M", type=float, help="Side of a place in metres.  [default: 32 pixels]")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@QUIET
@DEBUG
def doubts_command(quiet: bool, debug: bool, **options: Any) -> None:
    """Find the places of a map where labels help most.

    Writes squares of low confidence, spread over the map and its classes. Label each square completely in QGIS.
    CLASSES.tif and CONF.tif are the outputs of segment-raster --raster and --confidence.
    """
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.evaluation.doubts import find_doubts

        with display.progress(quiet) as progress:
            places = find_doubts(progress=progress, **options)
            for number, place in enumerate(places, start=1):
                x, y = (sum(values) / 4 for values in zip(*place.corners, strict=True))
                progress.note(
                    f"{number:3}  {place.class_name}, confidence {place.confidence:.0%}, at {x:.10g}, {y:.10g}"
                )
        print_lines([options["output"]])

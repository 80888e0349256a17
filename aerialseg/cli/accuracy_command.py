"""aerialseg accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, GROUPS, QUIET, REPORT_OPTIONS, options

ACCURACY_OPTIONS = options(
    click.argument("classes", metavar="MAP"),
    click.argument("truth", metavar="TRUTH", type=click.Path(path_type=Path)),
    click.option("--field", metavar="NAME", help="Field of the polygons that contains the class.  [default: class]"),
    click.option("--layer", metavar="NAME", help="Layer of the polygons, if the file has several."),
    click.option(
        "--legend",
        metavar="L.csv",
        type=click.Path(path_type=Path),
        help="Classes of the map.  [default: those in the raster]",
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Confidence raster of the map (0 to 100 %); adds scores of its calibration.",
    ),
    GROUPS,
    REPORT_OPTIONS,
    JSON_PROGRESS,
    QUIET,
    DEBUG,
)

ACCURACY_HELP = """Compare the map MAP with the reference data TRUTH.

MAP is a class raster (GeoTIFF, PNG ...). TRUTH is a class raster or polygons (.gpkg, .shp, .geojson, .fgb, .parquet)
in any coordinate reference system.

All scores are computed from one confusion matrix of the pixels of MAP that have a class in both. The report is one HTML
page that works offline.

Exit codes: 0 done, 2 usage, 3 input, 5 output, 6 resources, 130 interrupted.
"""


@click.command("accuracy", cls=JsonCommand, context_settings=CONTEXT, help=ACCURACY_HELP)
@ACCURACY_OPTIONS
def accuracy_command(
    classes: str,
    truth: Path,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
    debug: bool,
    json_progress: bool,
    **options: Any,
) -> None:
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.cli import display

        given = {name: value for name, value in options.items() if value is not None}
        with display.progress(quiet, lines, first=display.opening([classes])) as progress:
            from aerialseg.evaluation.map_accuracy import assess_map
            from aerialseg.evaluation.report import check_free, write_report
            from aerialseg.evaluation.results import Evaluation

            if out is not None:
                check_free(out, overwrite=overwrite)
            found = Evaluation.of_assessment(assess_map(classes, truth, progress=progress, **given))
        if lines:
            for line in display.score_lines(found):
                lines.note(line)
        elif not quiet:
            display.show_scores(found)
        made = [] if out is None else write_report(out, found, overwrite=overwrite)
        print_lines(made)
        if lines:
            lines.done(made)

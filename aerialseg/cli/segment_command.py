"""segment-raster, which is aerialseg segment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from aerialseg.cli.cluster_options import CLUSTER_OPTIONS, cluster_of
from aerialseg.cli.failures import errors, print_lines, resuming
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, gone, old_option, options, setting_option
from aerialseg.mapping.settings import OLD_NAMES, OPTIONS, SUCCESSORS

SEGMENT_OPTIONS = options(
    click.argument("sources", metavar="INPUT...", nargs=-1, required=True),
    click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path)),
    click.option(
        "--model",
        metavar="DIR|NAME",
        help="Model folder, or a name of 'aerialseg model list'.  [default: the bundled one]",
    ),
    click.option(
        "--raster", metavar="CLASSES.tif", type=click.Path(path_type=Path), help="Also write the class raster."
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Also write the confidence raster (0 to 100 %).",
    ),
    click.option("--pattern", metavar="GLOB", help="In folders, use only files that match."),
    *(setting_option(one) for one in OPTIONS.values()),
    *(old_option(name, one.key, one.kind) for name, one in OLD_NAMES.items()),
    *(gone(old, f"--{new}") for old, new in SUCCESSORS.items()),
    CLUSTER_OPTIONS,
    click.option("--overwrite", is_flag=True, help="Replace existing outputs; other layers of a GeoPackage are kept."),
    click.option(
        "--keep-run",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Keep the run's directory here; other polygons of the same map then need no network.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Show what would be done and why, time and disk space; write nothing."
    ),
    click.option("--timeline", is_flag=True, help="Show the run time of each stage at the end."),
    click.option(
        "--report",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Also write a report with areas and run times: a page to share (.html) or data (.json).",
    ),
    click.option(
        "--areas", metavar="AREAS.csv", type=click.Path(path_type=Path), help="Also write the area of each class."
    ),
    JSON_PROGRESS,
    QUIET,
    DEBUG,
)

SEGMENT_HELP = """Map the land cover of an orthophoto, INPUT.

INPUT is one file, several files, a folder (all imagery below it), a quoted pattern such as 'tiles/*.tif', a text file
of paths, a .vrt mosaic or a tile index (gdaltindex). Several files are mapped as one raster.

OUTPUT is the polygon layer. Its ending is its format: .gpkg, .fgb, .parquet or .geojson. The layer `landcover` covers
every valid pixel exactly once, and opens in QGIS with the names and colours of the classes.

Memory is constant, whatever the size of the raster. An interrupted run resumes when the same command is given again.

Exit codes: 0 done, 2 usage, 3 input, 4 model, 5 output, 6 resources, 130 interrupted.
"""


@click.command("segment", cls=JsonCommand, context_settings=CONTEXT, help=SEGMENT_HELP)
@SEGMENT_OPTIONS
def segment_command(
    quiet: bool,
    debug: bool,
    sources: tuple[str, ...],
    output: Path,
    dask: str | None,
    workers: int | None,
    timeline: bool,
    dry_run: bool,
    json_progress: bool,
    **options: Any,
) -> None:
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.cli import display

        given = {name: value for name, value in options.items() if value is not None}
        with (
            display.progress(quiet, lines, first=display.opening(sources)) as progress,
            _leaving(output, options["keep_run"]),
            cluster_of(dask, workers) as cluster,
        ):
            from aerialseg.executor import run_in_thread
            from aerialseg.mapping.estimate import describe_run
            from aerialseg.mapping.segment import plan_run, segment

            if dry_run:
                estimate = run_in_thread(lambda: plan_run(sources, output, cluster=cluster, **given))
                print_lines(describe_run(estimate))
                if lines:
                    lines.done([], plan=estimate.to_json())
                return
            result = run_in_thread(lambda: segment(sources, output, progress=progress, cluster=cluster, **given))
        if not quiet and not lines:
            display.show_result(result)
        if timeline and not lines:
            display.show_timeline(result.timeline)
        print_lines(result.paths)
        if lines:
            lines.done(result.paths)


@contextmanager
def _leaving(output: Path, keep_run: Path | None) -> Iterator[None]:
    """Told to stop, say what stays. Nothing is removed: the directory may be another run's, which we waited for."""
    from aerialseg.mapping.run import run_folder

    with resuming(keep_run or run_folder(Path(os.path.abspath(output)))):
        yield

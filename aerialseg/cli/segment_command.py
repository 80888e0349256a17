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
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, gone, options, setting_option
from aerialseg.mapping.settings import OPTIONS, SUCCESSORS

SEGMENT_OPTIONS = options(
    click.argument("sources", metavar="INPUT...", nargs=-1, required=True),
    click.argument("output", metavar="OUTPUT", type=click.Path(path_type=Path)),
    click.option("--model", metavar="DIR|NAME", help="Model to use.  [default: the bundled one]"),
    click.option(
        "--raster", metavar="CLASSES.tif", type=click.Path(path_type=Path), help="Also write the class raster."
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Also write the confidence raster (0-100).",
    ),
    click.option("--pattern", metavar="GLOB", help="Of a folder, take only the files that match."),
    *(setting_option(one) for one in OPTIONS.values()),
    *(gone(old, f"--{new}") for old, new in SUCCESSORS.items()),
    CLUSTER_OPTIONS,
    click.option("--overwrite", is_flag=True, help="Replace outputs that exist; other layers of a GeoPackage stay."),
    click.option(
        "--keep-run",
        metavar="DIR",
        type=click.Path(path_type=Path),
        help="Keep the run's directory here: an interrupted run resumes, and another layer needs no network.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done, why, and what it takes; write nothing."),
    click.option("--timeline", is_flag=True, help="Show at the end how long each stage was at work."),
    click.option(
        "--report",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Also write what was found and where the time went: a page to share (.html) or data (.json).",
    ),
    click.option(
        "--areas", metavar="AREAS.csv", type=click.Path(path_type=Path), help="Also write the area of each class."
    ),
    JSON_PROGRESS,
    QUIET,
    DEBUG,
)

SEGMENT_HELP = """Map the land cover of an orthophoto, INPUT.

Several INPUTs are one orthophoto: files, folders with all imagery below them, quoted patterns such as
'tiles/*.tif', text files of paths, .vrt mosaics, tile indexes (gdaltindex).

The ending of OUTPUT is the layer's format: .gpkg, .fgb, .parquet or .geojson.

The layer `landcover` covers every valid pixel exactly once and opens in QGIS named and coloured.
Memory is constant, whatever the size of the raster. An interrupted run resumes when the same command
is given again.

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

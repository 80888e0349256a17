"""aerialseg batch, status and collect: jobs over many rasters.

What --dry-run and status answer goes to stdout, for it is what was asked for.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click

from aerialseg.cli.cluster_options import CLUSTER_OPTIONS, cluster_of
from aerialseg.cli.failures import errors, print_lines, tell
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET
from aerialseg.cli.sections import SectionedCommand
from aerialseg.files import printable

BATCH_HELP = """Map many rasters as described in the job file JOB.toml.

Only new or changed inputs are computed. Prints the paths of the report (JSON and HTML). An interrupted job resumes when
the same command is given again. docs/batch.md describes the job file.

Exit codes: 0 all done or nothing to do, 1 some inputs failed, 2 usage, 3 input, 4 model, 5 output,
6 resources, 130 interrupted.
"""


@click.command("batch", cls=SectionedCommand, context_settings=CONTEXT, help=BATCH_HELP)
@click.argument("job", metavar="JOB.toml", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would be done and why, time and disk space; write nothing.")
@CLUSTER_OPTIONS
@click.option("--only", metavar="PATTERN", help="Use only inputs whose name or path matches, such as 'north/*'.")
@click.option("--retry-failed", is_flag=True, help="Also retry broken inputs that have not changed.")
@click.option("--json-log", metavar="FILE", help="Append one line of JSON per event to FILE; - is stderr.")
@QUIET
@DEBUG
def batch_command(
    job: Path,
    dry_run: bool,
    dask: str | None,
    workers: int | None,
    only: str | None,
    retry_failed: bool,
    json_log: str | None,
    quiet: bool,
    debug: bool,
) -> None:
    with errors(debug):
        if not quiet and json_log != "-":
            _tell(f"Reading {printable(job)}")
        from aerialseg.batch import dry_run as estimate
        from aerialseg.batch.job import Selection, run_job
        from aerialseg.batch.jobfile import read_job

        read = read_job(job)
        selection = Selection(only, retry_failed)
        if dry_run:
            with _events(None, quiet) as events, events.warnings():
                found = estimate.dry_run(read, selection)
                print_lines(estimate.describe_estimate(found))
            sys.exit(found.exit_code)
        with _events(json_log, quiet) as events, cluster_of(dask, workers) as cluster:
            summary = run_job(read, selection, cluster=cluster, events=events)
        print_lines(summary.reports)
    sys.exit(summary.exit_code)


@click.command("status", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("folder", metavar="JOBDIR|JOB.toml", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Repeat every two seconds while the job runs.")
@DEBUG
def status_command(folder: Path, as_json: bool, watch: bool, debug: bool) -> None:
    """Show the progress of a job, from another terminal."""
    with errors(debug):
        from aerialseg.batch.status import describe_status, status_of

        while True:
            found = status_of(folder)
            print_lines([json.dumps(found.to_json())] if as_json else describe_status(found))
            if not watch or found.state != "running":
                return
            time.sleep(2)


@click.command("collect", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("job", metavar="JOBDIR|JOB.toml", type=click.Path(path_type=Path))
@click.option(
    "--layer", metavar="ALL.gpkg", type=click.Path(path_type=Path), help="Write one polygon layer: .gpkg or .parquet."
)
@click.option(
    "--mosaic", metavar="ALL.tif", type=click.Path(path_type=Path), help="Write one class raster: .tif (a COG) or .vrt."
)
@click.option(
    "--stac", metavar="DIR", type=click.Path(path_type=Path), help="Write a STAC collection of all results to DIR."
)
@click.option("--only", metavar="PATTERN", help="Use only inputs whose name or path matches, such as 'north/*'.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs; other layers of a GeoPackage are kept.")
@QUIET
@DEBUG
def collect_command(
    job: Path,
    layer: Path | None,
    mosaic: Path | None,
    stac: Path | None,
    only: str | None,
    overwrite: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Collect the results of a job into one data set.

    Give at least one of --layer, --mosaic and --stac. On rasters of one grid, regions are joined across the borders.
    """
    with errors(debug):
        from aerialseg.batch.collect import Wanted, collect
        from aerialseg.cli import display

        with display.progress(quiet) as progress:
            paths = collect(job, Wanted(layer, mosaic, stac, overwrite), only=only, progress=progress)
        print_lines(paths)


@contextmanager
def _events(json_log: str | None, quiet: bool) -> Iterator[Any]:
    """Where events go: lines on stderr unless quiet, JSON where it was asked for."""
    from aerialseg.batch.events import Events

    stream: TextIO | None = None
    if json_log == "-":
        stream, quiet = sys.stderr, True
    elif json_log is not None:
        from aerialseg.errors import OutputError

        try:
            stream = open(json_log, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"cannot write the log {json_log}: {error.strerror or error}") from error
    try:
        yield Events(None if quiet else _tell, stream)
    finally:
        if stream is not None and stream is not sys.stderr:
            try:
                stream.close()
            except OSError as error:  # what could not be written before could not be written now either
                tell(f"warning: the log {json_log} is not complete: {error.strerror or error}")


def _tell(message: str) -> None:
    tell(f"{time.strftime('%H:%M:%S')} {message}")

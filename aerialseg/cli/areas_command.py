"""aerialseg areas."""

from __future__ import annotations

from pathlib import Path

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, options

AREAS_OPTIONS = options(
    click.argument("layer", metavar="LAYER"),
    click.argument("zones", metavar="[ZONES]", required=False),
    click.option("--by", metavar="FIELD", help="Field with the names of the zones.  [default: all zones together]"),
    click.option("--out", metavar="AREAS.csv", type=click.Path(path_type=Path), help="Write the table here."),
    click.option("--overwrite", is_flag=True, help="Replace AREAS.csv if it exists."),
    JSON_PROGRESS,
    DEBUG,
)

AREAS_HELP = """Compute the area of each class in LAYER, by zone.

LAYER is a land-cover layer that aerialseg made. ZONES are polygons in any coordinate reference system, such as parcels
or districts. Without ZONES, the areas are those of the whole layer. FILE:LAYER names one of several layers of a file.

Polygons are clipped to the zones. Zones with the same name count as one zone. Areas are in m². Without --out, the table
is printed as CSV.

Exit codes: 0 done, 2 usage, 3 input, 5 output, 130 interrupted.
"""


@click.command("areas", cls=JsonCommand, context_settings=CONTEXT, help=AREAS_HELP)
@AREAS_OPTIONS
def areas_command(
    layer: str,
    zones: str | None,
    by: str | None,
    out: Path | None,
    overwrite: bool,
    json_progress: bool,
    debug: bool,
) -> None:
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.errors import UsageError
        from aerialseg.mapping.zones import areas_by_zone, to_csv

        if by and zones is None:
            raise UsageError(f"--by {by} without ZONES: give the file of zones that has this field")
        if out is not None and out.exists() and not overwrite:
            raise UsageError(f"output {out} exists: add --overwrite to replace it")
        rows = areas_by_zone(layer, zones, by=by, out=out, progress=lines)
        print_lines([out] if out is not None else to_csv(rows).splitlines())
        if lines:
            lines.done([out] if out is not None else [])

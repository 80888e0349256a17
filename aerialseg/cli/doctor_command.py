"""aerialseg doctor."""

from __future__ import annotations

import json

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.options import CONTEXT, DEBUG
from aerialseg.cli.sections import SectionedCommand


@click.command("doctor", cls=SectionedCommand, context_settings=CONTEXT)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@DEBUG
def doctor_command(as_json: bool, debug: bool) -> None:
    """Show what is installed and how a map would be computed.

    Prints versions, device, runtime and precision with the reasons, models, caches, GDAL drivers, and what to install
    for further features. Writes nothing. Exit codes: 0, or 6 if no map can be computed.
    """
    with errors(debug):
        from aerialseg.errors import ResourceError
        from aerialseg.mapping.installation import describe_installation

        found = describe_installation()
        print_lines([json.dumps(found.to_json(), indent=1)] if as_json else found.lines())
        if not found.usable:
            raise ResourceError(found.compute)

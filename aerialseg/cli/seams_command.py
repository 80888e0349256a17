"""aerialseg seams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines, tell
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, KindType, Numbers, setting_option
from aerialseg.cli.sections import SectionedCommand
from aerialseg.mapping.kinds import DEVICE
from aerialseg.mapping.settings import OPTIONS

SEAMS_HELP = """Measure how tiling changes the results of MODEL.

The middle of RASTER is computed as one image, and then in tiles: with halos of 0 to 512 px, with origins off the
network's lattice, as most tools cut them, and exactly. Prints the share of labels that change and the largest
difference of a score. MODEL is a folder or a name (default: the bundled model); RASTER is an orthophoto (default: the
demo scene).

Takes some minutes on a CPU, in fp32. Exit code 4 if a model that should be exact is not.
"""


@click.command("seams", cls=SectionedCommand, context_settings=CONTEXT, help=SEAMS_HELP)
@click.argument("model", metavar="[MODEL]", required=False)
@click.argument("raster", metavar="[RASTER.tif]", required=False)
@click.option("--json", "json_path", metavar="FILE", type=click.Path(path_type=Path), help="Write the figures as JSON.")
@click.option(
    "--plot", metavar="FILE.svg", type=click.Path(path_type=Path), help="Draw the share of changed labels by halo."
)
@click.option(
    "--picture",
    metavar="FILE.svg",
    type=click.Path(path_type=Path),
    help="Draw the labels of usual and of exact tiles, and the differences.",
)
@click.option(
    "--size",
    metavar="COLS,ROWS",
    type=Numbers(int, "COLS,ROWS", 2),
    help="Pixels to compare, more than twice the halo.  [default: twice the model's halo and 534,284]",
)
@click.option(
    "--device",
    metavar=DEVICE.metavar,
    type=KindType(DEVICE),
    default="auto",
    show_default=True,
    help=OPTIONS["device"].help,
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@setting_option(OPTIONS["alpha"])
@click.option("--allow-remote", is_flag=True, help="Allow URLs and /vsi paths as RASTER.")
@QUIET
@DEBUG
def seams_command(
    model: str | None,
    raster: str | None,
    size: tuple[int, int] | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.seams.certificate import certify, check_verdict
        from aerialseg.seams.certificate_files import CertificateFiles

        wanted = CertificateFiles(options.pop("json_path"), options.pop("plot"), options.pop("picture"))
        options["alpha"] = options["alpha"] or "auto"
        wanted.check(overwrite=options.pop("overwrite"))
        rows_cols = None if size is None else (size[1], size[0])
        with display.progress(quiet) as progress:
            certificate = certify(model, raster, size=rows_cols, progress=progress, **options)
        tell(certificate.text())
        print_lines(wanted.write(certificate))
        check_verdict(certificate)

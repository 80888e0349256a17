"""aerialseg chips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines, tell
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, KindType, Numbers, old_option, options, setting_option
from aerialseg.cli.sections import SectionedCommand
from aerialseg.mapping.kinds import RESOLUTION
from aerialseg.mapping.settings import OPTIONS

_FILE = click.Path(path_type=Path)

CHIPS_OPTIONS = options(
    click.argument("orthos", metavar="ORTHO.tif...", nargs=-1, required=True),
    click.argument("labels", metavar="LABELS"),
    click.option("--legend", metavar="L.csv", type=_FILE, required=True, help="Classes, as a CSV file: id,name,r,g,b."),
    click.option("--out", metavar="DIR", type=_FILE, required=True, help="Folder of the new data set."),
    click.option(
        "--field",
        metavar="NAME",
        default="class",
        show_default=True,
        help="Field of the polygons that contains the class id or name.",
    ),
    click.option("--layer", metavar="NAME", help="Layer of the polygons, if the file has several."),
    click.option(
        "--resolution",
        "resolution_m",
        type=KindType(RESOLUTION),
        metavar="M|native",
        help="Metres per pixel of the chips; native: those of the orthophotos.  [default: the bundled model's]",
    ),
    setting_option(OPTIONS["pixel-size"]),
    old_option("gsd", "gsd", RESOLUTION),
    click.option(
        "--size",
        metavar="ROWS,COLS",
        type=Numbers(int, "ROWS,COLS", 2),
        default="512,512",
        show_default=True,
        help="Size of a chip in pixels; multiples of 32.",
    ),
    click.option(
        "--block",
        "block_m",
        metavar="M",
        type=float,
        help="Side of a ground block in metres, rounded to whole chips.  [default: 4 chips, fewer for little ground]",
    ),
    click.option(
        "--held-out",
        metavar="SHARE",
        type=float,
        default=0.2,
        show_default=True,
        help="Share of the labelled pixels for the test set, in whole blocks.",
    ),
    click.option("--seed", type=int, default=2026, show_default=True, help="Seed for choosing the test blocks."),
    click.option(
        "--min-labelled",
        metavar="SHARE",
        type=float,
        default=0.05,
        show_default=True,
        help="Leave out chips with a smaller share of labelled pixels.",
    ),
    click.option(
        "--band-names",
        metavar="NAMES",
        default="red,green,blue",
        show_default=True,
        callback=lambda ctx, param, value: tuple(value.split(",")),
        help="Bands that the model uses, such as red,green,blue,nir.",
    ),
    setting_option(OPTIONS["bands"]),
    setting_option(OPTIONS["scale"]),
    setting_option(OPTIONS["alpha"]),
    click.option("--overwrite", is_flag=True, help="Replace an existing data set."),
    QUIET,
    DEBUG,
)

CHIPS_HELP = """Make a training data set from labelled orthophotos.

LABELS are polygons (.gpkg, .shp, .geojson, .fgb, .parquet) or a class raster (.tif) of the legend's ids, in any
coordinate reference system. Unlabelled pixels and nodata are ignored.

The command writes images/, masks/, legend.csv, split.csv and train.toml to DIR. Then train a model:

    aerialseg train DIR/train.toml --data DIR --out MODEL_DIR

The test set consists of whole blocks of ground: all chips of one block, also those of overlapping orthophotos, are in
the same set. chips.gpkg shows chips and blocks in QGIS; chips.json records the inputs.
"""


@click.command("chips", cls=SectionedCommand, context_settings=CONTEXT, help=CHIPS_HELP)
@CHIPS_OPTIONS
def chips_command(orthos: tuple[str, ...], labels: str, quiet: bool, debug: bool, **given: Any) -> None:
    with errors(debug):
        from aerialseg.cli import display

        with display.progress(quiet, first=display.opening(orthos)) as progress:
            from aerialseg.datasets.chips import make_chips

            made = make_chips(orthos, labels, progress=progress, **given)
        if not quiet:
            tell(made.text())
        print_lines([made.folder])

"""aerialseg teach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines, resuming, tell
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, KindType, old_option, options, setting_option
from aerialseg.mapping.kinds import RESOLUTION
from aerialseg.mapping.settings import OPTIONS

_FOLDER = click.Path(path_type=Path)

TEACH_OPTIONS = options(
    click.argument("paths", metavar="ORTHO... LABELS", nargs=-1, required=True),
    click.option("--out", metavar="DIR", type=_FOLDER, required=True, help="Folder of the new model."),
    click.option(
        "--minutes",
        metavar="MIN",
        type=float,
        default=10.0,
        show_default=True,
        help="Total time in minutes; 0: only linear classifiers, in seconds.",
    ),
    click.option(
        "--steps",
        metavar="N",
        type=int,
        help="Number of fine-tuning steps, 20 or more, instead of --minutes; repeatable exactly.",
    ),
    click.option(
        "--field", metavar="NAME", help="Field that contains the class.  [default: class, class_name, label ...]"
    ),
    click.option("--layer", metavar="NAME", help="Layer of the labels, if the file has several."),
    click.option(
        "--width", "width_m", metavar="M", type=float, help="Width of points and lines in metres.  [default: 5 pixels]"
    ),
    click.option(
        "--resolution",
        "resolution_m",
        type=KindType(RESOLUTION),
        metavar="M|native",
        default="native",
        show_default=True,
        help="Metres per pixel that the model learns; native: those of the orthophotos.",
    ),
    setting_option(OPTIONS["pixel-size"]),
    old_option("gsd", "gsd", RESOLUTION),
    setting_option(OPTIONS["bands"]),
    setting_option(OPTIONS["scale"]),
    setting_option(OPTIONS["alpha"]),
    click.option(
        "--from",
        "start",
        metavar="MODEL|scratch",
        help="Model whose encoder to start from, or random weights (scratch).  [default: the bundled model]",
    ),
    click.option(
        "--more",
        metavar="MODEL",
        type=_FOLDER,
        help="Continue from this taught model; its labels, classes and test areas are kept.",
    ),
    click.option(
        "--licence",
        metavar="TEXT",
        default="",
        help="Licence of your part; the licence of the start model applies too.",
    ),
    click.option(
        "--held-out",
        metavar="SHARE",
        type=float,
        default=0.2,
        show_default=True,
        help="Share of the labels for the test set.",
    ),
    click.option("--seed", type=int, default=2026, show_default=True, help="Seed of all random numbers."),
    click.option("--overwrite", is_flag=True, help="Replace an existing taught model."),
    JSON_PROGRESS,
    QUIET,
    DEBUG,
)

TEACH_HELP = """Teach a model your own imagery and classes, from a few labels.

\b
    aerialseg teach ortho.tif labels.gpkg --out mymodel
    segment-raster ortho.tif landcover.gpkg --model mymodel

ORTHO may be files, folders or patterns. LABELS comes last: polygons, lines or points with a class field, a corrected
map (only polygons with `checked` = true are used), or a class raster.

Linear classifiers on the model's encoder are fitted in seconds. Then the model is fine-tuned for the rest of the time.
They, the fine-tuned model and a weighted mean of both are tested; the best becomes the model. The test set consists of
whole blocks of ground.

An interrupted run resumes when the same command is given again. docs/teach.md is a guide.
"""


@click.command("teach", cls=JsonCommand, context_settings=CONTEXT, help=TEACH_HELP)
@TEACH_OPTIONS
def teach_command(
    paths: tuple[str, ...], out: Path, quiet: bool, debug: bool, json_progress: bool, **given: Any
) -> None:
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.cli import display
        from aerialseg.training import teach

        with resuming(out / "teaching"), display.progress(quiet, lines) as progress:
            made = teach(paths[:-1], paths[-1], out, progress=progress, **given)
        if lines:
            lines.note(made.text())
        elif not quiet:
            tell(made.text())
        print_lines([made.folder, made.report])
        if lines:
            lines.done([made.folder, made.report])

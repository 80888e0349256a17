"""aerialseg split."""

from __future__ import annotations

from pathlib import Path

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET
from aerialseg.cli.sections import SectionedCommand
from aerialseg.errors import UsageError

_FILE = click.Path(path_type=Path)


@click.command("split", cls=SectionedCommand, context_settings=CONTEXT)
@click.option("--data", metavar="DIR", type=_FILE, required=True, help="The data set's folder.")
@click.option("--out", metavar="SPLIT.csv", type=_FILE, required=True, help="Where the split goes.")
@click.option(
    "--by",
    type=click.Choice(["scene", "random"]),
    default="scene",
    show_default=True,
    help="Hold out whole places, or frames wherever they are.",
)
@click.option("--held-out", metavar="SHARE", type=float, default=0.2, show_default=True, help="Share to hold out.")
@click.option(
    "--held-scenes", metavar="NAME,...", help="Hold out these scenes and no others, instead of a share of all."
)
@click.option("--seed", type=int, default=2026, show_default=True, help="Another seed holds out others.")
@click.option("--groups", metavar="GROUPS.csv", type=_FILE, help="Places known already (columns frame, scene).")
@click.option("--links", metavar="LINKS.csv", type=_FILE, help="Also keep which two frames were found alike, and how.")
@click.option("--images", metavar="NAME", default="original_images", show_default=True, help="Folder of images in DIR.")
@click.option("--masks", metavar="NAME", default="label_images_semantic", show_default=True, help="Folder of masks.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@QUIET
@DEBUG
def split_command(
    data: Path,
    out: Path,
    by: str,
    held_out: float,
    held_scenes: str | None,
    seed: int,
    groups: Path | None,
    links: Path | None,
    images: str,
    masks: str,
    overwrite: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Split frames into training and test sets, as a file.

    By scene no place is on both sides: frames that show the same ground are found by matching features (needs the extra
    `scenes`). A random split has neighbours on both sides, and its scores are too high for
    new places.
    """
    with errors(debug):
        from aerialseg.cli import display

        try:
            from aerialseg.datasets.splits import make_split
        except ModuleNotFoundError as error:
            if error.name != "PIL":
                raise
            raise UsageError("splitting needs Pillow: pip install 'aerialseg[scenes]'") from error
        with display.progress(quiet) as progress:
            paths = make_split(
                data,
                out,
                by=by,
                held_out=held_out,
                held_scenes=held_scenes.split(",") if held_scenes else (),
                seed=seed,
                groups=groups,
                links=links,
                images=images,
                masks=masks,
                overwrite=overwrite,
                progress=progress,
            )
        print_lines(paths)

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
@click.option("--data", metavar="DIR", type=_FILE, required=True, help="Folder of images and masks.")
@click.option("--out", metavar="SPLIT.csv", type=_FILE, required=True, help="The split to write.")
@click.option(
    "--by",
    type=click.Choice(["scene", "random"]),
    default="scene",
    show_default=True,
    help="Test set of whole places, or of single frames at random.",
)
@click.option(
    "--held-out", metavar="SHARE", type=float, default=0.2, show_default=True, help="Share to put into the test set."
)
@click.option("--held-scenes", metavar="NAME,...", help="Scenes (places) of the test set, instead of a share of all.")
@click.option("--seed", type=int, default=2026, show_default=True, help="Seed for choosing the test set.")
@click.option(
    "--groups",
    metavar="GROUPS.csv",
    type=_FILE,
    help="Known places (columns frame, scene), instead of matching frames.",
)
@click.option("--links", metavar="LINKS.csv", type=_FILE, help="Also write the matched pairs of frames.")
@click.option("--images", metavar="NAME", default="original_images", show_default=True, help="Folder of images in DIR.")
@click.option(
    "--masks", metavar="NAME", default="label_images_semantic", show_default=True, help="Folder of masks in DIR."
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
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

    With --by scene, no place is in both sets: frames that show the same ground are found by matching image features
    (needs the extra `scenes`). With --by random, neighbouring frames are in both sets, and scores are too high for new
    places.
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

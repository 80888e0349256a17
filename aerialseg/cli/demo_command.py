"""aerialseg demo."""

from __future__ import annotations

from pathlib import Path

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, Numbers


@click.command("demo", cls=JsonCommand, context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the scene; each draws another one.")
@click.option(
    "--size",
    metavar="COLS,ROWS",
    type=Numbers(int, "COLS,ROWS", 2),
    default="1200,900",
    show_default=True,
    help="Size in pixels of 3.5 cm.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing scene.")
@JSON_PROGRESS
@DEBUG
def demo_command(
    folder: Path, seed: int, size: tuple[int, int], overwrite: bool, json_progress: bool, debug: bool
) -> None:
    """Draw a small georeferenced scene with truth and labels.

    Writes ortho.tif, truth.tif (the class raster) and labels.gpkg (polygons for 'aerialseg teach') to DIR. No imagery
    is downloaded.
    """
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.datasets.demo import LABELS, draw_demo

        made = draw_demo(folder, width=size[0], height=size[1], seed=seed, overwrite=overwrite)
        paths = [path for path in (*made, folder / LABELS) if path.exists()]
        print_lines(paths)
        if lines:
            lines.done(paths)

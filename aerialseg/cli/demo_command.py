"""aerialseg demo."""

from __future__ import annotations

from pathlib import Path

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.json_progress import JSON_PROGRESS, JsonCommand, json_lines
from aerialseg.cli.options import CONTEXT, DEBUG, Numbers


@click.command("demo", cls=JsonCommand, context_settings=CONTEXT)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=7, show_default=True, help="Another seed draws another scene.")
@click.option(
    "--size",
    metavar="COLS,ROWS",
    type=Numbers(int, "COLS,ROWS", 2),
    default="1200,900",
    show_default=True,
    help="Pixels of 3.5 cm.",
)
@click.option("--overwrite", is_flag=True, help="Replace a scene that is there.")
@JSON_PROGRESS
@DEBUG
def demo_command(
    folder: Path, seed: int, size: tuple[int, int], overwrite: bool, json_progress: bool, debug: bool
) -> None:
    """Draw a small georeferenced scene with truth and labels."""
    with json_lines(json_progress) as lines, errors(debug, lines.failed if lines else None):
        from aerialseg.datasets.demo import LABELS, draw_demo

        made = draw_demo(folder, width=size[0], height=size[1], seed=seed, overwrite=overwrite)
        paths = [path for path in (*made, folder / LABELS) if path.exists()]
        print_lines(paths)
        if lines:
            lines.done(paths)

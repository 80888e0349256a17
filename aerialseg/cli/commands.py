"""The group of all commands."""

from __future__ import annotations

import itertools

import click

from aerialseg._version import __version__
from aerialseg.cli.accuracy_command import accuracy_command
from aerialseg.cli.areas_command import areas_command
from aerialseg.cli.batch_commands import batch_command, collect_command, status_command
from aerialseg.cli.chips_command import chips_command
from aerialseg.cli.demo_command import demo_command
from aerialseg.cli.doctor_command import doctor_command
from aerialseg.cli.doubts_command import doubts_command
from aerialseg.cli.evaluate_command import evaluate_command
from aerialseg.cli.model_commands import calibrate_command, model_group
from aerialseg.cli.options import CONTEXT
from aerialseg.cli.polygonize_command import polygonize_command
from aerialseg.cli.seams_command import seams_command
from aerialseg.cli.segment_command import segment_command
from aerialseg.cli.split_command import split_command
from aerialseg.cli.teach_command import teach_command
from aerialseg.cli.training_commands import experiment_command, quantize_command, train_command

REMOVED = {
    "distil": "'aerialseg distil' was removed, because encoders trained by it gave worse models (docs/model.md): "
    "train a teacher (decoder.kind = 'pyramid'), then the model with [follow] and 'aerialseg train --teacher DIR'"
}
"""What to do instead of commands that are no more."""

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Map": (segment_command, polygonize_command),
    "Check and correct a map": (accuracy_command, areas_command, doubts_command),
    "Models": (teach_command, model_group, evaluate_command, calibrate_command, quantize_command, seams_command),
    "Training": (chips_command, split_command, train_command, experiment_command),
    "Jobs of many rasters": (batch_command, status_command, collect_command),
    "Demo and installation": (demo_command, doctor_command),
}
"""Section of ``aerialseg --help`` -> its commands."""


class Commands(click.Group):
    """A group that lists its commands in sections, and says of a removed command what to do instead."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.commands))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                rows = [(str(one.name).ljust(width), one.get_short_help_str(formatter.width)) for one in commands]
                formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] in REMOVED:
            ctx.fail(REMOVED[args[0]])
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="aerialseg")
def cli() -> None:
    """Make land-cover maps from aerial imagery."""


for command in itertools.chain(*SECTIONS.values()):
    cli.add_command(command)

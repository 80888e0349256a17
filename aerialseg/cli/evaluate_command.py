"""aerialseg evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.accuracy_command import accuracy_command
from aerialseg.cli.failures import errors, print_lines, tell
from aerialseg.cli.options import CONTEXT, DEBUG, GROUPS, QUIET, REPORT_OPTIONS, Numbers, gone, options, setting_option
from aerialseg.cli.sections import SectionedCommand
from aerialseg.mapping.settings import OPTIONS

EVALUATE_OPTIONS = options(
    click.argument("model", metavar="MODEL"),
    click.option(
        "--data",
        metavar="DIR",
        type=click.Path(path_type=Path),
        required=True,
        help="Folder of images and masks.",
    ),
    click.option(
        "--split",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="CSV (frame,held_out,scene): score the frames with held_out = 1.",
    ),
    click.option("--all", "every", is_flag=True, help="Score all frames, even if the configuration has a split."),
    click.option(
        "--config",
        metavar="CONFIG.toml",
        type=click.Path(path_type=Path),
        help="Take legend, ignored classes, folders, split and size from a training configuration, "
        "not from the model's card.",
    ),
    click.option(
        "--size",
        metavar="ROWS,COLS",
        type=Numbers(int, "ROWS,COLS", 2),
        help="Resample frames to this size in pixels.  [default: as in training, otherwise unchanged]",
    ),
    setting_option(OPTIONS["device"]),
    setting_option(OPTIONS["precision"]),
    click.option(
        "--tta", is_flag=True, help="Test-time augmentation (8 flips and rotations), as in segment-raster --tta."
    ),
    GROUPS,
    REPORT_OPTIONS,
    *(gone(name, f"aerialseg accuracy MAP TRUTH --{name}") for name in ("field", "layer", "legend", "confidence")),
    QUIET,
    DEBUG,
)

EVALUATE_HELP = """Score MODEL on labelled images.

MODEL is a folder or a name of 'aerialseg model list'. DIR contains original_images/ and label_images_semantic/ (or
RGB_color_image_masks/), or images/ and masks/. The model predicts each frame as segment-raster does.

All scores are computed from one confusion matrix of all pixels, without ignored and unlabelled ones. The report is one
HTML page that works offline; it contains images of the data set.

To compare a map with reference data: aerialseg accuracy MAP TRUTH.

Exit codes: 0 done, 2 usage, 3 input, 4 model, 5 output, 6 resources, 130 interrupted.
"""

ON_MAPS = "note: evaluate on maps is now `aerialseg accuracy MAP TRUTH`; this form will be removed in the next release"


class _Evaluate(SectionedCommand):
    """Hands the earlier form, CLASSES.tif TRUTH, to ``aerialseg accuracy`` for one more release."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        of_model = any(one.split("=")[0] in ("--data", "--help", "-h") for one in args)
        if of_model or not any(one.lower().endswith((".tif", ".tiff")) for one in args):
            return super().make_context(info_name, args, parent, **extra)
        tell(ON_MAPS)
        return accuracy_command.make_context("accuracy", args, parent, **extra)


@click.command("evaluate", cls=_Evaluate, context_settings=CONTEXT, help=EVALUATE_HELP)
@EVALUATE_OPTIONS
def evaluate_command(
    model: str, data: Path, out: Path | None, overwrite: bool, quiet: bool, debug: bool, **options: Any
) -> None:
    with errors(debug):
        from aerialseg.cli import display

        given = {name: value for name, value in options.items() if value is not None}
        with display.progress(quiet, first=display.opening([data])) as progress:
            from aerialseg.evaluation.evaluate import evaluate
            from aerialseg.evaluation.report import check_free, write_report
            from aerialseg.model.store import load_whole_card

            if out is not None:
                check_free(out, overwrite=overwrite)
            found = evaluate(model, data, progress=progress, **given)
        if not quiet:
            display.show_scores(found)
        if out is not None:
            print_lines(write_report(out, found, card=load_whole_card(model), overwrite=overwrite))

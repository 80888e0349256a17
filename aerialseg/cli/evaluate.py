"""aerialseg evaluate: a model on frames with masks, or a map against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aerialseg.cli.failures import errors, print_paths
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, Numbers, options
from aerialseg.errors import UsageError

if TYPE_CHECKING:
    from aerialseg.evaluation.results import Evaluation
    from aerialseg.model.card import ModelCard
    from aerialseg.progress import Progress

FORMS = "'aerialseg evaluate MODEL --data DIR' or 'aerialseg evaluate CLASSES.tif TRUTH.tif|.gpkg'"

OF_MODELS = {
    "config": "--config",
    "split": "--split",
    "every": "--all",
    "size": "--size",
    "device": "--device",
    "precision": "--precision",
    "tta": "--tta",
}
OF_MAPS = {"field": "--field", "layer": "--layer", "legend": "--legend", "confidence": "--confidence"}
"""Options of one form alone."""

EVALUATE_OPTIONS = options(
    click.argument("subject", metavar="MODEL|CLASSES.tif"),
    click.argument("truth", metavar="[TRUTH]", required=False, type=click.Path(path_type=Path)),
    click.option("--data", metavar="DIR", type=click.Path(path_type=Path), help="Folder of images and masks."),
    click.option(
        "--split",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="CSV (frame,held_out,scene): score the frames with held_out = 1.",
    ),
    click.option("--all", "every", is_flag=True, help="Score all frames, whatever the configuration's split says."),
    click.option(
        "--config",
        metavar="CONFIG.toml",
        type=click.Path(path_type=Path),
        help="Take legend, void, folders, split and size from a training's configuration, not from the model's card.",
    ),
    click.option(
        "--size",
        metavar="ROWS,COLS",
        type=Numbers(int, "ROWS,COLS", 2),
        help="Bring frames to this size.  [default: that of the model's training, else as they are]",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), help="[default: auto]"),
    click.option("--precision", type=click.Choice(["auto", "fp32", "bf16", "int8"]), help="[default: auto]"),
    click.option(
        "--tta",
        is_flag=True,
        help="Average over the eight flips and turns of each tile, as segment-raster --tta does.",
    ),
    click.option("--field", metavar="NAME", help="Field of the polygons with the class.  [default: class]"),
    click.option("--layer", metavar="NAME", help="Layer of the polygons, where the file has several."),
    click.option(
        "--legend",
        metavar="L.csv",
        type=click.Path(path_type=Path),
        help="Classes of the map.  [default: what it says itself]",
    ),
    click.option(
        "--confidence",
        metavar="CONF.tif",
        type=click.Path(path_type=Path),
        help="Confidence of the map (0-100), to be judged too.",
    ),
    click.option(
        "--out",
        metavar="FOLDER",
        type=click.Path(path_type=Path),
        help="Write scores.json, confusion.csv, classes.csv, frames.csv and report.html here.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace files that exist."),
    QUIET,
    DEBUG,
)

EVALUATE_HELP = """Score MODEL on the frames of --data, or the map CLASSES.tif against TRUTH.

\b
  aerialseg evaluate MODEL --data DIR [--split FILE]
  aerialseg evaluate CLASSES.tif TRUTH.tif|.gpkg [--field class]

MODEL is a folder or a name. DIR holds original_images/ and label_images_semantic/ (or
RGB_color_image_masks/), or images/ and masks/. The model is asked as segment-raster asks it. TRUTH is a
class raster or polygons, in any coordinate reference system.

Everything comes from one confusion matrix over all pixels; void and unlabelled pixels count nowhere. The
report is one HTML page that needs no network; its pictures are those of the data.

Exit codes: 0 done, 2 usage, 3 input, 4 model, 5 output, 6 resources, 130 interrupted.
"""


@click.command("evaluate", context_settings=CONTEXT, help=EVALUATE_HELP)
@EVALUATE_OPTIONS
def evaluate_command(
    subject: str,
    truth: Path | None,
    data: Path | None,
    out: Path | None,
    overwrite: bool,
    quiet: bool,
    debug: bool,
    **given: Any,
) -> None:
    with errors(debug):
        from aerialseg.cli import display

        of_map = is_of_map(truth, data, given)
        if out is not None:
            from aerialseg.evaluation.report import check_free

            check_free(out, overwrite=overwrite)
        with display.progress(quiet) as progress:
            evaluation, card = (
                _of_map(subject, truth, progress, given) if of_map else _of_model(subject, data, progress, given)
            )
        if not quiet:
            display.show_scores(evaluation)
        if out is not None:
            from aerialseg.evaluation.report import write_report

            print_paths(write_report(out, evaluation, card=card, overwrite=overwrite))


def is_of_map(truth: Path | None, data: Path | None, given: dict[str, Any]) -> bool:
    """Whether a map is compared with the truth. Raises UsageError that shows both forms where neither is meant."""
    if truth is not None and data is not None:
        raise UsageError(f"both a truth ({truth}) and --data {data}: wanted {FORMS}")
    if truth is None and data is None:
        raise UsageError(f"neither --data nor a truth: wanted {FORMS}")
    foreign = OF_MAPS if truth is None else OF_MODELS
    wrong = [option for name, option in foreign.items() if given[name] not in (None, False)]
    if wrong:
        which = "a model" if truth is None else "a map"
        raise UsageError(f"{wrong[0]} has no meaning where {which} is scored: wanted {FORMS}")
    return truth is not None


def _of_map(
    subject: str, truth: Path | None, progress: Progress, given: dict[str, Any]
) -> tuple[Evaluation, ModelCard | None]:
    from aerialseg.evaluation.map_accuracy import assess
    from aerialseg.evaluation.results import Evaluation

    assert truth is not None
    chosen = {name: given[name] for name in OF_MAPS if given[name] is not None}
    return Evaluation.of_assessment(assess(subject, truth, progress=progress, **chosen)), None


def _of_model(
    subject: str, data: Path | None, progress: Progress, given: dict[str, Any]
) -> tuple[Evaluation, ModelCard | None]:
    from aerialseg.evaluation.evaluate import evaluate
    from aerialseg.model.store import load_whole_card

    assert data is not None
    chosen = {name: given[name] for name in OF_MODELS if given[name] is not None}
    found = evaluate(subject, data, progress=progress, **chosen)
    return found, load_whole_card(subject)

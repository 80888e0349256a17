"""aerialseg train: what needs the extra of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines, resuming
from aerialseg.cli.options import CONTEXT, DEBUG
from aerialseg.cli.sections import SectionedCommand

_LOADING = "Loading PyTorch and fastai"
WEIGHTS = click.option(
    "--encoder-weights",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Weights that the encoder starts from; for encoder.start = 'model', a model's folder.",
)


@click.command("train", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option(
    "--out", metavar="MODEL_DIR", type=click.Path(path_type=Path), required=True, help="Where the model goes."
)
@WEIGHTS
@click.option(
    "--teacher",
    "teachers",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="The teacher, where CONFIG.toml follows one; again for each of several.",
)
@click.option("--seed", metavar="N", type=int, help="Seed of all random numbers.  [default: as CONFIG.toml says]")
@click.option(
    "--keep-checkpoints", is_flag=True, help="Leave checkpoints and prepared frames in MODEL_DIR/training at the end."
)
@DEBUG
def train_command(config: Path, data: Path, out: Path, debug: bool, **options: Any) -> None:
    """Train a model as CONFIG.toml says.

    The model, or a teacher of other models, is scored on the held-out frames. An interrupted run resumes when the same
    command is given again, with the same result. Needs the extra `train`: pip install 'aerialseg[train]'.
    """
    with errors(debug):
        from aerialseg.cli import display

        with resuming(out / "training"), display.progress(first=_LOADING) as progress:
            from aerialseg.training import train

            path = train(config, data, out, progress=progress, **options)
        print_lines([path])


@click.command("experiment", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("config", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option(
    "--out", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="Where models and report go."
)
@WEIGHTS
@DEBUG
def experiment_command(config: Path, data: Path, out: Path, encoder_weights: Path | None, debug: bool) -> None:
    """Train the runs of EXPERIMENT.toml and compare them.

    All get the same computing budget (separate sizes, progressive resizing) and are scored on the same held-out frames
    at the same final resolution. FOLDER gets results.csv, results.json, one page experiment.html and the models. An
    interrupted experiment resumes when the same command is given again. Needs the extra `train`.
    """
    with errors(debug):
        from aerialseg.cli import display

        with resuming(out / "runs"), display.progress(first=_LOADING) as progress:
            from aerialseg.evaluation.comparison import write_comparison
            from aerialseg.training import experiment

            results = experiment(config, data, out, encoder_weights=encoder_weights, progress=progress)
        print_lines(write_comparison(out, results))


@click.command("quantize", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option("--model", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The model's folder.")
@click.option("--images", metavar="N", type=int, default=24, show_default=True, help="Frames to find the ranges on.")
@DEBUG
def quantize_command(config: Path, data: Path, model: Path, images: int, debug: bool) -> None:
    """Enable 8-bit integer inference, and measure its cost.

    It is fastest on a CPU. Ranges and scores go into the model's card. Where int8 loses at most 0.002 of the mean IoU
    it becomes the default on processors that have it. Needs the extra `train`.
    """
    with errors(debug):
        from aerialseg.cli import display

        with display.progress(first=_LOADING) as progress:
            from aerialseg.training.quantize import quantize

            path = quantize(config, data, model, images=images, progress=progress.note)
        print_lines([path])

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
    help="Initial weights of the encoder; for encoder.start = 'model', a model's folder.",
)


@click.command("train", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option(
    "--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder of images and masks."
)
@click.option(
    "--out", metavar="MODEL_DIR", type=click.Path(path_type=Path), required=True, help="Folder of the new model."
)
@WEIGHTS
@click.option(
    "--teacher",
    "teachers",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Teacher model, if CONFIG.toml has [follow]; repeat the option for several.",
)
@click.option("--seed", metavar="N", type=int, help="Seed of all random numbers.  [default: that of CONFIG.toml]")
@click.option("--keep-checkpoints", is_flag=True, help="Keep checkpoints and prepared frames in MODEL_DIR/training.")
@DEBUG
def train_command(config: Path, data: Path, out: Path, debug: bool, **options: Any) -> None:
    """Train a model as configured in CONFIG.toml.

    At the end, the model (or a teacher for other models) is scored on the test frames. An interrupted run resumes when
    the same command is given again, with the same result. Needs the extra `train`: pip install 'aerialseg[train]'.
    """
    with errors(debug):
        from aerialseg.cli import display

        with resuming(out / "training"), display.progress(first=_LOADING) as progress:
            from aerialseg.training import train

            path = train(config, data, out, progress=progress, **options)
        print_lines([path])


@click.command("experiment", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("config", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option(
    "--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder of images and masks."
)
@click.option(
    "--out", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="Folder of models and report."
)
@WEIGHTS
@DEBUG
def experiment_command(config: Path, data: Path, out: Path, encoder_weights: Path | None, debug: bool) -> None:
    """Train the runs of EXPERIMENT.toml and compare them.

    Each run trains at one frame size, or at increasing sizes (progressive resizing). All runs get the same computing
    budget, and are scored on the same test frames at the same final resolution. Writes results.csv, results.json,
    experiment.html and the models to FOLDER. An interrupted experiment resumes when the same command is given again.
    Needs the extra `train`.
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
@click.option(
    "--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Folder of images and masks."
)
@click.option("--model", metavar="DIR", type=click.Path(path_type=Path), required=True, help="Model to update.")
@click.option(
    "--images", metavar="N", type=int, default=24, show_default=True, help="Number of frames used to find the ranges."
)
@DEBUG
def quantize_command(config: Path, data: Path, model: Path, images: int, debug: bool) -> None:
    """Enable 8-bit integers, and measure the loss of accuracy.

    Inference in int8 is the fastest on a CPU. The ranges of values and the scores are stored in the model's card. If
    int8 loses at most 0.002 of the mean IoU, it becomes the default on processors that support it. Needs the extra
    `train`.
    """
    with errors(debug):
        from aerialseg.cli import display

        with display.progress(first=_LOADING) as progress:
            from aerialseg.training.quantize import quantize

            path = quantize(config, data, model, images=images, progress=progress.note)
        print_lines([path])

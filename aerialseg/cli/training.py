"""aerialseg train: what needs the extra of that name."""

from __future__ import annotations

from pathlib import Path

import click

from aerialseg.cli.failures import errors, print_paths
from aerialseg.cli.options import CONTEXT, DEBUG


@click.command("train", context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option(
    "--out", metavar="MODEL_DIR", type=click.Path(path_type=Path), required=True, help="Where the model goes."
)
@click.option(
    "--encoder-weights", metavar="FILE", type=click.Path(path_type=Path), help="Weights that the encoder starts from."
)
@DEBUG
def train_command(config: Path, data: Path, out: Path, encoder_weights: Path | None, debug: bool) -> None:
    """Train a model as CONFIG.toml says and score it on the held-out frames.

    Needs the extra `train`: pip install 'aerialseg[train]'.
    """
    with errors(debug):
        from aerialseg import console
        from aerialseg.training import train

        with console.progress() as progress:
            path = train(config, data, out, encoder_weights=encoder_weights, progress=progress.note)
        print_paths([path])


@click.command("quantize", context_settings=CONTEXT)
@click.argument("config", metavar="CONFIG.toml", type=click.Path(path_type=Path))
@click.option("--data", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The data set's folder.")
@click.option("--model", metavar="DIR", type=click.Path(path_type=Path), required=True, help="The model's folder.")
@click.option("--images", metavar="N", type=int, default=24, show_default=True, help="Frames to find the ranges on.")
@DEBUG
def quantize_command(config: Path, data: Path, model: Path, images: int, debug: bool) -> None:
    """Let the model compute in 8-bit integers, which is fastest on a CPU, and measure what that costs.

    Ranges and scores go into the model's card. Where int8 loses at most 0.002 of the mean IoU it becomes the default on
    processors that have it. Needs the extras `train` and `fast`.
    """
    with errors(debug):
        from aerialseg import console
        from aerialseg.training.quantize import quantize

        with console.progress() as progress:
            path = quantize(config, data, model, images=images, progress=progress.note)
        print_paths([path])

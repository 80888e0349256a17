"""aerialseg model and aerialseg calibrate: what models there are, what they say of themselves, what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, Numbers
from aerialseg.cli.sections import SectionedCommand
from aerialseg.files import check_new

_FILE = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout instead.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace what is there.")
FORMATS = {".onnx": "onnx", ".json": "stac"}


@click.group("model", context_settings=CONTEXT)
def model_group() -> None:
    """List, add, show and export models; convert them from fastai.

    MODEL is a model's folder or the name of one that comes along or was added; without it, the default one is meant.
    """


@model_group.command("list", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("folder", metavar="[DIR]", type=_FILE, required=False)
@JSON
@DEBUG
def list_command(folder: Path | None, as_json: bool, debug: bool) -> None:
    """List the installed models and the catalogue.

    Installed are the bundled models, those added, and with DIR those below that folder.
    """
    with errors(debug):
        from aerialseg.cli import display_model
        from aerialseg.model.listing import describe_offer, find_models, offers

        models, more = find_models(folder), offers()
        if as_json:
            listed = [model.to_json() for model in models] + [describe_offer(*offer) for offer in more.items()]
            print_lines([json.dumps(listed, indent=1)])
        else:
            display_model.show_models(models)
            display_model.show_offers(more)


@model_group.command("add", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("name", metavar="NAME")
@click.option("--file", metavar="PATH", type=_FILE, help="Take the published file from here; nothing is fetched.")
@OVERWRITE
@QUIET
@DEBUG
def add_command(name: str, file: Path | None, overwrite: bool, quiet: bool, debug: bool) -> None:
    """Add a model of the catalogue.

    Its weights are fetched from their publisher, checked (size, SHA-256) and converted; from then on --model NAME finds
    it. An interrupted download resumes. 'aerialseg model list' shows the catalogue.
    """
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.model.add_model import add_model

        with display.progress(quiet) as progress:
            made = add_model(name, file=file, overwrite=overwrite, progress=progress)
        print_lines([made])


@model_group.command("update", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="MODEL")
@DEBUG
def update_command(model: str, debug: bool) -> None:
    """Write the network.onnx of a model that an earlier version made.

    With it the model runs without PyTorch, on a CPU several times as fast. Its weights and its maps stay the same.
    Needs the extra `onnx`: pip install 'aerialseg[onnx]'.
    """
    with errors(debug):
        from aerialseg.model.store import update

        print_lines([update(model)])


@model_group.command("show", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="[MODEL]", required=False)
@JSON
@DEBUG
def show_command(model: str | None, as_json: bool, debug: bool) -> None:
    """Show a model's card: purpose, scores, provenance, licence."""
    with errors(debug):
        from aerialseg.cli import display_model
        from aerialseg.model.folders import model_dir
        from aerialseg.model.store import load_card, load_whole_card

        if as_json:
            print_lines([json.dumps(load_whole_card(model).to_json(), indent=1)])
        else:
            display_model.show_card(load_card(model), model_dir(model))


@model_group.command("export", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("names", metavar="[MODEL] OUT", nargs=-1, required=True)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "stac"]),
    help="What OUT is to be.  [default: by its ending, .onnx or .json]",
)
@click.option(
    "--tile", metavar="PX", type=int, default=1024, show_default=True, help="ONNX: sides of the square that it takes."
)
@click.option("--any-size", is_flag=True, help="ONNX: take images of any size (QGIS's Deepness cannot use that).")
@click.option("--logits", is_flag=True, help="ONNX: give logits, without temperature and softmax.")
@click.option("--onnx", metavar="FILE", type=_FILE, help="STAC: name this file as the model's ONNX.")
@OVERWRITE
@DEBUG
def export_command(
    names: tuple[str, ...],
    kind: str | None,
    tile: int,
    any_size: bool,
    logits: bool,
    onnx: Path | None,
    overwrite: bool,
    debug: bool,
) -> None:
    """Write a model as ONNX or as a STAC item.

    The ONNX file holds what QGIS's plugin Deepness needs; the STAC item has the MLM extension. Programs that run the
    ONNX file cut tiles of their own, so that their results have seams; aerialseg's have none.
    Needs the extra `onnx` or `stac`.
    """
    with errors(debug):
        model, out, kind = _what_and_where(names, kind)
        check_new(out, overwrite=overwrite)
        if kind == "onnx":
            from aerialseg.model.onnx_export import LOGITS, PROBABILITIES, export_onnx

            output = LOGITS if logits else PROBABILITIES
            path = export_onnx(model, out, tile=None if any_size else tile, output=output)
        else:
            from aerialseg.model.stac import export_stac

            path = export_stac(model, out, onnx=onnx)
        print_lines([path])


def _what_and_where(names: tuple[str, ...], kind: str | None) -> tuple[str | None, Path, str]:
    """(model, output, format) of what was given. Raises UsageError."""
    from aerialseg.errors import UsageError

    if len(names) > 2:
        raise UsageError(f"met {len(names)} names: wanted [MODEL] OUT")
    out = Path(names[-1])
    kind = kind or FORMATS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"output {out} ends neither in .onnx nor in .json: give --format")
    return (names[0] if len(names) == 2 else None), out, kind


CONVERT_HELP = """Make a model folder OUT of FILE, trained elsewhere.

\b
a fastai learner or its weights:         --legend L.csv --gsd M
a Unet of segmentation_models_pytorch:   --about ABOUT.toml

ABOUT.toml says what a checkpoint does not: name, gsd_m, classes (name, colour, predicted), mean and std of values 0 to
255, bands, licence. Prefixes such as model.seg_model. are found; every name has to fit. Also of torchgeo and geoai.

FILE is what learn.export() wrote (a pickle), or weights alone (learn.save(), state_dict(), safetensors). A pickle can
run any code when it is opened, so none is, unless --i-trust-this-pickle says that whoever made it may run code on this
computer: it is opened in a process of its own, which is no sandbox. The network must be fastai's DynamicUnet over one
of torchvision's ResNets; that the converted one answers the same is checked. Needs the extra `train` for pickles.
"""


@model_group.command("regroup", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="MODEL")
@click.argument("groups", metavar="GROUPS.csv", type=_FILE)
@click.option("--out", metavar="MODEL_DIR", type=_FILE, required=True, help="Where the model of the groups goes.")
@click.option("--name", metavar="NAME", help="Name of the model.  [default: that of MODEL_DIR]")
@OVERWRITE
@DEBUG
def regroup_command(model: str, groups: Path, out: Path, name: str | None, overwrite: bool, debug: bool) -> None:
    """Merge a model's classes into fewer groups.

    GROUPS.csv has the columns class and group, and r, g, b if a group should have a colour of its own; a class
    without a group is never predicted. The probability of a group is the sum of those of its classes.
    """
    with errors(debug):
        from aerialseg.model.groups import regroup

        print_lines([regroup(model, groups, out, name=name, overwrite=overwrite)])


@model_group.command("convert", cls=SectionedCommand, context_settings=CONTEXT, help=CONVERT_HELP)
@click.argument("path", metavar="FILE", type=_FILE)
@click.argument("out", metavar="OUT", type=_FILE)
@click.option("--legend", metavar="L.csv", type=_FILE, help="Classes in the network's order.")
@click.option("--gsd", "gsd_m", metavar="M", type=float, help="Metres a pixel of the imagery it was trained on.")
@click.option("--about", metavar="ABOUT.toml", type=_FILE, help="Description of a checkpoint of smp's Unet.")
@click.option("--name", metavar="TEXT", help="The model's name.  [default: FILE's]")
@click.option("--void", metavar="IDS", type=Numbers(int, "IDS"), default=(), help="Classes never to predict: 0,23.")
@click.option("--licence", metavar="TEXT", default="", help="The terms under which it may be used, for the card.")
@click.option("--blur", is_flag=True, help="Of weights alone: the decoder blurs (unet_learner's blur=True).")
@click.option(
    "--i-trust-this-pickle", "trusted", is_flag=True, help="Open FILE although that runs whatever code is in it."
)
@OVERWRITE
@QUIET
@DEBUG
def convert_command(path: Path, out: Path, about: Path | None, quiet: bool, debug: bool, **options: Any) -> None:
    with errors(debug):
        _check_origin(about, options)
        from aerialseg.cli import display
        from aerialseg.training.convert import convert, convert_checkpoint

        with display.progress(quiet) as progress:
            if about is None:
                made = convert(path, out, progress=progress, **options)
            else:
                made = convert_checkpoint(path, out, about, overwrite=options["overwrite"], progress=progress)
        print_lines([made])


def _check_origin(about: Path | None, options: dict[str, Any]) -> None:
    """Raise UsageError unless the options are those of one kind of file."""
    from aerialseg.errors import UsageError

    fastais = [name for name, value in options.items() if value and name != "overwrite"]
    if about is not None and fastais:
        raise UsageError(f"{about} describes the whole network: leave out --{fastais[0].replace('gsd_m', 'gsd')}")
    if about is None and not (options["legend"] and options["gsd_m"]):
        raise UsageError(
            "this file does not describe its classes and pixel size: give --legend and --gsd for one of "
            "fastai's, --about ABOUT.toml "
            "for a Unet of segmentation_models_pytorch"
        )


@click.command("calibrate", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="DIR", type=_FILE, required=True, help="The data set's folder.")
@click.option("--split", metavar="FILE", type=_FILE, help="Which frames are held out (CSV: frame, held_out, scene).")
@click.option("--config", metavar="CONFIG.toml", type=_FILE, help="Take folders, size and split from a training's.")
@click.option(
    "--size",
    metavar="ROWS,COLS",
    type=Numbers(int, "ROWS,COLS", 2),
    help="Resample frames to this size (pixels).  [default: the model's]",
)
@click.option(
    "--pixels", metavar="N", type=int, default=20_000, show_default=True, help="Pixels to use of each frame, at most."
)
@QUIET
@DEBUG
def calibrate_command(
    model: str,
    data: Path,
    split: Path | None,
    config: Path | None,
    size: tuple[int, int] | None,
    pixels: int,
    quiet: bool,
    debug: bool,
) -> None:
    """Calibrate the model's confidence.

    Of the pixels with a confidence of 80 %, four in five are then right. One temperature is fitted on held-out frames
    and goes into the model's card, with how far the confidence was off before and is off after, the latter on frames
    that the temperature was not fitted on. Labels do not change.
    """
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.evaluation.calibrate import calibrate_on
        from aerialseg.model.folders import CARD, model_dir

        with display.progress(quiet) as progress:
            found = calibrate_on(model, data, config=config, split=split, size=size, pixels=pixels, progress=progress)
            progress.note(found.text())
        print_lines([model_dir(model) / CARD])

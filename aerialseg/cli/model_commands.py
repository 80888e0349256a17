"""aerialseg model and aerialseg calibrate: what models there are, what they say of themselves, what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from aerialseg.cli.failures import errors, print_lines
from aerialseg.cli.options import CONTEXT, DEBUG, QUIET, KindType, Numbers, old_option, use_new_name
from aerialseg.cli.sections import SectionedCommand
from aerialseg.errors import UsageError
from aerialseg.files import check_new
from aerialseg.mapping.kinds import PIXEL_SIZE

_FILE = click.Path(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace an existing output.")
FORMATS = {".onnx": "onnx", ".json": "stac"}


@click.group("model", context_settings=CONTEXT)
def model_group() -> None:
    """List, add, show, convert and export models.

    MODEL is a model's folder, or the name of a bundled or added model. [MODEL] may be left out for the default model.
    """


@model_group.command("list", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("folder", metavar="[DIR]", type=_FILE, required=False)
@JSON
@DEBUG
def list_command(folder: Path | None, as_json: bool, debug: bool) -> None:
    """List the installed models and the catalogue.

    Installed models are the bundled ones, those that you added and, with DIR, those in that folder and below it.
    Download a model of the catalogue with 'aerialseg model add'.
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
@click.option("--file", metavar="PATH", type=_FILE, help="Use this copy of the published file; download nothing.")
@OVERWRITE
@QUIET
@DEBUG
def add_command(name: str, file: Path | None, overwrite: bool, quiet: bool, debug: bool) -> None:
    """Add a model of the catalogue.

    Its weights are downloaded from their publisher, checked (size, SHA-256) and converted. Then --model NAME uses the
    model. An interrupted download resumes. 'aerialseg model list' shows the catalogue.
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

    With this file, the model runs without PyTorch, several times as fast on a CPU. Weights and maps do not change.
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
    help="Format of OUT.  [default: by its ending, .onnx or .json]",
)
@click.option(
    "--tile", metavar="PX", type=int, default=1024, show_default=True, help="ONNX: side of the square input, in pixels."
)
@click.option(
    "--any-size", is_flag=True, help="ONNX: accept images of any size (the QGIS plugin Deepness cannot use that)."
)
@click.option("--logits", is_flag=True, help="ONNX: output logits, without temperature and softmax.")
@click.option("--onnx", metavar="FILE", type=_FILE, help="STAC: list this file as the model's ONNX asset.")
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

    The ONNX file contains the metadata for the QGIS plugin Deepness; the STAC item has the MLM extension. Programs that
    run the ONNX file cut their own tiles, so their results have seams; those of aerialseg have none.
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
    if len(names) > 2:
        raise UsageError(f"met {len(names)} names: wanted [MODEL] OUT")
    out = Path(names[-1])
    kind = kind or FORMATS.get(out.suffix.lower())
    if kind is None:
        raise UsageError(f"output {out} ends neither in .onnx nor in .json: give --format")
    return (names[0] if len(names) == 2 else None), out, kind


CONVERT_HELP = """Convert FILE, a model trained elsewhere, to the model folder OUT.

\b
a fastai learner or its weights:         --legend L.csv --pixel-size M
a Unet of segmentation_models_pytorch:   --about ABOUT.toml

fastai: FILE is the pickle of learn.export(), or weights alone (learn.save(), state_dict(), safetensors). Opening a
pickle can run any code. So a pickle is opened only with --i-trust-this-pickle, in a separate process, which is not a
sandbox. Use it only if you would run a program from the same people. The network must be fastai's DynamicUnet over one
of torchvision's ResNets. The converted network must give the same output. Pickles need the extra `train`.

segmentation_models_pytorch, also from torchgeo and geoai: ABOUT.toml describes what the checkpoint does not contain:
name, gsd_m, classes (name, colour, predicted), mean and std of values 0 to 255, bands, licence. Prefixes such as
model.seg_model. are recognised; every other name must fit.
"""


@model_group.command("regroup", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="MODEL")
@click.argument("groups", metavar="GROUPS.csv", type=_FILE)
@click.option("--out", metavar="MODEL_DIR", type=_FILE, required=True, help="Folder of the new model.")
@click.option("--name", metavar="NAME", help="Name of the model.  [default: that of MODEL_DIR]")
@OVERWRITE
@DEBUG
def regroup_command(model: str, groups: Path, out: Path, name: str | None, overwrite: bool, debug: bool) -> None:
    """Merge a model's classes into fewer groups.

    GROUPS.csv has the columns class and group, and optionally r, g, b: the colour of the group. A class without a group
    is never predicted. The probability of a group is the sum of the probabilities of its classes.
    """
    with errors(debug):
        from aerialseg.model.groups import regroup

        print_lines([regroup(model, groups, out, name=name, overwrite=overwrite)])


@model_group.command("convert", cls=SectionedCommand, context_settings=CONTEXT, help=CONVERT_HELP)
@click.argument("path", metavar="FILE", type=_FILE)
@click.argument("out", metavar="OUT", type=_FILE)
@click.option("--legend", metavar="L.csv", type=_FILE, help="Classes in the network's order.")
@click.option("--pixel-size", "gsd_m", metavar="M", type=KindType(PIXEL_SIZE), help="Metres per pixel in training.")
@old_option("gsd", "gsd", PIXEL_SIZE)
@click.option("--about", metavar="ABOUT.toml", type=_FILE, help="Description of a checkpoint of smp's Unet.")
@click.option("--name", metavar="TEXT", help="The model's name.  [default: FILE's]")
@click.option(
    "--void",
    metavar="IDS",
    type=Numbers(int, "IDS"),
    default=(),
    help="Ids of classes that are never predicted, such as 0,23.",
)
@click.option("--licence", metavar="TEXT", default="", help="Licence of the model, for its card.")
@click.option("--blur", is_flag=True, help="For weights alone: the decoder blurs (blur=True of unet_learner).")
@click.option(
    "--i-trust-this-pickle", "trusted", is_flag=True, help="Open a pickle, which may run any code that it contains."
)
@OVERWRITE
@QUIET
@DEBUG
def convert_command(path: Path, out: Path, about: Path | None, quiet: bool, debug: bool, **options: Any) -> None:
    with errors(debug):
        from aerialseg.cli import display

        with display.progress(quiet) as progress:
            _check_origin(about, options)
            from aerialseg.training.conversion.convert import convert, convert_checkpoint

            if about is None:
                made = convert(path, out, progress=progress, **options)
            else:
                made = convert_checkpoint(path, out, about, overwrite=options["overwrite"], progress=progress)
        print_lines([made])


def _check_origin(about: Path | None, options: dict[str, Any]) -> None:
    """Raise UsageError unless the options are those of one kind of file; an old name among them gives way."""
    use_new_name(options, "gsd", "gsd_m", "--pixel-size")
    fastais = [name for name, value in options.items() if value and name != "overwrite"]
    if about is not None and fastais:
        raise UsageError(f"{about} describes all of it: leave out --{fastais[0].replace('gsd_m', 'pixel-size')}")
    if about is None and not (options["legend"] and options["gsd_m"]):
        raise UsageError(
            "this file does not describe its classes and pixel size: give --legend and --pixel-size for one of "
            "fastai's, --about ABOUT.toml for a Unet of segmentation_models_pytorch"
        )


@click.command("calibrate", cls=SectionedCommand, context_settings=CONTEXT)
@click.argument("model", metavar="MODEL")
@click.option("--data", metavar="DIR", type=_FILE, required=True, help="Folder of images and masks.")
@click.option(
    "--split", metavar="FILE", type=_FILE, help="CSV (frame,held_out,scene): use the frames with held_out = 1."
)
@click.option(
    "--config", metavar="CONFIG.toml", type=_FILE, help="Take folders, size and split from this training configuration."
)
@click.option(
    "--size",
    metavar="ROWS,COLS",
    type=Numbers(int, "ROWS,COLS", 2),
    help="Resample frames to this size in pixels.  [default: the model's]",
)
@click.option(
    "--pixels", metavar="N", type=int, default=20_000, show_default=True, help="Maximum number of pixels per frame."
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

    Afterwards, about four in five of the pixels with a confidence of 80 % are correct. One temperature is fitted on the
    test frames and stored in the model's card, with the calibration error before and after. The error is measured on
    frames that the temperature was not fitted on. Labels do not change.
    """
    with errors(debug):
        from aerialseg.cli import display
        from aerialseg.evaluation.calibrate import calibrate_on
        from aerialseg.model.folders import CARD, model_dir

        with display.progress(quiet) as progress:
            found = calibrate_on(model, data, config=config, split=split, size=size, pixels=pixels, progress=progress)
            progress.note(found.text())
        print_lines([model_dir(model) / CARD])

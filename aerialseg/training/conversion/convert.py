"""A fastai learner, or the weights of one, made into a model folder; a pickle only on request, in a child process."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from aerialseg._version import __version__
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.legend import Legend
from aerialseg.model.card import APPROXIMATE_HALO, Architecture, ModelCard
from aerialseg.model.encoders import ENCODERS, make_encoder
from aerialseg.model.folders import CARD, WEIGHTS
from aerialseg.model.network import Network
from aerialseg.model.networks import build
from aerialseg.model.smp_checkpoint import CheckpointAbout, convert_smp, holds_smp
from aerialseg.model.store import save
from aerialseg.progress import Progress, Silent
from aerialseg.training.conversion.origin import Origin, open_origin, read_weights
from aerialseg.training.norm_folding import fold_norms

AGREE = 1e-3
"""Largest difference between the logits of the network converted and those of its origin, of their size."""


def convert(
    path: str | Path,
    out: str | Path,
    *,
    legend: str | Path,
    gsd_m: float,
    name: str | None = None,
    void: tuple[int, ...] = (),
    blur: bool = False,
    licence: str = "",
    trusted: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The model folder ``out``, made of ``learn.export()`` or of saved weights (``learn.save``, safetensors).

    legend: CSV file with the classes in the order of the network's. trusted: the file may run code (``learn.export()``
    writes a pickle); without it no pickle is opened. blur: of the decoder, where weights alone are given, which do not
    tell it. Weights alone do not tell the normalisation either: that of ImageNet is taken, which fastai uses for
    encoders that were trained before. Raises InputError, ModelError, UsageError.
    """
    path, out, progress = Path(path), Path(out), progress or Silent()
    classes = Legend.from_csv(legend)
    _check_files(path, out, overwrite)
    origin = open_origin(path, trusted, progress)
    _check_vocab(origin.vocab, classes, progress)
    state = fold_norms(origin.weights)
    architecture = find_architecture(state, len(classes), path)
    architecture = _with_blur(architecture, state, origin, path, blur)
    with torch.device("meta"):
        network = build(classes=len(classes), **asdict(architecture))
    card = ModelCard(
        name=name or path.stem,
        legend=classes,
        gsd_m=gsd_m,
        mean=tuple(origin.normalisation["mean"]),
        std=tuple(origin.normalisation["std"]),
        architecture=architecture,
        halo=APPROXIMATE_HALO if network.inexact else network.reach.halo,
        exact=not network.inexact,
        void=void,
        licence=licence,
        lineage=(f"Converted from {path.name}",),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        code_version=__version__,
    )
    save(out, card, state, torch.float32)
    return out


def convert_checkpoint(
    path: str | Path,
    out: str | Path,
    about: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The model folder ``out``, made of a checkpoint of segmentation_models_pytorch's ``Unet``.

    path: weights by name (``.safetensors``, or torch's own format, read without running code), under whatever prefix.
    about: TOML file that says what they mean (``CheckpointAbout``). Raises InputError, ModelError, UsageError.
    """
    path, out = Path(path), Path(out)
    described = CheckpointAbout.read(about)
    _check_files(path, out, overwrite)
    convert_smp(read_weights(path), out, described, origin=path.name, progress=progress)
    return out


def _check_files(path: Path, out: Path, overwrite: bool) -> None:
    if not path.is_file():
        raise InputError(f"there is no file {path}: give the file that the training wrote")
    if any((out / file).exists() for file in (CARD, WEIGHTS)) and not overwrite:
        raise UsageError(f"{out} holds a model already: add --overwrite to replace it")


def _check_vocab(vocab: tuple[str, ...], legend: Legend, progress: Progress) -> None:
    """Raise ModelError where the file names its classes and they are the legend's in another order."""
    if not vocab:
        progress.note("the file does not name its classes: those of the legend are taken in their order")
        return
    if len(vocab) != len(legend):
        raise ModelError(
            f"the file has {len(vocab)} classes ({', '.join(vocab[:3])} ...), the legend {len(legend)}: wanted one "
            "line for each, in its order"
        )
    ids = {_bare(entry.name): entry.id for entry in legend}
    for number, name in enumerate(vocab):
        if ids.get(_bare(name), number) != number:
            raise ModelError(
                f"class {number} of the file is {name!r}, which is {ids[_bare(name)]} in the legend: put the legend "
                "into the file's order"
            )
    others = [f"{name!r} is {legend[n].name!r}" for n, name in enumerate(vocab) if _bare(name) not in ids]
    if others:
        progress.note(f"classes get the legend's names: {', '.join(others)}")


def _bare(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def find_architecture(state: Mapping[str, Tensor], classes: int, path: object = "the file") -> Architecture:
    """The architecture, but for ``blur``, whose network has weights of these names and shapes. Raises ModelError."""
    last = state.get("layers.12.0.weight")
    if last is not None and last.shape[0] != classes:
        raise ModelError(f"{path}: the network has {last.shape[0]} classes, the legend {classes}")
    first = state.get("layers.0.0.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != 3:
        raise ModelError(f"{path}: the network takes {first.shape[1]} bands; only red, green, blue can be converted")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    attention, encoder = any(".query." in name for name in shapes), _encoder_of(shapes)
    for norm in ("none", "batch", "instance") if encoder else ():
        wanted = Architecture(encoder=encoder or "", norm=norm, self_attention=attention)
        with torch.device("meta"):
            network = build(classes=classes, **asdict(wanted))
        if shapes == _shapes(network):
            return wanted
    if holds_smp(state):
        raise ModelError(f"{path} holds a network of segmentation_models_pytorch: describe it with --about ABOUT.toml")
    raise ModelError(
        f"{path}: {len(shapes)} weights that fit no network known here: wanted fastai's DynamicUnet (unet_learner) "
        f"over one of {', '.join(name for name in ENCODERS if '-' not in name)}"
    )


def _encoder_of(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The encoder whose weights, the first layer of the network, have these names and shapes."""
    prefix = "layers.0."
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    with torch.device("meta"):
        fitting = (name for name, shape in ENCODERS.items() if _shapes(make_encoder(shape, 3, nn.BatchNorm2d)) == own)
        return next(fitting, None)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _with_blur(
    architecture: Architecture, state: Mapping[str, Tensor], origin: Origin, path: Path, told: bool
) -> Architecture:
    """The architecture that answers as the file's own network did. Raises ModelError where none does."""
    if origin.answers is None:
        return replace(architecture, blur=told)
    image, theirs = origin.answers
    apart = {}
    for blur in (False, True):
        network: Network = build(classes=theirs.shape[1], **asdict(replace(architecture, blur=blur)))
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        with torch.inference_mode():
            apart[blur] = float((network.eval()(image) - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
    best = min(apart, key=lambda blur: apart[blur])
    if not apart[best] <= AGREE:
        raise ModelError(
            f"{path}: the network has the weights of a DynamicUnet but answers otherwise (logits differ by "
            f"{apart[best]:.1%}): another activation or y_range cannot be converted"
        )
    return replace(architecture, blur=best)

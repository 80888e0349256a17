"""A checkpoint of segmentation_models_pytorch's ``Unet`` made into a model folder.

The file holds names and numbers; what they mean (classes, normalisation, bands, resolution, terms) is written in a
small TOML beside it. Whoever trained the network wraps it: IGN's FLAIR-INC has ``model.seg_model.`` before each name,
torchgeo's ``SemanticSegmentationTask`` has ``model.``, geoai saves the network itself. Loading is strict: a name too
many or too few is an error, for a checkpoint that is loaded leniently under a wrong prefix loads nothing, silently.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aerialseg._version import __version__
from aerialseg.errors import ModelError, UsageError
from aerialseg.legend import LandClass, Legend
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.encoders import ENCODERS
from aerialseg.model.networks import build
from aerialseg.model.smp_unet import SmpUNet
from aerialseg.model.store import save
from aerialseg.progress import Progress, Silent, counted
from aerialseg.toml import build as build_table
from aerialseg.toml import naming_file, read_toml

DROPPED = "criterion"
"""Part of the names of what belongs to the loss, such as its class weights, and not to the network."""
_HEAD = SmpUNet.classifier
_STEM = "encoder.conv1.weight"


@dataclass(frozen=True, slots=True)
class ClassAbout:
    """One output of the network. colour: "#rrggbb". predicted: false for a class that is switched off."""

    name: str
    colour: str
    predicted: bool = True

    def __post_init__(self) -> None:
        digits = self.colour.removeprefix("#")
        if len(digits) != 6 or not set(digits.lower()) <= set("0123456789abcdef"):
            raise UsageError(f"the colour of {self.name!r} is {self.colour!r}: wanted #rrggbb")

    def entry(self, number: int) -> LandClass:
        red, green, blue = bytes.fromhex(self.colour.removeprefix("#"))
        return LandClass(number, self.name, (red, green, blue))


@dataclass(frozen=True, slots=True)
class CheckpointAbout:
    """What a checkpoint does not say of itself.

    gsd_m: metres per pixel of the imagery that it was trained on. classes: in the order of the network's outputs. mean,
    std: per band, of values 0 to 255. bands: their names, in the network's order. prefix: of the network's names in the
    file; found, unless given.
    """

    name: str
    gsd_m: float
    classes: tuple[ClassAbout, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[str, ...] = ("red", "green", "blue")
    licence: str = ""
    description: str = ""
    lineage: tuple[str, ...] = ()
    prefix: str | None = None

    @classmethod
    def read(cls, path: str | Path) -> CheckpointAbout:
        """What a TOML file says. Raises InputError, UsageError that name the file and the key."""
        values = read_toml(path, "description of a checkpoint")
        with naming_file(path):
            return build_table(cls, values)


def convert_smp(
    weights: Mapping[str, Tensor],
    out: str | Path,
    about: CheckpointAbout,
    *,
    origin: str,
    progress: Progress | None = None,
) -> ModelCard:
    """The card of the model folder ``out``, made of the weights in a checkpoint.

    origin: the file's name, for the card. Raises ModelError where they are not those of a ``Unet`` known here, or do
    not fit what is said about them; OutputError.
    """
    state = strip_names(weights, about.prefix, origin, progress or Silent())
    architecture = find_smp_architecture(state, origin)
    outputs, bands = len(state[_HEAD]), state[_STEM].shape[1]
    if outputs != len(about.classes):
        raise ModelError(f"{origin}: the network has {outputs} classes, the description {len(about.classes)}")
    if bands != len(about.bands):
        raise ModelError(f"{origin}: the network takes {counted(bands, 'band')}, the description {len(about.bands)}")
    card = ModelCard(
        name=about.name,
        legend=Legend(tuple(entry.entry(number) for number, entry in enumerate(about.classes))),
        gsd_m=about.gsd_m,
        bands=about.bands,
        mean=tuple(value / 255 for value in about.mean),
        std=tuple(value / 255 for value in about.std),
        architecture=architecture,
        halo=0,  # save() finds it by the probe
        void=tuple(number for number, entry in enumerate(about.classes) if not entry.predicted),
        description=about.description,
        licence=about.licence,
        lineage=(*about.lineage, f"Converted from {origin}"),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        code_version=__version__,
    )
    return save(out, card, state, torch.float32)


def holds_smp(weights: Mapping[str, Tensor]) -> bool:
    """Whether names are those of one of smp's networks, under whatever prefix."""
    return any(name.endswith(_HEAD) for name in weights)


def strip_names(
    weights: Mapping[str, Tensor], prefix: str | None, origin: str, progress: Progress
) -> dict[str, Tensor]:
    """The network's weights under the package's names; what belongs to the loss is dropped. Raises ModelError."""
    network, lost = {}, []
    kept = {name: tensor for name, tensor in weights.items() if DROPPED not in name.split(".")}
    prefix = _found_prefix(kept, origin) if prefix is None else prefix
    for name, tensor in kept.items():
        if name.startswith(prefix):
            network[name.removeprefix(prefix)] = tensor
        else:
            lost.append(name)
    if lost or _HEAD not in network:
        first = lost[0] if lost else next(iter(kept), "none")
        raise ModelError(f"{origin}: {counted(len(lost), 'name')} do not begin with {prefix!r} (first {first!r})")
    if dropped := sorted(set(weights) - set(kept)):
        progress.note(f"not part of the network, left out: {', '.join(dropped)}")
    return network


def _found_prefix(weights: Mapping[str, Tensor], origin: str) -> str:
    found = [name.removesuffix(_HEAD) for name in weights if name.endswith(_HEAD)]
    if len(found) != 1:
        raise ModelError(
            f"{origin}: {counted(len(found), 'name')} end with {_HEAD!r}: wanted one network, a Unet of "
            "segmentation_models_pytorch; of several, say with prefix = in the description which"
        )
    return found[0]


def find_smp_architecture(state: Mapping[str, Tensor], origin: str) -> Architecture:
    """The network with weights of exactly these names and shapes. Raises ModelError, with how the nearest differs."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    lacking: dict[str, list[str]] = {}
    classes, bands = shapes[_HEAD][0], shapes[_STEM][1] if len(shapes.get(_STEM, ())) == 4 else 3
    for encoder in ENCODERS:
        for norm in ("batch", "none"):
            wanted = _shapes_of(encoder, norm, classes, bands)
            if shapes == wanted:
                return Architecture(encoder=encoder, decoder="smp-unet", norm=norm)
            lacks = [name for name, shape in wanted.items() if shapes.get(name) != shape]
            lacking[encoder] = min(lacking.get(encoder, lacks), lacks, key=len)
    nearest, lost = min(lacking.items(), key=lambda item: len(item[1]))
    first = f" (first {lost[0]!r})" if lost else ""
    raise ModelError(
        f"{origin}: {len(shapes)} weights that fit no network known here; of the nearest, {nearest}, "
        f"{len(lost)} tensors missing{first}: wanted smp's Unet with five blocks (256, 128, 64, 32, 16), "
        f"without attention, over one of {', '.join(name for name in ENCODERS if '-' not in name)}"
    )


@functools.cache
def _shapes_of(encoder: str, norm: str, classes: int, bands: int) -> Mapping[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build(encoder, classes, bands=bands, decoder="smp-unet", norm=norm)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

"""A training run as data: what configs/training/*.toml says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, UsageError

ENCODER_STARTS = ("deepen", "pretrained", "scratch")
DECODER_NORMS = ("none", "batch", "weight", "spectral", "instance")


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Where the pairs lie, relative to the data folder, and what they mean.

    images, masks: folders of files with the same stems. Masks hold class indices (mode L or P) or colours of the
    legend (RGB). legend, split: CSV files beside the configuration. void: class ids that are neither learned nor
    scored. watch: held-out frames looked at after each epoch, 0 for all. prepared: (rows, columns) at which frames are
    kept on disk. size: (rows, columns) of a frame at the resolution of the finished model, whose pixels are ``gsd_m``
    metres on the ground.
    """

    legend: Path
    split: Path
    size: tuple[int, int]
    gsd_m: float
    images: str = "original_images"
    masks: str = "label_images_semantic"
    prepared: tuple[int, int] | None = None
    void: tuple[int, ...] = ()
    watch: int = 0


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder and how it starts.

    start: "deepen" (from the weights of the shallower ResNet with the same blocks), "pretrained" (weights of this very
    network, torchvision's names) or "scratch". calibrate: frames from which BatchNorm is estimated again, 0 for none.
    """

    arch: str = "resnet34"
    start: str = "pretrained"
    calibrate: int = 64
    lineage: str = ""


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """What fastai's unet_learner may vary in the decoder.

    blur: average after each upsampling. norm: its NormType; weight and spectral norm are folded when the model is
    written. With self_attention or instance norm the model cannot be tiled exactly, and its card says so.
    """

    blur: bool = False
    self_attention: bool = False
    norm: str = "none"


@dataclass(frozen=True, slots=True)
class Augment:
    """zoom: range of the scale; turn: flips and quarter turns; lighting: of brightness, contrast, saturation."""

    zoom: tuple[float, float] = (0.8, 1.5)
    turn: bool = True
    lighting: float = 0.2


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of progressive resizing: frames of ``size`` (rows, columns), of which ``crop`` is seen at a time."""

    size: tuple[int, int]
    epochs: int
    batch: int
    lr: float
    crop: tuple[int, int] | None = None
    encoder_lr: float = 0.2


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that decides a training run but the imagery itself.

    balance: a class weighs (1 / its share of pixels) ** balance in the loss; 0 weighs all alike.
    """

    name: str
    data: DataConfig
    steps: tuple[Step, ...]
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    augment: Augment = field(default_factory=Augment)
    seed: int = 2026
    weight_decay: float = 0.01
    precision: str = "auto"
    balance: float = 0.0
    description: str = ""
    licence: str = ""
    lineage: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError(f"training {self.name!r} has no [[steps]]: give at least one")
        if self.encoder.start not in ENCODER_STARTS:
            raise UsageError(f"encoder.start is {self.encoder.start!r}; wanted one of {', '.join(ENCODER_STARTS)}")
        if self.decoder.norm not in DECODER_NORMS:
            raise UsageError(f"decoder.norm is {self.decoder.norm!r}; wanted one of {', '.join(DECODER_NORMS)}")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise UsageError(f"precision is {self.precision!r}; wanted auto, fp32 or bf16")

    @classmethod
    def read(cls, path: str | Path) -> TrainingConfig:
        """The configuration of a TOML file; paths in it are relative to it. Raises InputError, UsageError."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"cannot read the training configuration {path}: {error}") from error
        return cls.from_dict(values, path.parent)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> TrainingConfig:
        """The configuration of a dict as TOML gives it; an unknown key is an error that names it."""
        values = dict(values)
        data = dict(_table(values, "data"))
        for name in ("legend", "split"):
            if name in data:
                data[name] = folder / data[name]
        values["data"] = _build(DataConfig, data, "data.")
        values["encoder"] = _build(EncoderConfig, _table(values, "encoder"), "encoder.")
        values["decoder"] = _build(DecoderConfig, _table(values, "decoder"), "decoder.")
        values["augment"] = _build(Augment, _table(values, "augment"), "augment.")
        steps = values.get("steps", [])
        values["steps"] = tuple(_build(Step, step, f"steps[{i}].") for i, step in enumerate(steps))
        built: TrainingConfig = _build(cls, values, "")
        return built


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name, {})
    if not isinstance(table, Mapping):
        raise UsageError(f"{name} is {table!r} in the training configuration; wanted a table, [{name}]")
    return table


def _build(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    known = {entry.name for entry in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"the training configuration has an unknown key {where}{unknown[0]}; known: {sorted(known)}")
    needed = {e.name for e in fields(kind) if e.default is MISSING and e.default_factory is MISSING}
    missing = sorted(needed - set(values))
    if missing:
        raise UsageError(f"the training configuration lacks {where}{missing[0]}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

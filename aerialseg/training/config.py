"""A training run as data: what configs/training/*.toml says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from aerialseg.datasets.layout import DataConfig, placed
from aerialseg.errors import UsageError
from aerialseg.model.card import Architecture
from aerialseg.raster.bands import RGB
from aerialseg.toml import build, naming_file, read_toml

ENCODER_STARTS = ("deepen", "pretrained", "model", "scratch")
FIND = "find"
"""In place of a number: search for it."""
DECODER_KINDS = ("unet", "light-unet", "smp-unet", "pyramid")
DECODER_NORMS = ("none", "batch")
STRIDES = (1, 2, 4, 8, 16)
"""What a step may train down to, in pixels between cells."""


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """The encoder and how it starts.

    start: "deepen" (from the weights of the shallower ResNet with the same blocks), "pretrained" (weights of this very
    network, torchvision's names), "model" (encoder and decoder of a model of this project, as far as they fit: the one
    given as weights, else the one inside) or "scratch". calibrate: frames from which BatchNorm is estimated again, 0
    for none. v1: bottlenecks stride in their first convolution; for a pyramid alone.
    """

    REMOVED: ClassVar[Mapping[str, str]] = {"model": "give the model's folder with --encoder-weights"}

    arch: str = "resnet34"
    start: str = "pretrained"
    calibrate: int = 64
    v1: bool = False


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """What stands on the encoder.

    kind: "unet", fastai's decoder; "light-unet", the same with narrow fine blocks, a third of its work; "smp-unet",
    that of segmentation_models_pytorch's ``Unet``, a quarter of its work; or "pyramid", which makes a teacher
    (``aerialseg.training.distillation``) instead of a model. norm: after each convolution of fastai's decoder, "none"
    or "batch"; the light ones always have BatchNorm.
    """

    REMOVED: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("blur", "self_attention"),
        "leave it out; a model that was trained with it elsewhere is read by 'aerialseg model convert'",
    )

    kind: str = "unet"
    norm: str = "none"


@dataclass(frozen=True, slots=True)
class FollowConfig:
    """How closely a teacher is followed (``aerialseg.training.distillation``).

    weight: of the distance between the teacher's classes and the network's, beside the loss; 0 follows none.
    temperature: by which the logits of both are divided before. hints: weight of the distance between the teacher's
    features and what a convolution reads of them from the network's, in steps with a stride. blend: share of the
    batches, in steps with a stride, whose crops are blended with one another; what they show the teacher alone says.
    looks: how often each batch is looked at, by several teachers in turn and by each at least once; but for the first
    look, which gives the features, at the crops in a random one of their eight flips and turns. only_blends: batches
    that are not blended learn from masks alone, in half of the time.
    """

    weight: float = 0.0
    temperature: float = 2.0
    hints: float = 0.0
    blend: float = 0.0
    looks: int = 1
    only_blends: bool = False

    def __post_init__(self) -> None:
        if self.weight < 0 or self.hints < 0 or self.temperature <= 0:
            raise UsageError(f"[follow] is {self}; wanted weights of 0 or more and a temperature above 0")
        if not 0 <= self.blend <= (1 if self.wanted else 0):
            raise UsageError(f"follow.blend is {self.blend}; wanted 0 to 1, and a teacher")
        if self.only_blends and not self.blend:
            raise UsageError("follow.only_blends is true and follow.blend is 0: no batch would follow the teacher")
        if self.looks < 1:
            raise UsageError(f"follow.looks is {self.looks}; wanted 1 or more")

    @property
    def wanted(self) -> bool:
        """Whether a teacher is needed."""
        return self.weight > 0 or self.hints > 0


@dataclass(frozen=True, slots=True)
class Augment:
    """What is varied at random.

    zoom: range of the scale, drawn evenly in its logarithm. turn: flips and quarter turns. lighting: of brightness,
    contrast, saturation; hue: of the hue, in turns of the colour wheel. balanced: share of the crops that are centred
    on a class of their frame, drawn evenly from those that it has.
    """

    zoom: tuple[float, float] = (0.8, 1.5)
    turn: bool = True
    lighting: float = 0.2
    hue: float = 0.0
    balanced: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of progressive resizing: frames of ``size`` (rows, columns), of which ``crop`` is seen at a time.

    batch: crops between two updates of the weights; those that do not fit into memory at once are accumulated. lr: the
    highest learning rate of the one-cycle. Both may be "find". zoom, balanced: this step's instead of the
    augmentation's. stride: how far down the decoder is trained, in pixels of the frame between its cells; 1 is the
    whole network, 8 leaves its costly last layers to a later step (``aerialseg.training.growing``). keep_norms:
    BatchNorm goes by the statistics that it has, not by those of each batch, and counts no more. frozen: the encoder,
    and what else a light U-Net has from the model that it starts from, keeps its weights and statistics while the rest
    learns, as in fastai's ``fine_tune``. average: the step starts from the mean of the weights that so many steps
    before it, all of one stride, ended with.
    """

    REMOVED: ClassVar[Mapping[str, str]] = {
        "encoder_lr": "leave it out; the encoder's first layers always get a fifth of lr",
        "patience": "leave it out and say with epochs how long the step is",
    }

    size: tuple[int, int]
    epochs: int
    batch: int | str
    lr: float | str
    crop: tuple[int, int] | None = None
    zoom: tuple[float, float] | None = None
    balanced: float | None = None
    stride: int = 1
    keep_norms: bool = False
    frozen: bool = False
    average: int = 1

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("lr", self.lr)):
            if value != FIND and (isinstance(value, str) or value <= 0):
                raise UsageError(f"a step's {name} is {value!r}; wanted a number above 0, or {FIND!r}")
        if self.epochs < 1:
            raise UsageError(f"a step has {self.epochs} epochs; wanted at least 1")
        if self.stride not in STRIDES:
            raise UsageError(f"a step's stride is {self.stride!r}; wanted one of {', '.join(map(str, STRIDES))}")

    @property
    def seen(self) -> tuple[int, int]:
        """(rows, columns) of what goes through the network at once."""
        return self.crop or self.size

    def augmented(self, augment: Augment) -> Augment:
        """The augmentation as this step has it."""
        balanced = augment.balanced if self.balanced is None else self.balanced
        return replace(augment, zoom=self.zoom or augment.zoom, balanced=balanced)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that decides a training run but the imagery itself.

    balance: a class weighs (1 / its share of pixels) ** balance in the loss, which is cross-entropy; 0 weighs all
    alike. average: the model gets the mean of the weights that so many last steps ended with. search_steps: updates of
    a search for the learning rate. max_batch: the most that a search for the batch goes up to.
    """

    REMOVED: ClassVar[Mapping[str, str]] = {
        "loss": "leave it out; the loss is always cross-entropy, in which balance weighs rare classes up",
        "keep": "leave it out; a step always ends with its last epoch, and average takes the mean of several ends",
        "monitor": "leave it out; nothing is chosen by the frames that are watched",
    }

    name: str
    data: DataConfig
    steps: tuple[Step, ...]
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    augment: Augment = field(default_factory=Augment)
    follow: FollowConfig = field(default_factory=FollowConfig)
    seed: int = 2026
    weight_decay: float = 0.01
    precision: str = "auto"
    balance: float = 0.0
    average: int = 1
    search_steps: int = 60
    max_batch: int = 32
    description: str = ""
    licence: str = ""
    lineage: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError(f"training {self.name!r} has no [[steps]]: give at least one")
        strided = self.average > 1 and any(step.stride != 1 for step in self.steps[-self.average :])
        if not 1 <= self.average <= len(self.steps) or strided:
            raise UsageError(
                f"average is {self.average}; wanted a number of last steps that all train the whole network"
            )
        for number, step in enumerate(self.steps):
            before = self.steps[max(0, number - step.average) : number]
            if step.average != 1 and (len(before) != step.average or len({other.stride for other in before}) != 1):
                raise UsageError(
                    f"step {number} starts from the mean of {step.average} steps; wanted a number of previous steps, "
                    "all of one stride"
                )
        for name, value, wanted in (
            ("encoder.start", self.encoder.start, ENCODER_STARTS),
            ("decoder.kind", self.decoder.kind, DECODER_KINDS),
            ("decoder.norm", self.decoder.norm, DECODER_NORMS),
            ("precision", self.precision, ("auto", "fp32", "bf16")),
        ):
            if value not in wanted:
                raise UsageError(f"{name} is {value!r}; wanted one of {', '.join(wanted)}")
        if self.data.bands != RGB and (self.teaches or self.follow.wanted):
            raise UsageError(
                f"data.bands is {', '.join(self.data.bands)}; a teacher and its student use red, green, blue"
            )
        if self.teaches:
            self._check_teaching()
        strided = any(step.stride != 1 for step in self.steps)
        if self.decoder.kind == "smp-unet" and (strided or self.follow.hints):
            raise UsageError("decoder.kind is 'smp-unet', which has no strides: leave out stride and follow.hints")

    def _check_teaching(self) -> None:
        strided = any(step.stride != 1 for step in self.steps)
        if strided or self.follow.wanted or self.encoder.start == "model":
            raise UsageError(
                "decoder.kind is 'pyramid', which has no finer layers to leave out, follows no teacher and starts from "
                "weights of an encoder: leave out stride, [follow] and encoder.start = 'model'"
            )

    @property
    def teaches(self) -> bool:
        """Whether what is trained is a teacher and not a model."""
        return self.decoder.kind == "pyramid"

    @property
    def architecture(self) -> Architecture:
        """The network that is trained, as a card names it."""
        if self.decoder.kind in ("light-unet", "smp-unet"):
            return Architecture(encoder=self.encoder.arch, decoder=self.decoder.kind, norm="batch")
        return Architecture(encoder=self.encoder.arch, norm=self.decoder.norm)

    def to_json(self) -> dict[str, Any]:
        """What a card keeps: all of it, paths by their names alone."""
        values = asdict(self)
        values["data"] |= {name: values["data"][name].name for name in ("legend", "split")}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    @classmethod
    def of(cls, given: str | Path | Mapping[str, Any] | TrainingConfig) -> TrainingConfig:
        """The configuration that is given: itself, a dict as TOML gives it, or a TOML file.

        Paths are relative to that file, those of a dict to the current directory. Raises InputError, UsageError.
        """
        if isinstance(given, TrainingConfig):
            return given
        if isinstance(given, Mapping):
            return cls.from_dict(given, Path())._whole()
        values = read_toml(given, "training configuration")
        with naming_file(given):
            return cls.from_dict(values, Path(given).parent)._whole()

    @classmethod
    def read(cls, path: str | Path) -> TrainingConfig:
        """The configuration of a TOML file; paths in it are relative to it. Raises InputError, UsageError."""
        return cls.of(path)

    def _whole(self) -> TrainingConfig:
        if self.steps[-1].stride != 1:  # an experiment's may: it compares, and makes no maps
            raise UsageError("the last step has a stride: remove it, for the last step trains the whole network")
        return self

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> TrainingConfig:
        """The configuration of a dict as TOML gives it; an unknown key is an error that names it."""
        return build(cls, {**values, "data": placed(values.get("data", {}), folder)})

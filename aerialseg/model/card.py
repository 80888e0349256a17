"""The model card: the only place where normalisation, band order and classes are written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.files import parse_json, printable
from aerialseg.legend import NODATA, Legend
from aerialseg.toml import convert

FORMAT = 1
"""Version of the card's layout; a newer one than this code knows is refused."""

Tiling = Literal["exact", "approximate"]
"""exact: a tile equals the whole image. approximate: a smaller halo, or a network that looks at everything at once."""

TILINGS: tuple[Tiling, ...] = ("exact", "approximate")

APPROXIMATE_HALO = 256
"""Pixels around a tile whose answer is an approximation, unless told (docs/exactness.md has what it costs)."""

MAX_HALO = 1 << 16
"""Pixels: no memory holds windows of a network that looks farther."""

INT8_LOSS = 0.002
"""Of the mean IoU: what int8 may cost and still be the default."""

INT8_STEPS = 255
"""Between the ends of a range; kernels have as many values, one of them zero."""

MIN_STD = 1e-4
"""Of values scaled to 0..1: a hundredth of a grey level. What is divided by less is beyond what 32 bits hold."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is needed to rebuild the network.

    encoder, decoder: names of encoders.py and networks.py; a card without a decoder means fastai's DynamicUnet.
    norm: of the decoder's convolutions ("none", "batch", "instance", "group"); encoder_norm: of the encoder's.
    With self_attention, or with instance or group norm, no tile can equal the whole image.
    """

    encoder: str = "resnet34"
    decoder: str = "fastai-dynamic-unet"
    blur: bool = False
    self_attention: bool = False
    norm: str = "none"
    encoder_norm: str = "batch"

    @property
    def local(self) -> bool:
        """Whether no layer depends on the whole image at once."""
        return not self.self_attention and {self.norm, self.encoder_norm} <= {"none", "batch"}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything about a model but its weights; scores, lineage, licence and training are for people.

    bands: names in the order that the network takes them. mean, std: per band, of values scaled to 0..1.
    scale: source values that became 0 and 255, of all bands or of each in turn; empty where the imagery was 8 bit.
    gsd_m: metres per pixel at which the network was trained. stride, halo: pixels; windows start at multiples of
    ``stride`` and reach ``halo`` beyond the core. exact: whether a tile with that halo equals the whole image.
    void: ids that are never predicted. quantization: what int8 needs ("ranges", "not_int8") and costs ("mean_iou").
    temperature: divides logits before they become the confidence. weights_sha256, network_sha256: of the two files.
    groups: of each class of the network, that of the legend which it is part of, or -1; none: the legend's own.
    answer_step_px: the network answers on every so many pixels, and a pixel between gets what lies around it.
    """

    name: str
    legend: Legend
    gsd_m: float
    bands: tuple[str, ...] = ("red", "green", "blue")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    scale: tuple[float, ...] = ()
    architecture: Architecture = field(default_factory=Architecture)
    stride: int = 32
    halo: int = 608
    exact: bool = True
    void: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()
    answer_step_px: int = 1
    weights_sha256: str = ""
    network_sha256: str = ""
    quantization: Mapping[str, Any] = field(default_factory=dict)
    temperature: float = 1.0
    description: str = ""
    licence: str = ""
    lineage: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    code_version: str = ""

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise ModelError(f"model card {self.name!r}: {problems[0]}")

    @property
    def map_legend(self) -> Legend:
        """The classes that it predicts, as maps name and colour them."""
        return self.legend.on_maps(self.void)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """(low, high) of the input of each int8 convolution; empty where the model was not quantized."""
        return _int8_ranges(self.quantization)

    @property
    def int8_is_as_good(self) -> bool:
        """Whether int8 was measured to lose no more than INT8_LOSS of the mean IoU."""
        scores = {"fp32": 1.0, "int8": 0.0} | self.quantization.get("mean_iou", {})
        return bool(self.ranges) and scores["fp32"] - scores["int8"] <= INT8_LOSS

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` is its inverse."""
        names = (name for name in self.__dataclass_fields__ if name not in ("legend", "architecture"))
        values = {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}
        return {"format": FORMAT, **values, "architecture": asdict(self.architecture), "legend": self.legend.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelCard:
        """The card of a dict as ``to_json`` gives it. Raises ModelError that names what is wrong."""
        if values.get("format") != FORMAT or values["format"] is True:
            raise ModelError(f"model card has format {values.get('format')!r}; this aerialseg reads {FORMAT}")
        try:
            return cls(**_typed(values))
        except (InputError, UsageError) as error:
            raise ModelError(f"model card: {error}") from error

    def write(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        try:
            values = parse_json(path, "model card")
        except InputError as error:
            raise ModelError(str(error)) from error
        if not isinstance(values, dict):
            raise ModelError(f"model card {path} is not a JSON object")
        try:
            return cls.from_json(values)
        except ModelError as error:
            raise ModelError(f"{printable(path)}: {error}") from error

    def tiled(self, tiling: Tiling = "exact", halo_px: int | None = None, inexact: Sequence[str] = ()) -> ModelCard:
        """The card as a run uses it: this one for "exact", one with a halo of its own for "approximate".

        halo_px: pixels around a tile, rounded up to the stride; by default the card's where it is not exact, otherwise
        APPROXIMATE_HALO where that is less. inexact: the layers that keep the network from being exact, to name them.
        Raises ModelError where it cannot be exact, UsageError where tiling and halo contradict each other.
        """
        if tiling == "exact":
            if halo_px is not None:
                why = "exact tiles, whose halo is the network's: leave it out, or tile approximately"
                raise UsageError(f"a halo of {halo_px} px with {why}")
            if not self.exact:
                raise ModelError(_why_inexact(self, inexact))
            return self
        usual = min(self.halo, APPROXIMATE_HALO) if self.exact else self.halo
        halo_px = usual if halo_px is None else halo_px
        if halo_px < 0:
            raise UsageError(f"a halo of {halo_px} px: wanted 0 or more")
        return replace(self, exact=False, halo=-(-halo_px // self.stride) * self.stride)

    @property
    def tiling(self) -> str:
        """How its tiles relate to the whole image, in words for people and provenance."""
        return "exact" if self.exact else f"approximate, halo {self.halo} px"

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result: the same digest means the same labels and the same confidence."""
        return hashlib.sha256(json.dumps(_decisive(self), sort_keys=True).encode()).hexdigest()


def _int8_ranges(quantization: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    other = quantization.get("not_int8", ())
    ranges = quantization.get("ranges", {}).items()
    return {name: (float(low), float(high)) for name, (low, high) in ranges if name not in other}


def split_tiling(tiling: str) -> tuple[Tiling, int | None]:
    """The kind of tiling, and the pixels around a tile: of "approximate:64" ("approximate", 64). Raises UsageError."""
    kind, colon, halo = tiling.partition(":")
    if kind not in TILINGS or (colon and not halo.isdecimal()):
        raise UsageError(f"tiling is {tiling!r}: wanted exact, approximate or approximate:PX")
    return kind, int(halo) if halo else None


def _decisive(card: ModelCard) -> dict[str, Any]:
    """What labels and confidence depend on; how maps name and colour the classes is not among it."""
    legend = Legend(tuple(replace(entry, title="", map_color=None) for entry in card.legend))
    values = replace(card, legend=legend).to_json()
    decisive = {name: values[name] for name in _DECISIVE} | ({"ranges": card.ranges} if card.ranges else {})
    decisive |= {name: getattr(card, name) for name in ("scale", "groups") if getattr(card, name)}
    return decisive | ({"temperature": card.temperature} if card.temperature != 1.0 else {})


def _why_inexact(card: ModelCard, inexact: Sequence[str]) -> str:
    why = f"its layer {inexact[0]} depends on the whole image at once" if inexact else "so its card says"
    return (
        f"the model {card.name!r} cannot be tiled exactly ({why}): use --tiling approximate, whose seams "
        "'aerialseg seams' measures, or another model"
    )


def _typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The card's fields, each of its type. Raises UsageError that names the one that is not, InputError."""
    hints = get_type_hints(ModelCard)
    needed = [name for name in ("name", "legend", "gsd_m") if name not in values]
    if needed:
        raise UsageError(f"it lacks {needed[0]!r}")
    found: dict[str, Any] = {"legend": Legend.from_json(convert(values["legend"], list, "legend"))}
    for name in (name for name in hints if name in values and name not in found):
        value = convert(values[name], list, name) if get_origin(hints[name]) is tuple else values[name]
        found[name] = convert(value, hints[name], name)
    for path, hint in _INNER.items():
        field_name, *keys = path.split(".")
        value = found.get(field_name, {})
        for key in keys[:-1]:
            value = value.get(key, {})
        if keys[-1] in value:
            convert(value[keys[-1]], hint, path)
    return found


def _problems(card: ModelCard) -> list[str]:
    bands = len(card.bands)
    finite = all(math.isfinite(v) for v in (*card.mean, *card.std))
    outside = [class_id for class_id in card.void if class_id not in card.legend]
    checks = [
        (not 2 <= len(card.legend) <= NODATA, f"has {len(card.legend)} classes; wanted 2 to {NODATA}"),
        ([c.id for c in card.legend] != list(range(len(card.legend))), "class ids must be 0, 1, 2 ..."),
        (not (card.gsd_m > 0 and math.isfinite(card.gsd_m)), f"ground sampling distance {card.gsd_m} m"),
        (len(card.mean) != bands or len(card.std) != bands, f"mean and std need {bands} values, one a band"),
        (len(card.scale) not in (0, 2, 2 * bands), f"scale has {len(card.scale)} values; wanted 2, or 2 a band"),
        (not all(map(math.isfinite, card.scale)) or _flat(card.scale), "scale needs different finite values"),
        (not finite or min(card.std, default=0) < MIN_STD, f"mean must be finite, and std at least {MIN_STD}"),
        (
            card.stride < 1 or card.halo < 0 or card.halo % card.stride or card.halo > MAX_HALO,
            f"halo {card.halo}, stride {card.stride}",
        ),
        (bool(card.groups) and {*card.groups} - {-1} != {c.id for c in card.legend}, "groups that are not the legend"),
        (bool(outside), f"void classes {outside} are not in the legend"),
        (len(card.void) >= len(card.legend) > 0, "every class is void"),
        (not 1 <= card.answer_step_px <= card.stride, f"answer_step_px {card.answer_step_px}; wanted 1 to its stride"),
        (not (card.temperature > 0 and math.isfinite(card.temperature)), f"temperature {card.temperature}"),
        (any(not low <= 0 < high < math.inf for low, high in card.ranges.values()), "an int8 range without zero"),
    ]
    return [problem for failed, problem in checks if failed]


def _flat(scale: Sequence[float]) -> bool:
    return any(low == high for low, high in zip(scale[::2], scale[1::2], strict=False))


_INNER = {
    "quantization.ranges": dict[str, tuple[float, float]],
    "quantization.not_int8": tuple[str, ...],
    "quantization.mean_iou": dict[str, float],
    "scores.calibration": dict,
    "scores.calibration.ece_before": float,
    "scores.calibration.ece_after_cross_fitted": float,
    "scores.held_out": dict,
    "scores.held_out.per_class": dict[str, dict[str, Any]],
    "training.frame_size": tuple[int, int],
}
"""What is read from fields that are free otherwise, outer keys first."""

_DECISIVE = ("bands", "mean", "std", "gsd_m", "architecture", "stride", "halo", "void", "weights_sha256", "legend")

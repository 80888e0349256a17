"""The model card: the only place where normalisation, band order and classes are written."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aerialseg.errors import AerialsegError, ModelError
from aerialseg.legend import Legend

FORMAT = 1
"""Version of the card's layout; a newer one than this code knows is refused."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What is needed to rebuild the network: fastai's DynamicUnet over a ResNet encoder."""

    encoder: str = "resnet34"
    decoder: str = "fastai-dynamic-unet"
    blur: bool = False


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Everything about a model but its weights.

    bands: names in the order that the network takes them. mean, std: per band, of values scaled to 0..1.
    gsd_m: ground sampling distance in metres per pixel at which the network was trained.
    stride, halo: pixels; windows start at multiples of ``stride`` and reach ``halo`` beyond the core.
    exact: whether a tile with that halo equals the whole image. void: class ids that are never predicted.
    weights_sha256: of the weights file. training, scores, lineage, licence: free text or JSON for people.
    """

    name: str
    legend: Legend
    gsd_m: float
    bands: tuple[str, ...] = ("red", "green", "blue")
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    architecture: Architecture = field(default_factory=Architecture)
    stride: int = 32
    halo: int = 608
    exact: bool = True
    void: tuple[int, ...] = ()
    weights_sha256: str = ""
    description: str = ""
    licence: str = ""
    lineage: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    created: str = ""
    code_version: str = ""

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ModelError(f"model card {self.name!r}: {problem}")

    def _problems(self) -> list[str]:
        bands = len(self.bands)
        finite = all(math.isfinite(v) for v in (*self.mean, *self.std))
        outside = [class_id for class_id in self.void if class_id not in self.legend]
        checks = [
            (not all(isinstance(text, str) for text in (self.name, self.weights_sha256)), "name and hash must be text"),
            (len(self.legend) < 2, f"has {len(self.legend)} classes; wanted 2 or more"),
            ([c.id for c in self.legend] != list(range(len(self.legend))), "class ids must be 0, 1, 2 ..."),
            (not (self.gsd_m > 0 and math.isfinite(self.gsd_m)), f"ground sampling distance {self.gsd_m} m"),
            (len(self.mean) != bands or len(self.std) != bands, f"mean and std need {bands} values, one a band"),
            (not finite or min(self.std, default=0) <= 0, "mean must be finite and std positive"),
            (self.stride < 1 or self.halo < 0 or self.halo % self.stride, f"halo {self.halo}, stride {self.stride}"),
            (bool(outside), f"void classes {outside} are not in the legend"),
            (len(self.void) >= len(self.legend) > 0, "every class is void"),
        ]
        return [problem for failed, problem in checks if failed]

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dict; ``from_json`` is its inverse."""
        values = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("legend", "architecture")
        }
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return {"format": FORMAT, **values, "architecture": asdict(self.architecture), "legend": self.legend.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelCard:
        """The card of a dict as ``to_json`` gives it. Raises ModelError that names what is wrong."""
        if values.get("format") != FORMAT:
            raise ModelError(f"model card has format {values.get('format')!r}; this aerialseg reads {FORMAT}")
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        known = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
        try:
            known["legend"] = Legend.from_json(values["legend"])
            known["architecture"] = Architecture(**values.get("architecture", {}))
            return cls(**known)
        except AerialsegError as error:
            raise ModelError(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"model card is incomplete or malformed: {type(error).__name__}: {error}") from error

    def write(self, path: str | Path) -> None:
        Path(path).write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> ModelCard:
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ModelError(f"cannot read the model card {path}: {error}") from error
        if not isinstance(values, dict):
            raise ModelError(f"model card {path} is not a JSON object")
        return cls.from_json(values)

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result: the same digest means the same labels."""
        decisive = {name: self.to_json()[name] for name in _DECISIVE}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


_DECISIVE = ("bands", "mean", "std", "gsd_m", "architecture", "stride", "halo", "void", "weights_sha256", "legend")

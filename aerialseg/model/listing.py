"""Which models there are, and what their cards say in few words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError, ModelError
from aerialseg.model.card import ModelCard
from aerialseg.model.catalogue import Offer, read_catalogue
from aerialseg.model.folders import CARD, WEIGHTS, added, embedded

SHOWN = {"mean_iou": "mean IoU", "pixel_accuracy": "accuracy", "mean_dice": "mean Dice"}
"""Scores that a person looks at first, by their name in a card."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model folder. ref: what to give as MODEL. card: None where it cannot be used, for the reason in ``problem``."""

    ref: str
    folder: Path
    card: ModelCard | None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Everything a script asks first; the card itself is ``aerialseg model show --json``."""
        if self.card is None:
            return {"ref": self.ref, "folder": str(self.folder), "problem": self.problem}
        return {
            "ref": self.ref,
            "folder": str(self.folder),
            "name": self.card.name,
            "gsd_m": self.card.gsd_m,
            "classes": len(self.card.legend),
            "exact": self.card.exact,
            "scores": scores_of(self.card),
            "licence": self.card.licence,
            "digest": self.card.digest,
        }


def find_models(below: str | Path | None = None) -> list[ModelEntry]:
    """The embedded models, those added, then those in and below a folder, by path.

    Raises InputError where there is no such folder.
    """
    found = [_listed(name, folder) for name, folder in (embedded() | added()).items()]
    if below is None:
        return found
    below = Path(below)
    if not below.is_dir():
        raise InputError(f"there is no folder {below}: give one that holds model folders")
    return found + [_listed(str(card.parent), card.parent) for card in sorted(below.rglob(CARD))]


def offers() -> dict[str, Offer]:
    """The models of the catalogue that are not on this computer yet."""
    return {name: offer for name, offer in read_catalogue().items() if name not in added()}


def describe_offer(name: str, offer: Offer) -> dict[str, Any]:
    """JSON-ready, beside those of `ModelEntry.to_json`."""
    return {
        "ref": name,
        "problem": f"not on this computer yet: aerialseg model add {name}",
        "purpose": offer.purpose,
        "gsd_m": offer.gsd_m,
        "bands": list(offer.bands),
        "classes": len(offer.classes) - len(offer.void),
        "licence": offer.licence_text,
        "page": offer.page,
        "size": offer.size,
        "sha256": offer.sha256,
    }


def _listed(ref: str, folder: Path) -> ModelEntry:
    if not (folder / WEIGHTS).is_file():
        return ModelEntry(ref, folder, None, f"there is no {WEIGHTS} beside its card")
    try:
        return ModelEntry(ref, folder, ModelCard.read(folder / CARD))
    except ModelError as error:
        return ModelEntry(ref, folder, None, str(error))


def scores_of(card: ModelCard) -> dict[str, float]:
    """The card's first set of scores that has any of SHOWN; empty where it was never scored."""
    for _, values in _sets(card.scores):
        return {name: float(values[name]) for name in SHOWN if isinstance(values.get(name), (int, float))}
    return {}


def score_sets(card: ModelCard) -> dict[str, Mapping[str, Any]]:
    """Every set of scores in the card by its name, such as "held_out"."""
    return dict(_sets(card.scores))


def _sets(scores: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    inner = [(name, values) for name, values in scores.items() if isinstance(values, Mapping)]
    return [(name, values) for name, values in [*inner, ("scores", scores)] if any(key in values for key in SHOWN)]

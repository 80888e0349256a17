"""What a model owes to those that it was made from: their names, and their licences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aerialseg.model.card import ModelCard

_STRICT = (
    re.compile(r"non-?\s?commercial|\bnc\b|research (use )?only|academic", re.IGNORECASE),
    re.compile(r"states no licence"),
    re.compile(r"share-?\s?alike|\bsa\b|gpl|copyleft", re.IGNORECASE),
)
"""What makes a licence strict, the strictest first."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A model that another one was made from."""

    name: str
    licence: str = ""
    lineage: tuple[str, ...] = ()
    sha256: str = ""

    @classmethod
    def of(cls, card: ModelCard) -> Parent:
        return cls(card.name, card.licence, card.lineage, card.weights_sha256)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Parent:
        """The inverse of dataclasses.asdict."""
        return cls(**{**values, "lineage": tuple(values.get("lineage", ()))})


def derived_from(card: ModelCard, parents: Sequence[Parent], how: str) -> ModelCard:
    """The card with its parents in its lineage, after their own, and with the licences of all, the strictest first.

    how: what was done with them, such as "Trained on from the model".
    """
    lines = [line for parent in parents for line in (*parent.lineage, _named(parent, how))]
    lineage = dict.fromkeys([*lines, *card.lineage])
    return replace(card, lineage=tuple(lineage), licence=_licence(card.licence, parents))


def _named(parent: Parent, how: str) -> str:
    return f"{how} {parent.name!r}" + (f" (weights SHA-256 {parent.sha256[:16]})" if parent.sha256 else "")


def _licence(own: str, parents: Sequence[Parent]) -> str:
    unsaid = "The model {!r}, which this one was made from, states no licence."
    theirs = [one.licence or unsaid.format(one.name) for one in parents]
    found = [text.strip() for text in dict.fromkeys([own, *theirs]) if text.strip()]
    found = [text for text in found if not any(text != other and text in other for other in found)]
    found.sort(key=_strictness)
    if len(found) < 2:
        return "".join(found)
    return "All of these hold: " + " ".join(f"({number}) {text}" for number, text in enumerate(found, start=1))


def _strictness(text: str) -> int:
    return next((rank for rank, sign in enumerate(_STRICT) if sign.search(text)), len(_STRICT))

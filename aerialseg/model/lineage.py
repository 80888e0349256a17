"""What a model owes to those that it was made from: their licences hold for it as well, and its card names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aerialseg.model.card import ModelCard

_DIGITS = 12


def inherit(card: ModelCard, parents: Sequence[ModelCard]) -> ModelCard:
    """The card of a model whose weights come from those of ``parents``: licence and lineage are theirs and its own.

    Every licence holds, so the strictest one does: each is kept word for word, the parents' first.
    """
    licences = dict.fromkeys(text.strip() for text in (*(one.licence for one in parents), card.licence))
    lines = [line for parent in parents for line in (*parent.lineage, described(parent))]
    return replace(
        card,
        licence="; ".join(text for text in licences if text),
        lineage=tuple(dict.fromkeys([*lines, *card.lineage])),
    )


def described(parent: ModelCard) -> str:
    """A line of a child's lineage."""
    licence = parent.licence or "none stated"
    return f"Parent: {parent.name} (weights {parent.weights_sha256[:_DIGITS]}), licence: {licence}"

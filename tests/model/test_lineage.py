"""A model's card names those that it was made from, and carries the strictest licence."""

from __future__ import annotations

from dataclasses import replace

from aerialseg.model.lineage import Parent, derived_from
from aerialseg.model.store import load_card
from tests.fakes import CARD

OPEN, STRICT = "CC BY 4.0, name the city.", "Weights: non-commercial use only; cite it."


def test_a_child_without_a_licence_of_its_own_has_its_parents() -> None:
    parent = load_card(None)
    child = derived_from(CARD, [Parent.of(parent)], "Trained on from the model")
    assert child.licence == parent.licence
    assert child.lineage == (
        *parent.lineage,
        f"Trained on from the model 'drone-landcover' (weights SHA-256 {parent.weights_sha256[:16]})",
    )


def test_all_licences_hold_and_the_strictest_comes_first() -> None:
    parents = [Parent("open", OPEN), Parent("strict", STRICT), Parent("unsaid")]
    child = derived_from(replace(CARD, licence="MIT"), parents, "Taught by")
    assert child.licence == (
        f"All of these hold: (1) {STRICT} (2) The model 'unsaid', which this one was made from, states no licence. "
        f"(3) MIT (4) {OPEN}"
    )


def test_a_grandchild_says_no_licence_and_no_line_twice() -> None:
    child = derived_from(replace(CARD, name="child"), [Parent("first", STRICT, ("Frames of X",))], "Trained on from")
    grandchild = derived_from(replace(CARD, licence=STRICT), [Parent.of(child)], "Trained on from")
    assert grandchild.licence == STRICT
    assert grandchild.lineage[:2] == ("Frames of X", "Trained on from 'first'")
    assert len(grandchild.lineage) == 3


def test_without_parents_a_card_stays_as_it_is() -> None:
    assert derived_from(CARD, [], "Trained on from") == CARD

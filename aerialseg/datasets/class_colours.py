"""Colours for classes that have none: told apart by colour-blind readers, and what one expects where that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aerialseg.legend import LandClass, Legend

Rgb = tuple[int, int, int]

PALETTE: dict[str, Rgb] = {
    "orange": (230, 159, 0),
    "sky": (86, 180, 233),
    "green": (0, 158, 115),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "vermilion": (213, 94, 0),
    "purple": (204, 121, 167),
    "grey": (120, 120, 120),
    "wine": (136, 34, 85),
    "indigo": (51, 34, 136),
    "teal": (68, 170, 153),
    "olive": (153, 153, 51),
    "sand": (221, 204, 119),
    "rose": (204, 102, 119),
    "black": (40, 40, 40),
    "pale": (221, 221, 221),
}
"""The first eight are Okabe and Ito's (2008, "Color universal design"), grey for their black; others are Paul Tol's."""

_USUAL = {
    "blue": ("water", "river", "lake", "sea", "pond"),
    "sky": ("pool",),
    "green": ("tree", "forest", "wood", "vegetation"),
    "yellow": ("grass", "lawn", "meadow"),
    "vermilion": ("roof", "building", "house"),
    "grey": ("road", "paved", "asphalt", "street", "sealed", "parking"),
    "purple": ("car", "vehicle"),
    "orange": ("soil", "bare", "dirt", "sand", "land"),
}
"""Words in a class's name that have a usual colour."""


def pick_colours(names: Iterable[str], given: Mapping[str, Rgb]) -> Legend:
    """The classes with ids 0, 1, 2 ... in that order, in the colours given; others get one that is free."""
    chosen = dict(given)
    wanting = [name for name in names if name not in chosen]
    for name in wanting:
        usual = next((colour for colour, words in _USUAL.items() if any(word in name.lower() for word in words)), "")
        if usual and PALETTE[usual] not in chosen.values():
            chosen[name] = PALETTE[usual]
    for number, name in enumerate(wanting):
        if name not in chosen:
            chosen[name] = _free(number, set(chosen.values()))
    return Legend(tuple(LandClass(number, name, chosen[name]) for number, name in enumerate(names)))


def _free(number: int, taken: set[Rgb]) -> Rgb:
    for colour in PALETTE.values():
        if colour not in taken:
            return colour
    from aerialseg.raster.palette import own_color

    return own_color(number)

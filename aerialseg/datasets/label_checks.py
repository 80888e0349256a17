"""What is wrong with labels, found before anything is computed."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterator

import numpy as np
import shapely

from aerialseg.datasets.drawn_labels import DrawnLabels
from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.legend import Legend
from aerialseg.progress import counted

ALIKE = 0.84
"""Names at least so similar (Ratcliff and Obershelp) may be one, misspelt."""
SAME = 0.9
"""Polygons that share so much of their joint area are one polygon, labelled twice."""
WORTH_SAYING = 0.05
"""Of a polygon's area, under polygons of another class."""
ENOUGH = 10
"""Labels of a class with which the head beat filters in trials; of fewer it is said."""
_SHOWN = 3


def check_labels(labels: DrawnLabels, *, added: bool = False) -> list[str]:
    """What should be said of the labels. Raises InputError for what cannot be meant: one class alone, a class written
    in two ways, one polygon of two classes. added: to others, so that they may be few and of one class."""
    counts = labels.counts
    if len(counts) < 2 and not added:
        raise InputError(
            f"all labels of {printable(labels.path)} are of the class {next(iter(counts))!r}; wanted two classes at "
            f"least: label what is not of it as well (is {labels.field!r} the right field? --field says another)"
        )
    for one, other in itertools.combinations(sorted(counts), 2):
        if _plain(one) == _plain(other):
            raise InputError(
                f"{printable(labels.path)}: {one!r} ({counted(counts[one], 'label')}) and {other!r} "
                f"({counted(counts[other], 'label')}) are one class written in two ways: correct the field "
                f"{labels.field!r}"
            )
    return [*_misspelt(labels), *_overlaps(labels), *(() if added else _few(labels))]


def check_known(labels: DrawnLabels, legend: Legend) -> None:
    """Raise InputError where a class is not in the legend of the model that goes on learning."""
    for name, count in sorted(labels.counts.items()):
        if legend.find(name) is None:
            near = difflib.get_close_matches(name, [one for c in legend for one in (c.name, c.title)], 1, 0.6)
            meant = f" (is it {near[0]!r}?)" if near else ""
            raise InputError(
                f"{printable(labels.path)}: {counted(count, 'label')} of the class {name!r}, which the model does not "
                f"know{meant}; it knows: {legend.spoken}. A new class needs a new model: teach without --more"
            )


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _misspelt(labels: DrawnLabels) -> Iterator[str]:
    counts = labels.counts
    for one, other in itertools.combinations(sorted(counts), 2):
        if difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= ALIKE:
            rare, usual = sorted((one, other), key=lambda name: (counts[name], name))
            yield (
                f"{rare!r} ({counted(counts[rare], 'label')}) and {usual!r} ({counts[usual]}) are two classes: if one "
                f"is misspelt, interrupt, correct the field {labels.field!r} and begin again"
            )


def _overlaps(labels: DrawnLabels) -> Iterator[str]:
    """Polygons of two classes on the same ground. Raises InputError where one polygon has two classes."""
    geometries, names = shapely.make_valid(labels.geometries), np.array(labels.names)
    first, second = shapely.STRtree(geometries).query(geometries, predicate="intersects")
    pairs = (first < second) & (names[first] != names[second])
    first, second = first[pairs], second[pairs]
    shared = shapely.area(shapely.intersection(geometries[first], geometries[second]))
    areas = shapely.area(geometries)
    for a, b, both in zip(first, second, shared, strict=True):
        if both and both >= SAME * (areas[a] + areas[b] - both):
            raise InputError(
                f"{printable(labels.path)}: features {labels.fids[a]} ({names[a]}) and {labels.fids[b]} ({names[b]}) "
                "cover the same ground: delete one of them, or give points and lines a smaller --width"
            )
    much = [
        f"{labels.fids[a]} {names[a]} under {labels.fids[b]} {names[b]}"
        for a, b, both in zip(first, second, shared, strict=True)
        if both > WORTH_SAYING * min(areas[a], areas[b]) > 0
    ]
    if much:
        more = f" and {len(much) - _SHOWN} more" if len(much) > _SHOWN else ""
        yield f"overlapping labels, of which the later one counts: {'; '.join(much[:_SHOWN])}{more}"


def _few(labels: DrawnLabels) -> Iterator[str]:
    few = [f"{name} ({count})" for name, count in sorted(labels.counts.items()) if count < ENOUGH]
    if few:
        yield f"few labels of {', '.join(few)}: {ENOUGH} or more, in different places, teach a class better"

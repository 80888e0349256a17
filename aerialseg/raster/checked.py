"""Polygons that a person has checked: those of a layer whose field ``checked`` is true, with their classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.legend import NODATA, Legend
from aerialseg.raster.class_fields import ID, NAME
from aerialseg.raster.features import FeatureFile, field_names, open_features
from aerialseg.raster.labels import Known

CHECKED = "checked"
CLASS_FIELDS = (ID, NAME, "class")
"""Fields that may say the class."""
_YES = ("true", "t", "yes", "y", "1", "1.0")


def open_checked(path: Path, layer: str | None, legend: Legend) -> tuple[FeatureFile, NDArray[np.int16]]:
    """The layer, and beside its ``fids`` the class id of each feature that is checked, ``NODATA`` for the others.

    Raises InputError: the file cannot be used, no feature is checked, or one has no class of the legend or two.
    """
    fields = field_names(path, layer)
    told = [name for name in CLASS_FIELDS if name in fields]
    if CHECKED not in fields or not told:
        lacks = CHECKED if CHECKED not in fields else " or ".join(CLASS_FIELDS)
        raise InputError(f"{printable(path)} has no field {lacks}: wanted a layer 'landcover', or one with both")
    file = open_features(path, CHECKED, layer)
    checked = np.array([_is_true(value) for value in file.values])
    if not checked.any():
        raise InputError(f"no feature of {printable(path)} has {CHECKED} = true: tick those that are right")
    known = Known(legend)
    values = {name: open_features(path, name, layer).values for name in told}
    if {ID, NAME} <= set(told) and not _same_legend(values, known):
        del values[ID]  # numbers of another model's classes: names tell
    classes = np.full(len(checked), NODATA, np.int16)
    for name, cells in values.items():
        for at in np.flatnonzero(checked & ~_missing(cells)):
            found = _class_of(cells[at], known, f"{printable(path)}: {name} of the checked feature {file.fids[at]}")
            if classes[at] not in (NODATA, found):
                both = f"{legend[int(classes[at])].spoken} by {told[0]}, {legend[found].spoken} by {name}"
                raise InputError(f"{printable(path)}: the checked feature {file.fids[at]} is {both}: make them one")
            classes[at] = found
    for at in file.fids[checked & (classes == NODATA)]:
        raise InputError(f"{printable(path)}: the checked feature {at} has no {' or '.join(told)}: give it one")
    return file, classes


def _same_legend(values: Mapping[str, NDArray[Any]], known: Known) -> bool:
    """Whether most features have the number that their class has here."""
    agree = [known.of(one) == known.of(name) for one, name in zip(values[ID], values[NAME], strict=True)]
    return 2 * sum(agree) >= len(agree)


def _missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.array([value is None or value != value or value == "" for value in values], np.bool_)


def _is_true(value: Any) -> bool:
    return str(value).strip().lower() in _YES


def _class_of(value: Any, known: Known, where: str) -> int:
    found = known.of(value)
    if found is None:
        raise InputError(f"{where} is {str(value)[:100]!r}, which the model does not know; it knows: {known.text}")
    return found

"""The two fields of our layers that say the class, which an edit in one of them alone makes contradict each other."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.features import field_names, open_features

ID, NAME = "class_id", "class_name"


def check_class_fields(path: str | Path, field: str, layer: str | None) -> None:
    """Raise InputError where ``field`` is one of the two, and a feature has another pair of them than the rest have.

    QGIS draws by the number while people read the name: whichever was not edited would be believed.
    """
    if field not in (ID, NAME) or not {ID, NAME} <= set(field_names(path, layer)):
        return
    file = open_features(path, ID, layer)
    pairs = list(zip(map(_text, file.values), map(_text, open_features(path, NAME, layer).values), strict=True))
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one, name in pairs:
        names[one][name] += 1
    usual = {one: counts.most_common(1)[0][0] for one, counts in names.items()}
    wrong = [at for at, (one, name) in enumerate(pairs) if one and name and name != usual[one]]
    if wrong:
        one, name = pairs[wrong[0]]
        raise InputError(
            f"{printable(path)}: {ID} and {NAME} contradict each other in {len(wrong):,} of {len(pairs):,} features, "
            f"such as {file.fids[wrong[0]]}: {one} is {usual[one]!r} elsewhere and {name!r} there; make both say the "
            "class"
        )


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    whole = isinstance(value, (float, np.floating)) and value == int(value)
    return str(int(value) if whole else value).strip()

"""Labels as people draw them: polygons, lines and points with a class, made into polygons of a legend."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from aerialseg.datasets.class_colours import pick_colours
from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.legend import Legend
from aerialseg.progress import counted
from aerialseg.raster.bounds import check_comparable, same_crs
from aerialseg.raster.drawn import DrawnLayer, read_drawn
from aerialseg.raster.georef import Bounds
from aerialseg.vector.style_colours import Rgb, read_style

CLASS_FIELDS = ("class", "class_name", "classname", "label", "landcover", "land_cover", "name", "type", "category")
"""Fields that may say the class where nobody says which does, the first that is there."""
CHECKED = "checked"
_MAP_FIELDS = {"class_id", "class_name", "confidence"}
"""What a layer has that segment-raster made: it is no labels before a person has checked some of it."""
_YES = ("true", "t", "yes", "y", "1", "1.0")
_PIECES = 64
"""Lines are straight in their own CRS: a part of the labels' extent in which they are moved to another one."""


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLabels:
    """Polygons and the names of their classes, side by side; ``crs`` as in the file, ``names`` as the features have
    them. Where polygons overlap, the last one counts. ``left_out``: features that were not checked; ``unnamed``:
    those without a class."""

    path: Path
    crs: str | None
    geometries: NDArray[np.object_]
    names: tuple[str, ...]
    fids: NDArray[np.int64]
    colours: Mapping[str, Rgb]
    field: str
    left_out: int = 0
    unnamed: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Features of each class."""
        return Counter(self.names)

    def legend(self) -> Legend:
        """The classes in the order of their names, in the colours of the layer's style or, without one, in ours."""
        return pick_colours(sorted(self.counts), self.colours)

    def brought(self, crs: str | None, unit_per_m: float, width_m: float) -> DrawnLabels:
        """The same in another CRS, of which ``unit_per_m`` units make a metre; points and lines get a width.

        Raises InputError where one of the coordinate systems is not known.
        """
        check_comparable(self.path, self.crs, "the orthophoto", crs)
        moved = self.geometries if same_crs(self.crs, crs) else _moved(self.geometries, self.crs, crs)
        thin = shapely.get_dimensions(moved) < 2
        moved = moved.copy()
        moved[thin] = shapely.buffer(moved[thin], width_m / 2 * unit_per_m, quad_segs=4)
        moved = shapely.make_valid(moved)
        return replace(self, crs=crs, geometries=moved)

    def within(self, bounds: Bounds) -> DrawnLabels:
        """Those that meet a box in their CRS."""
        meets = shapely.intersects(shapely.box(*bounds), self.geometries)
        names = tuple(name for name, met in zip(self.names, meets, strict=True) if met)
        return replace(self, geometries=self.geometries[meets], names=names, fids=self.fids[meets])

    @property
    def thin(self) -> int:
        """How many features are points or lines."""
        return int((shapely.get_dimensions(self.geometries) < 2).sum())


def read_labels(path: str | Path, *, field: str | None = None, layer: str | None = None) -> DrawnLabels:
    """The labels of a vector file: features whose ``field`` (found, unless given) names a class.

    Where the layer has a field ``checked``, only features that have it true count; a map of segment-raster must have
    some. Raises InputError.
    """
    drawn = read_drawn(path, layer)
    field = field or find_field(drawn)
    if field not in drawn.fields:
        raise InputError(f"{printable(drawn.path)} has no field {field!r}; give --field: {', '.join(drawn.fields)}")
    checked = _checked(drawn)
    style = read_style(drawn.path, drawn.layer)
    names = class_names(drawn, field, checked)
    use = checked & np.array([bool(name) for name in names], np.bool_)
    if not use.any():
        raise InputError(f"no feature of {printable(drawn.path)} has a class in its field {field!r}: fill it in")
    return DrawnLabels(
        path=drawn.path,
        crs=drawn.crs,
        geometries=drawn.geometries[use],
        names=tuple(name for name, used in zip(names, use, strict=True) if used),
        fids=drawn.fids[use],
        colours=_colours(drawn, names, style.attribute, style.colours),
        field=field,
        left_out=int((~checked).sum()),
        unnamed=int((checked & ~use).sum()),
    )


def find_field(drawn: DrawnLayer) -> str:
    """The field that says the class: one of the usual names, else the only one of text. Raises InputError."""
    by_lower = {name.lower(): name for name in drawn.fields}
    for name in CLASS_FIELDS:
        if name in by_lower:
            return by_lower[name]
    texts = [name for name, values in drawn.fields.items() if any(isinstance(value, str) for value in values[:200])]
    if len(texts) == 1:
        return texts[0]
    if not drawn.fields:
        raise InputError(f"{printable(drawn.path)} has no fields: add one, 'class', that says what each feature is")
    raise InputError(
        f"{printable(drawn.path)} has no field 'class'; give --field, the one that names the class: "
        f"{', '.join(drawn.fields)}"
    )


def _checked(drawn: DrawnLayer) -> NDArray[np.bool_]:
    """Which features count. Raises InputError where a map was given of which nobody has checked anything."""
    name = next((name for name in drawn.fields if name.lower() == CHECKED), None)
    if name is None:
        if drawn.fields.keys() >= _MAP_FIELDS:
            raise InputError(
                f"{printable(drawn.path)} is a map that segment-raster made, without a field {CHECKED!r}: map again, "
                f"correct polygons in QGIS and set {CHECKED!r} to true for those that are right"
            )
        return np.ones(len(drawn.fids), np.bool_)
    ticked = np.array([str(value).strip().lower() in _YES for value in drawn.fields[name]], np.bool_)
    if not ticked.any():
        raise InputError(
            f"no feature of {printable(drawn.path)} has {CHECKED} = true: tick those whose class is right, or remove "
            "that field if all of them are labels"
        )
    return ticked


def class_names(drawn: DrawnLayer, field: str, checked: NDArray[np.bool_]) -> list[str]:
    """The class of each feature as text, "" where there is none. Raises InputError where class_id contradicts it."""
    names = [_text(value) for value in drawn.fields[field]]
    if field.lower() == "class_name" and "class_id" in drawn.fields:
        ids = [_text(value) for value in drawn.fields["class_id"]]
        usual = {number: _most(names, ids, number) for number in set(ids) if number}
        for row in np.flatnonzero(checked):
            said = usual.get(ids[row], "")
            if said and names[row] and said != names[row]:
                raise InputError(
                    f"{printable(drawn.path)}: the checked feature {drawn.fids[row]} is {said} by class_id, "
                    f"{names[row]} by class_name: make them one"
                )
    return names


def _most(names: Iterable[str], ids: Iterable[str], number: str) -> str:
    found = Counter(name for name, one in zip(names, ids, strict=True) if one == number and name)
    return found.most_common(1)[0][0] if found else ""


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return " ".join(str(value).split())


def _colours(drawn: DrawnLayer, names: Iterable[str], attribute: str, colours: Mapping[str, Rgb]) -> dict[str, Rgb]:
    """Class -> colour, by what most of its features have in the style."""
    values = drawn.fields.get(attribute)
    if values is None:
        return {}
    votes: dict[str, Counter[Rgb]] = {}
    for name, value in zip(names, values, strict=True):
        colour = colours.get(_text(value))
        if name and colour is not None:
            votes.setdefault(name, Counter())[colour] += 1
    return {name: found.most_common(1)[0][0] for name, found in votes.items()}


def _moved(geometries: NDArray[np.object_], crs: str | None, target: str | None) -> NDArray[np.object_]:
    left, bottom, right, top = shapely.total_bounds(geometries)
    side = max(right - left, top - bottom)
    lines = shapely.segmentize(geometries, side / _PIECES) if side > 0 else geometries
    change = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    moved: NDArray[np.object_] = shapely.transform(
        lines, lambda xy: np.stack(change.transform(xy[:, 0], xy[:, 1]), axis=1)
    )
    if not all(math.isfinite(value) for value in shapely.total_bounds(moved)):
        raise InputError(
            "the labels extend beyond the valid area of the orthophoto's coordinate system: clip them to the orthophoto"
        )
    return moved


def spoken_counts(labels: DrawnLabels) -> str:
    """``57 labels of 5 classes: water (4), tree (12) ...``, the commonest last."""
    found = sorted(labels.counts.items(), key=lambda pair: (pair[1], pair[0]))
    names = ", ".join(f"{name} ({count})" for name, count in found)
    return f"{counted(len(labels.names), 'label')} of {counted(len(found), 'class')}: {names}"

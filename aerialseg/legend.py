"""Classes of a land-cover map: id, name, colour; read from and written to CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError

MAX_ID = 65535
"""Class ids are 0 to this one."""

NO_CLASS = -1
"""THE sentinel for "no class" among class ids, of which any may occur in a raster from elsewhere (int32 arrays)."""

NODATA = 255
"""The same in bytes, which hold no -1: our own rasters, masks and models. No class of a model has it as its id."""


@dataclass(frozen=True, slots=True)
class LandClass:
    """One class: ``id`` (0..65535; of a model 0..254), ``name``, ``color`` (red, green, blue; 0..255 each).

    Raises InputError where a value is out of range.
    """

    id: int
    name: str
    color: tuple[int, int, int]

    def __post_init__(self) -> None:
        if not 0 <= self.id <= MAX_ID:
            raise InputError(f"class id {self.id} of {self.name!r}: ids are 0 to {MAX_ID}")
        if not self.name:
            raise InputError(f"class {self.id} has no name: give it one")
        if len(self.color) != 3 or not all(0 <= value <= 255 for value in self.color):
            raise InputError(f"colour {self.color} of {self.name!r}: wanted three values, 0 to 255")

    @property
    def hex(self) -> str:
        """Colour as ``#rrggbb``."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


@dataclass(frozen=True, slots=True)
class Legend:
    """Classes in the order of their ids. Raises InputError where an id or a name is there twice."""

    classes: tuple[LandClass, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(sorted(self.classes, key=lambda entry: entry.id)))
        for what, counts in (("id", Counter(c.id for c in self)), ("name", Counter(c.name for c in self))):
            doubles = [value for value, count in counts.items() if count > 1]
            if doubles:
                raise InputError(f"legend has {what} {doubles[0]!r} twice: each class needs its own")

    def __iter__(self) -> Iterator[LandClass]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def __contains__(self, class_id: object) -> bool:
        return any(entry.id == class_id for entry in self)

    def __getitem__(self, class_id: int) -> LandClass:
        for entry in self:
            if entry.id == class_id:
                return entry
        raise KeyError(f"no class {class_id} in the legend (ids: {[c.id for c in self]})")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(entry.name for entry in self)

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Class id to (red, green, blue, alpha), as rasterio takes it."""
        return {entry.id: (*entry.color, 255) for entry in self}

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready; ``from_json`` is its inverse."""
        return [{"id": c.id, "name": c.name, "color": list(c.color)} for c in self]

    @classmethod
    def from_json(cls, entries: Iterable[Mapping[str, Any]]) -> Legend:
        """The legend of entries as ``to_json`` gives them."""
        return cls(tuple(LandClass(int(e["id"]), str(e["name"]), _rgb(e["color"])) for e in entries))

    def to_csv(self, path: str | Path) -> None:
        """Write ``id,name,r,g,b``, one line a class."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "name", "r", "g", "b"])
            writer.writerows([c.id, c.name, *c.color] for c in self)

    @classmethod
    def from_csv(cls, path: str | Path) -> Legend:
        """The legend of a CSV file with the columns ``name, r, g, b`` and optionally ``id``.

        Without an ``id`` column, ids count from 0 in the order of the lines, as in the Semantic Drone Dataset's
        ``class_dict_seg.csv``. Blanks around names and values are dropped. Raises InputError.
        """
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the legend {path}: {error}") from error
        rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
        header = [cell.lower() for cell in rows[0]] if rows else []
        missing = {"name", "r", "g", "b"} - set(header)
        if missing:
            raise InputError(f"legend {path} lacks the column {sorted(missing)[0]!r}: wanted name,r,g,b (and id)")
        return cls(
            tuple(_parse(path, number, dict(zip(header, row, strict=False))) for number, row in enumerate(rows[1:]))
        )


def _parse(path: str | Path, number: int, row: dict[str, str]) -> LandClass:
    try:
        color = (int(row["r"]), int(row["g"]), int(row["b"]))
        return LandClass(int(row.get("id") or number), row["name"], color)
    except (KeyError, ValueError) as error:
        raise InputError(f"legend {path}, line {number + 2}: {row}: {error}") from error


def _rgb(values: Iterable[int]) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue

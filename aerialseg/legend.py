"""Classes of a land-cover map: id, name, colour; read from and written to CSV."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerialseg.errors import InputError
from aerialseg.files import read_table
from aerialseg.toml import convert

MAX_ID = 65535
"""Class ids are 0 to this one."""

NO_CLASS = -1
"""THE sentinel for "no class" among class ids, of which any may occur in a raster from elsewhere (int32 arrays)."""

NODATA = 255
"""The same in bytes, which hold no -1: our own rasters, masks and models. No class of a model has it as its id."""

_MAP_COLUMNS = ("title", "map_color")

_NOT_IN_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no style (QML, SLD) can hold."""


Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class LandClass:
    """One class: ``id`` (0..65535; of a model 0..254), ``name``, ``color`` (red, green, blue; 0..255 each).

    ``title`` and ``map_color`` are what a map shows instead, if they are given: a plain name, and a colour made for an
    orthophoto, where name and colour are those of the data that a model was trained on. Raises InputError where a value
    is out of range.
    """

    id: int
    name: str
    color: Color
    title: str = ""
    map_color: Color | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.id <= MAX_ID:
            raise InputError(f"class id {self.id} of {self.name!r}: ids are 0 to {MAX_ID}")
        if not self.name:
            raise InputError(f"class {self.id} has no name: give it one")
        for name in (self.name, self.title):
            if _NOT_IN_XML.search(name):
                raise InputError(f"the name {name!r} of class {self.id} holds a control character: remove it")
        for color in (self.color, self.map_color):
            if color is not None and (len(color) != 3 or not all(0 <= value <= 255 for value in color)):
                raise InputError(f"colour {color} of {self.name!r}: wanted three values, 0 to 255")

    @property
    def hex(self) -> str:
        """Colour as ``#rrggbb``."""
        return _hex(self.color)

    @property
    def spoken(self) -> str:
        """What messages call it: its title, and in brackets the data set's name where that is another."""
        return f"{self.title} ({self.name})" if self.title not in ("", self.name) else self.name

    @property
    def on_maps(self) -> LandClass:
        """The class as a map shows it: under its title, in its map colour."""
        return LandClass(self.id, self.title or self.name, self.map_color or self.color)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; what is not given is left out."""
        more = {"title": self.title, "map_color": list(self.map_color or ())}
        values = {"id": self.id, "name": self.name, "color": list(self.color)}
        return values | {name: value for name, value in more.items() if value}


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

    @property
    def spoken(self) -> str:
        """The classes for messages."""
        return ", ".join(entry.spoken for entry in self)

    def find(self, name: str) -> LandClass | None:
        """The class of this name or title; a name counts before another class's title."""
        return next((c for key in ("name", "title") for c in self if name and getattr(c, key) == name), None)

    def on_maps(self, void: Container[int] = ()) -> Legend:
        """The legend of a map: titles as names, map colours, and no class that is ``void``."""
        return Legend(tuple(entry.on_maps for entry in self if entry.id not in void))

    def colormap(self) -> dict[int, tuple[int, int, int, int]]:
        """Class id to (red, green, blue, alpha), as rasterio takes it."""
        return {entry.id: (*entry.color, 255) for entry in self}

    def to_json(self) -> list[dict[str, Any]]:
        """JSON-ready; ``from_json`` is its inverse."""
        return [entry.to_json() for entry in self]

    @classmethod
    def from_json(cls, entries: Iterable[Mapping[str, Any]]) -> Legend:
        """The legend of entries as ``to_json`` gives them. Raises UsageError, InputError."""
        return cls(convert(entries, tuple[LandClass, ...], "legend"))

    def to_csv(self, path: str | Path) -> None:
        """Write ``id,name,r,g,b``, one line a class; and ``title,map_color``, if a class has one of them."""
        more = any(c.title or c.map_color for c in self)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "name", "r", "g", "b", *(_MAP_COLUMNS if more else ())])
            for c in self:
                on_map = [c.title, _hex(c.map_color) if c.map_color else ""]
                writer.writerow([c.id, c.name, *c.color, *(on_map if more else ())])

    @classmethod
    def from_csv(cls, path: str | Path) -> Legend:
        """The legend of a CSV file with the columns ``name, r, g, b`` and optionally ``id``, ``title``, ``map_color``.

        ``map_color`` is written ``#rrggbb``. Without an ``id`` column, ids count from 0 in the order of the lines, as
        in the Semantic Drone Dataset's ``class_dict_seg.csv``. Semicolons or tabs may separate them, Windows-1252 is
        understood, and blanks around names and values are dropped. Raises InputError.
        """
        rows = read_table(path, "legend", ("name", "r", "g", "b"), optional=("id", *_MAP_COLUMNS))
        classes = tuple(_parse(row, number, f"legend {path}, line {line}") for number, (line, row) in enumerate(rows))
        if not classes:
            raise InputError(f"legend {path} names no class: wanted a line for each below name, r, g, b")
        try:
            return cls(classes)
        except InputError as error:
            raise InputError(f"legend {path}: {error}") from error


def _parse(row: dict[str, str], number: int, where: str) -> LandClass:
    def whole(column: str) -> int:
        try:
            return int(row[column])
        except ValueError:
            raise InputError(f"{column} is {row[column]!r}: wanted a whole number") from None

    try:
        class_id = whole("id") if row.get("id") else number
        color = whole("r"), whole("g"), whole("b")
        return LandClass(class_id, row["name"], color, row.get("title", ""), _color_of(row.get("map_color", "")))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _hex(color: Color) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _color_of(text: str) -> Color | None:
    if not text:
        return None
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise InputError(f"map_color is {text!r}: wanted a colour such as #3d7c40")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)

"""Colours that a person has given to classes in QGIS: read from the layer's style."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

Rgb = tuple[int, int, int]
MAX_BYTES = 4 << 20
"""Of a style; longer ones are left alone."""


@dataclass(frozen=True, slots=True)
class StyleColours:
    """A style by categories. ``attribute``: the field that it goes by; ``colours``: of its values, as text."""

    attribute: str = ""
    colours: Mapping[str, Rgb] = field(default_factory=dict)


def read_style(path: Path, layer: str | None) -> StyleColours:
    """The default style that a GeoPackage holds for a layer, else the .qml beside the file; empty where there is none.

    A style that cannot be read is as none: colours are for the eye, and nothing depends on them.
    """
    for text in (_in_geopackage(path, layer), _beside(path)):
        if text and (found := parse_qml(text)).colours:
            return found
    return StyleColours()


def _in_geopackage(path: Path, layer: str | None) -> str:
    if path.suffix.lower() != ".gpkg" or layer is None:
        return ""
    ask = "SELECT styleQML FROM layer_styles WHERE f_table_name = ? ORDER BY useAsDefault DESC, id DESC LIMIT 1"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1)) as database:
        row = database.execute(ask, [layer]).fetchone()
        return str(row[0] or "") if row else ""
    return ""


def _beside(path: Path) -> str:
    place = path.with_suffix(".qml")
    with suppress(OSError):
        if place.is_file() and place.stat().st_size <= MAX_BYTES:
            return place.read_text(encoding="utf-8", errors="replace")
    return ""


def parse_qml(text: str) -> StyleColours:
    """What a QGIS style says where it goes by the categories of a field; empty where it does not."""
    if len(text) > MAX_BYTES or "<!ENTITY" in text:
        return StyleColours()
    try:
        root = Xml.fromstring(text)
    except Xml.ParseError:
        return StyleColours()
    renderer = root.find(".//renderer-v2[@type='categorizedSymbol']")
    if renderer is None:
        return StyleColours()
    symbols = {one.get("name", ""): _colour(one) for one in renderer.findall("./symbols/symbol")}
    colours: dict[str, Rgb] = {}
    for category in renderer.findall("./categories/category"):
        colour = symbols.get(category.get("symbol", ""))
        if colour is not None and category.get("value"):
            colours[category.get("value", "")] = colour
    return StyleColours(renderer.get("attr", "").strip('"'), colours)


def _colour(symbol: Xml.Element) -> Rgb | None:
    """The first colour of a symbol's layers: of a fill, a marker or a line, as old and new versions write it."""
    for layer in symbol.iter("layer"):
        said = {one.get("name", ""): one.get("value", "") for one in layer.iter("Option")}
        said |= {one.get("k", ""): one.get("v", "") for one in layer.iter("prop")}
        for name in ("color", "line_color"):
            with suppress(ValueError):
                red, green, blue = (int(part) for part in said.get(name, "").split(",")[:3])
                if max(red, green, blue) < 256 and min(red, green, blue) >= 0:
                    return red, green, blue
    return None

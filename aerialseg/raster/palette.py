"""What a class raster from anywhere says about its own classes: names and colours of its values."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

import rasterio.shutil
from rasterio.io import MemoryFile

from aerialseg.errors import InputError
from aerialseg.files import one_line, printable
from aerialseg.legend import MAX_ID, LandClass, Legend
from aerialseg.raster.classes import ClassFile
from aerialseg.raster.opening import GDAL_ERRORS, gdal_environment, without_georef_warnings

Color = tuple[int, int, int]

# GDALRATFieldType, GDALRATFieldUsage
_INTEGER, _STRING = 0, 2
_NAME, _MINIMUM, _VALUE, _RED, _GREEN, _BLUE = 2, 3, 5, 6, 7, 8

_GOLDEN = 0.618033988749895
"""Hues that step by the golden ratio stay apart from each other however many there are."""


@dataclass(frozen=True, slots=True)
class Palette:
    """Value -> name and value -> colour, as far as the raster says."""

    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[int, Color] = field(default_factory=dict)

    def legend(self, present: Iterable[int]) -> Legend:
        """A legend of the values that are ``present`` and those that have a name.

        A value without a name is called "class 7"; one without a colour gets its own. Where several values have one
        name, it is followed by the value.
        """
        ids = sorted({*map(int, present), *self.names})
        often = Counter(self.names.values())
        names = {one: self.names.get(one) or f"class {one}" for one in ids}
        names = {one: f"{name} ({one})" if often[name] > 1 else name for one, name in names.items()}
        taken = Counter(names.values())
        return Legend(
            tuple(
                LandClass(one, name if taken[name] == 1 else f"{name} [{one}]", self.colors.get(one) or own_color(one))
                for one, name in names.items()
            )
        )


def own_color(value: int) -> Color:
    """A colour for a class that has none: neighbouring values get hues far apart."""
    saturation, brightness = (0.55, 0.75, 0.4)[value % 3], (0.85, 0.65, 0.95)[value // 3 % 3]
    channels = colorsys.hsv_to_rgb(value * _GOLDEN % 1, saturation, brightness)
    red, green, blue = (round(255 * channel) for channel in channels)
    return red, green, blue


def read_palette(path: str | Path) -> Palette:
    """The palette of a class raster: raster attribute table, then category names and colour table for what it lacks.

    Wherever GDAL finds them: in the TIFF or in ``.aux.xml`` beside it. Raises InputError (no class raster).
    """
    with ClassFile(path) as file:
        try:
            with gdal_environment(), without_georef_warnings(), MemoryFile(ext=".vrt") as memory:
                rasterio.shutil.copy(file.dataset, memory.name, driver="VRT")
                band = Xml.fromstring(bytes(memory.getbuffer())).find("VRTRasterBand")
        except (*GDAL_ERRORS, Xml.ParseError) as error:
            raise InputError(f"the header of {printable(path)} cannot be read: {one_line(error)}") from error
    return Palette() if band is None else _palette(band)


def _palette(band: Xml.Element) -> Palette:
    names, colors = _table(band.find("GDALRasterAttributeTable"))
    for value, category in enumerate(band.findall("CategoryNames/Category")):
        if category.text and category.text.strip():
            names.setdefault(value, category.text.strip())
    for value, entry in enumerate(band.findall("ColorTable/Entry")):
        colors.setdefault(value, _color([entry.get(channel, "0") for channel in ("c1", "c2", "c3")]))
    nodata = band.findtext("NoDataValue", "")
    names.pop(int(float(nodata)) if _is_number(nodata) else -1, None)
    return Palette(names, colors)


def _table(table: Xml.Element | None) -> tuple[dict[int, str], dict[int, Color]]:
    """Names and colours of a raster attribute table: its columns are told by their usage, or by their names."""
    names: dict[int, str] = {}
    colors: dict[int, Color] = {}
    if table is None:
        return names, colors
    columns: dict[str | int, int] = {}
    for number, column in enumerate(table.findall("FieldDefn")):
        columns.setdefault(int(column.findtext("Usage", "0")), number)
        columns.setdefault(column.findtext("Name", "").strip().lower(), number)
    value_at = _first(columns, _VALUE, _MINIMUM, "value")
    name_at = _first(columns, _NAME, "class_name", "classname", "class", "name", "label", "category")
    rgb_at = [_first(columns, usage, name) for usage, name in ((_RED, "red"), (_GREEN, "green"), (_BLUE, "blue"))]
    for index, row in enumerate(table.findall("Row")):
        cells = [cell.text or "" for cell in row.findall("F")]
        text = str(index) if value_at is None else cells[value_at]
        if not _is_number(text) or not 0 <= float(text) <= MAX_ID:
            continue
        value = int(float(text))
        if name_at is not None and cells[name_at].strip():
            names[value] = cells[name_at].strip()
        levels = [cells[at] for at in rgb_at if at is not None]
        if len(levels) == 3 and all(map(_is_number, levels)):
            colors[value] = _color(levels)
    return names, colors


def _first(columns: Mapping[str | int, int], *keys: str | int) -> int | None:
    return next((columns[key] for key in keys if key in columns), None)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def _color(levels: list[str]) -> Color:
    """Red, green and blue as 0 to 255: some tables have them from 0 to 1."""
    values = [float(level) for level in levels]
    scale = 255 if max(values) <= 1 and any(value % 1 for value in values) else 1
    red, green, blue = (min(255, max(0, round(value * scale))) for value in values)
    return red, green, blue


_COLUMNS = (
    ("value", _INTEGER, _VALUE),
    ("name", _STRING, _NAME),
    ("r", _INTEGER, _RED),
    ("g", _INTEGER, _GREEN),
    ("b", _INTEGER, _BLUE),
)


def aux_xml(legend: Legend) -> bytes:
    """The text of the file: colours, names (QGIS 3.22 shows these), raster attribute table (later ones show that)."""
    root = Xml.Element("PAMDataset")
    band = Xml.SubElement(root, "PAMRasterBand", band="1")
    names = {entry.id: entry.name for entry in legend}
    band.append(color_table(legend, max(names, default=0)))
    categories = Xml.SubElement(band, "CategoryNames")
    for value in range(max(names, default=-1) + 1):
        Xml.SubElement(categories, "Category").text = names.get(value, "")
    band.append(_attribute_table(legend))
    Xml.indent(root)
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=False)) + b"\n"


def color_table(legend: Legend, last: int) -> Xml.Element:
    """Colours of the values 0 to ``last``, as PAM and VRT write them; values without a class are transparent."""
    table = Xml.Element("ColorTable")
    colors = legend.colormap()
    for value in range(last + 1):
        channels = colors.get(value, (0, 0, 0, 0))
        Xml.SubElement(table, "Entry", {f"c{index}": str(level) for index, level in enumerate(channels, 1)})
    return table


def _attribute_table(legend: Legend) -> Xml.Element:
    table = Xml.Element("GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = Xml.SubElement(table, "FieldDefn", index=str(index))
        for tag, value in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            Xml.SubElement(column, tag).text = value
    for index, entry in enumerate(legend):
        row = Xml.SubElement(table, "Row", index=str(index))
        for cell in (entry.id, entry.name, *entry.color):
            Xml.SubElement(row, "F").text = str(cell)
    return table

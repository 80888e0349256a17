"""The .aux.xml file beside a class raster: names and colours of its values, as GDAL and QGIS read them.

A TIFF's own colour table has 256 entries, and QGIS lists every one. The table here ends with the last class, and GDAL
prefers it.
"""

from __future__ import annotations

from xml.etree import ElementTree as Xml

from aerialseg.legend import Legend

# GDALRATFieldType, GDALRATFieldUsage
_INTEGER, _STRING = 0, 2
_GENERIC_NAME, _MIN_MAX, _RED, _GREEN, _BLUE = 2, 5, 6, 7, 8

_COLUMNS = (
    ("value", _INTEGER, _MIN_MAX),
    ("name", _STRING, _GENERIC_NAME),
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

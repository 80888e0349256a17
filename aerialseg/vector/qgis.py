"""Styles: the legend's names and colours as QGIS (QML) and others (SLD) read them."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aerialseg.legend import LandClass, Legend
from aerialseg.vector.fields import POLYGONS, LayerKind

OUTLINE_MM = 0.1
"""Outlines have the colour of the polygon: they close the hairline gaps of antialiasing and are not seen otherwise."""


def qml(legend: Legend, kind: LayerKind = POLYGONS, *, field: str = "class_id") -> str:
    """A QGIS style (written for 3.22, read by later ones): one category for each class, its name as label.

    It names the fields as well, for formats that have no place for that.
    """
    root = Element("qgis", version="3.22.0-Białowieża", styleCategories="Symbology|Fields")
    renderer = SubElement(
        root, "renderer-v2", type="categorizedSymbol", attr=field, symbollevels="0", enableorderby="0", forceraster="0"
    )
    categories = SubElement(renderer, "categories")
    symbols = SubElement(renderer, "symbols")
    for number, entry in enumerate(legend):
        SubElement(
            categories,
            "category",
            {"symbol": str(number), "value": str(entry.id), "type": "long", "label": entry.name, "render": "true"},
        )
        _symbol(symbols, str(number), entry)
    aliases = SubElement(root, "aliases")
    for index, column in enumerate(kind.fields):
        SubElement(aliases, "alias", {"index": str(index), "field": column.name, "name": column.alias})
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def _symbol(symbols: Element, name: str, entry: LandClass) -> None:
    symbol = SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    rgba = "{},{},{},255".format(*entry.color)
    properties = {
        "color": rgba,
        "style": "solid",
        "outline_color": rgba,
        "outline_style": "solid",
        "outline_width": str(OUTLINE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    options = SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        SubElement(options, "Option", name=key, type="QString", value=value)
    for key, value in properties.items():
        SubElement(layer, "prop", k=key, v=value)


def sld(legend: Legend, *, layer: str, field: str = "class_id") -> str:
    """An OGC Styled Layer Descriptor 1.1: one rule for each class, its name as title."""
    root = Element(
        "StyledLayerDescriptor",
        {
            "xmlns": "http://www.opengis.net/sld",
            "xmlns:ogc": "http://www.opengis.net/ogc",
            "xmlns:se": "http://www.opengis.net/se",
            "version": "1.1.0",
        },
    )
    named = SubElement(root, "NamedLayer")
    SubElement(named, "se:Name").text = layer
    style = SubElement(SubElement(named, "UserStyle"), "se:FeatureTypeStyle")
    for entry in legend:
        _rule(style, entry, field)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _text(root)


def _rule(style: Element, entry: LandClass, field: str) -> None:
    rule = SubElement(style, "se:Rule")
    SubElement(rule, "se:Name").text = entry.name
    SubElement(SubElement(rule, "se:Description"), "se:Title").text = entry.name
    equal = SubElement(SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
    SubElement(equal, "ogc:PropertyName").text = field
    SubElement(equal, "ogc:Literal").text = str(entry.id)
    symbolizer = SubElement(rule, "se:PolygonSymbolizer")
    for part, name in (("se:Fill", "fill"), ("se:Stroke", "stroke")):
        element = SubElement(symbolizer, part)
        SubElement(element, "se:SvgParameter", name=name).text = entry.hex
        if part == "se:Stroke":
            SubElement(element, "se:SvgParameter", {"name": "stroke-width"}).text = "0.3"


def _text(root: Element) -> str:
    indent(root)
    return tostring(root, encoding="unicode")

"""The default style for programs other than QGIS: an OGC Styled Layer Descriptor."""

from __future__ import annotations

from collections.abc import Collection
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aerialseg.legend import LandClass, Legend
from aerialseg.vector.qgis import OPACITY


def sld(legend: Legend, present: Collection[int], *, layer: str, field: str = "class_id") -> str:
    """An SLD 1.1 with one rule for each class of ``present``, its name as title."""
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
        if entry.id in present:
            _rule(style, entry, field)
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode")


def _rule(style: Element, entry: LandClass, field: str) -> None:
    rule = SubElement(style, "se:Rule")
    SubElement(rule, "se:Name").text = entry.name
    SubElement(SubElement(rule, "se:Description"), "se:Title").text = entry.name
    equal = SubElement(SubElement(rule, "ogc:Filter"), "ogc:PropertyIsEqualTo")
    SubElement(equal, "ogc:PropertyName").text = field
    SubElement(equal, "ogc:Literal").text = str(entry.id)
    symbolizer = SubElement(rule, "se:PolygonSymbolizer")
    fill, stroke = SubElement(symbolizer, "se:Fill"), SubElement(symbolizer, "se:Stroke")
    for part, values in (
        (fill, {"fill": entry.hex, "fill-opacity": str(OPACITY)}),
        (stroke, {"stroke": entry.hex, "stroke-width": "0.3"}),
    ):
        for name, value in values.items():
            SubElement(part, "se:SvgParameter", name=name).text = value

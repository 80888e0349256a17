"""Styles of the layer as QGIS reads them (QML): classes, outlines of classes, confidence; each with the fields."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aerialseg.legend import Color, LandClass, Legend
from aerialseg.raster.ramp import CONFIDENCE_RAMP
from aerialseg.vector.fields import POLYGONS, LayerKind
from aerialseg.vector.qgis_fields import add_fields

OPACITY = 0.55
"""Of the fill: the orthophoto below stays visible."""

OUTLINES_TO_SCALE = 2500
"""Outlines are drawn down to 1:2500; on smaller scales they would hide what they enclose."""

OUTLINE_MM, CHECKING_MM = 0.2, 0.5
VERSION = "3.22.0-Białowieża"
DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
_CATEGORIES = "Symbology|Fields|Forms"


@dataclass(frozen=True, slots=True)
class Style:
    """A named style of a layer: what QGIS offers under "Styles"."""

    name: str
    description: str
    qml: str


CLASSES_STYLE, OUTLINES_STYLE, CONFIDENCE_STYLE = "land cover", "land cover: outlines", "land cover: confidence"
STYLES = {
    CLASSES_STYLE: "classes and colours of the legend",
    OUTLINES_STYLE: "outlines in the colours of the legend, to check the map against the orthophoto",
    CONFIDENCE_STYLE: "mean confidence, the lowest on top",
}
"""Name -> description of the styles that we write, the default first."""


def layer_styles(legend: Legend, present: Collection[int], kind: LayerKind = POLYGONS) -> tuple[Style, ...]:
    """The styles of a layer in which the classes ``present`` occur, the default first."""
    renderers = {
        CLASSES_STYLE: _categories(legend, present),
        OUTLINES_STYLE: _categories(legend, present, outlines=True),
        CONFIDENCE_STYLE: _graduated(),
    }
    return tuple(Style(name, STYLES[name], _document(renderer, legend, kind)) for name, renderer in renderers.items())


def qml(
    legend: Legend,
    present: Collection[int],
    kind: LayerKind = POLYGONS,
    *,
    field: str = "class_id",
    by_name: bool = False,
) -> str:
    """The default style alone, for formats that have no place for others. field: holds the class, its id or name."""
    return _document(_categories(legend, present, field, by_name=by_name), legend, kind)


def _document(renderer: Element, legend: Legend, kind: LayerKind) -> str:
    # Written for 3.22, read by later ones.
    root = Element("qgis", version=VERSION, styleCategories=_CATEGORIES)
    root.append(renderer)
    add_fields(root, legend, kind)
    indent(root)
    return DOCTYPE + tostring(root, encoding="unicode")


def _categories(
    legend: Legend,
    present: Collection[int],
    field: str = "class_id",
    *,
    outlines: bool = False,
    by_name: bool = False,
) -> Element:
    """One category for each class that occurs, and one for those that a person may give to a polygon later."""
    renderer = _renderer("categorizedSymbol", field)
    categories, symbols = SubElement(renderer, "categories"), SubElement(renderer, "symbols")
    shown = [entry for entry in legend if entry.id in present]
    rest = [entry for entry in legend if entry.id not in present]
    for number, entry in enumerate(shown):
        value = {"value": entry.name, "type": "string"} if by_name else {"value": str(entry.id), "type": "long"}
        values = {"symbol": str(number), **value, "label": entry.name, "render": "true"}
        SubElement(categories, "category", values)
        _symbol(symbols, str(number), entry.color, outlines=outlines)
    if rest:
        number = len(shown)
        values = {"symbol": str(number), "value": "", "type": "string", "label": "other classes", "render": "true"}
        SubElement(categories, "category", values)
        _symbol(symbols, str(number), (200, 200, 200), outlines=outlines, classes=rest)
    return renderer


def _graduated() -> Element:
    renderer = _renderer("graduatedSymbol", "confidence")
    renderer.set("graduatedMethod", "GraduatedColor")
    renderer.set("enableorderby", "1")
    ranges, symbols = SubElement(renderer, "ranges"), SubElement(renderer, "symbols")
    for number, step in enumerate(CONFIDENCE_RAMP):
        lower, upper = (f"{edge / 100:.2f}" for edge in (step.above, step.upto))
        values = {"symbol": str(number), "lower": lower, "upper": upper, "label": step.label, "render": "true"}
        SubElement(ranges, "range", values)
        _symbol(symbols, str(number), step.color, opacity=step.opacity)
    order = SubElement(SubElement(renderer, "orderby"), "orderByClause", asc="0", nullsFirst="1")
    order.text = '"confidence"'
    return renderer


def _renderer(kind: str, field: str) -> Element:
    return Element("renderer-v2", type=kind, attr=field, symbollevels="0", enableorderby="0", forceraster="0")


def _symbol(
    symbols: Element,
    name: str,
    color: Color,
    *,
    outlines: bool = False,
    opacity: float = OPACITY,
    classes: Collection[LandClass] = (),
) -> None:
    """A polygon's fill and outline. classes: those that share it and have a colour each."""
    symbol = SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1", force_rhr="0")
    layer = SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
    rgb = ",".join(map(str, color))
    properties = {
        "color": f"{rgb},{round(opacity * 255)}",
        "style": "no" if outlines else "solid",
        "outline_color": f"{rgb},255",
        "outline_style": "solid",
        "outline_width": str(CHECKING_MM if outlines else OUTLINE_MM),
        "outline_width_unit": "MM",
        "joinstyle": "bevel",
    }
    options = SubElement(layer, "Option", type="Map")
    for key, value in properties.items():
        SubElement(options, "Option", name=key, type="QString", value=value)
    for key, value in properties.items():
        SubElement(layer, "prop", k=key, v=value)
    layer.append(_by_expression(dict(_expressions(classes, outlines=outlines, opacity=opacity))))


def _expressions(classes: Collection[LandClass], *, outlines: bool, opacity: float) -> Iterator[tuple[str, str]]:
    """Property of the fill -> the expression that decides it."""
    if not outlines:
        yield "outlineStyle", f"if(@map_scale > {OUTLINES_TO_SCALE}, 'no', 'solid')"
    if classes:
        yield "fillColor", _color_of_class(classes, round(opacity * 255))
        yield "outlineColor", _color_of_class(classes, 255)


def _color_of_class(classes: Collection[LandClass], alpha: int) -> str:
    cases = ("WHEN {} THEN '{},{},{},{}'".format(f'"class_id" = {entry.id}', *entry.color, alpha) for entry in classes)
    return f"CASE {' '.join(cases)} END"


def _by_expression(expressions: dict[str, str]) -> Element:
    root = Element("data_defined_properties")
    options = SubElement(root, "Option", type="Map")
    SubElement(options, "Option", name="name", type="QString", value="")
    entries = SubElement(options, "Option", name="properties", type="Map")
    for name, expression in expressions.items():
        entry = SubElement(entries, "Option", name=name, type="Map")
        SubElement(entry, "Option", name="active", type="bool", value="true")
        SubElement(entry, "Option", name="expression", type="QString", value=expression)
        SubElement(entry, "Option", name="type", type="int", value="3")
    SubElement(options, "Option", name="type", type="QString", value="collection")
    return root

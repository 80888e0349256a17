"""How QGIS shows and edits the fields: names, widgets, and what it fills in itself when a polygon is changed."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, SubElement

from aerialseg.legend import Legend
from aerialseg.vector.fields import Field, LayerKind

_DERIVED = ("class_name", "area_m2", "perimeter_m", "confidence", "confidence_min", "pixels", "parts")
"""Not to be typed: they follow from the class and the outline, or were measured."""


def add_fields(root: Element, legend: Legend, kind: LayerKind) -> None:
    """Add the fields of a layer to its style.

    The class is chosen by name from the legend; its name and the polygon's measures follow by themselves.
    """
    configuration = SubElement(root, "fieldConfiguration")
    for field in kind.fields:
        entry = SubElement(configuration, "field", name=field.name, configurationFlags="None")
        widget, options = _widget(field, legend)
        config = SubElement(SubElement(entry, "editWidget", type=widget), "config")
        config.append(options)
    aliases, defaults, editable = (SubElement(root, name) for name in ("aliases", "defaults", "editable"))
    filled = dict(_filled_in(legend, kind))
    for index, field in enumerate(kind.fields):
        SubElement(aliases, "alias", index=str(index), field=field.name, name=field.alias)
        expression, on_update = filled.get(field.name, ("", False))
        SubElement(defaults, "default", field=field.name, expression=expression, applyOnUpdate=str(int(on_update)))
        SubElement(editable, "field", name=field.name, editable=str(int(field.name not in _DERIVED)))


def _widget(field: Field, legend: Legend) -> tuple[str, Element]:
    options = Element("Option", type="Map")
    if field.name == "class_id":
        classes = SubElement(options, "Option", name="map", type="List")
        for entry in legend:
            one = SubElement(classes, "Option", type="Map")
            SubElement(one, "Option", name=entry.name, type="QString", value=str(entry.id))
        return "ValueMap", options
    if field.name == "checked":
        return "CheckBox", options
    if field.decimals is not None:
        SubElement(options, "Option", name="Precision", type="int", value=str(field.decimals))
        SubElement(options, "Option", name="AllowNull", type="bool", value="true")
        SubElement(options, "Option", name="Style", type="QString", value="SpinBox")
        return "Range", options
    return "TextEdit", options


def _filled_in(legend: Legend, kind: LayerKind) -> Iterator[tuple[str, tuple[str, bool]]]:
    """Field -> the expression that gives its value, and whether also when a polygon is changed."""
    cases = (f"""WHEN "class_id" = {entry.id} THEN {_text(entry.name)}""" for entry in legend)
    yield "class_name", (f"CASE {' '.join(cases)} END", True)
    yield "checked", ("false", False)
    for field in kind.fields:
        if field.on_update:
            yield field.name, (field.on_update, True)


def _text(value: str) -> str:
    """As a string of a QGIS expression."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

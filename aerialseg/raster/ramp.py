"""The colours of confidence: one fixed ramp for layers and rasters, so that two maps can be compared."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aerialseg.legend import Color


@dataclass(frozen=True, slots=True)
class RampStep:
    """Confidence above ``above`` and up to ``upto``, in per cent; the opacity that shows what lies below it."""

    above: int
    upto: int
    color: Color
    opacity: float

    @property
    def label(self) -> str:
        return f"up to {self.upto} %" if self.above == 0 else f"{self.above} to {self.upto} %"


CONFIDENCE_RAMP = (
    RampStep(0, 30, (73, 0, 106), 0.85),
    RampStep(30, 50, (174, 1, 126), 0.75),
    RampStep(50, 70, (247, 104, 161), 0.6),
    RampStep(70, 90, (252, 197, 192), 0.45),
    RampStep(90, 100, (255, 247, 243), 0.25),
)
"""Dark and opaque where the model is least confident (ColorBrewer's RdPu, safe for colour-blind readers)."""


def ramp_qml() -> str:
    """The QGIS style of a confidence raster, in per cent."""
    root = Element("qgis", version="3.22.0-Białowieża", styleCategories="Symbology")
    root.append(ramp_pipe())
    indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + tostring(root, encoding="unicode")


def ramp_pipe() -> Element:
    """How QGIS draws a confidence raster, in per cent: the same colours in every map."""
    pipe = Element("pipe")
    renderer = SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band="1",
        opacity="1",
        alphaBand="-1",
        classificationMin="0",
        classificationMax="100",
    )
    limits = SubElement(renderer, "minMaxOrigin")
    SubElement(limits, "limits").text = "None"
    shader = SubElement(
        SubElement(renderer, "rastershader"),
        "colorrampshader",
        colorRampType="DISCRETE",
        classificationMode="1",
        clip="0",
        minimumValue="0",
        maximumValue="100",
        labelPrecision="0",
    )
    for step in CONFIDENCE_RAMP:
        color = "#{:02x}{:02x}{:02x}".format(*step.color)
        values = {"value": str(step.upto), "color": color, "alpha": str(round(step.opacity * 255)), "label": step.label}
        SubElement(shader, "item", values)
    return pipe

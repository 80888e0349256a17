"""The parameters that say how polygons are drawn: the same in every algorithm that draws them."""

from __future__ import annotations

from qgis.core import (
    QgsProcessingParameterBoolean,
    QgsProcessingParameterNumber,
    QgsProcessingParameterVectorDestination,
)

from aerialseg_plugin.results import LAYER, show_result

OUTPUT, MIN_AREA, SIMPLIFY, SMOOTH = "OUTPUT", "MIN_AREA", "SIMPLIFY", "SMOOTH"
NUMBERS = {MIN_AREA: "--min-area", SIMPLIFY: "--simplify"}
HELP = """
Minimum area: smaller regions are merged into their neighbours (empty: 100 pixels of the class raster).

Simplification: tolerance in metres; 0 keeps the pixels' edges (empty: the default for this resolution).

Every valid pixel lies in exactly one polygon: no gaps, no overlaps."""


def add_drawing(algorithm) -> None:
    double = QgsProcessingParameterNumber.Type.Double
    for name, text in ((MIN_AREA, "Minimum area (m²)"), (SIMPLIFY, "Simplification tolerance (m)")):
        algorithm.addParameter(QgsProcessingParameterNumber(name, text, double, optional=True, minValue=0))
    algorithm.addParameter(QgsProcessingParameterBoolean(SMOOTH, "Round the corners", False))


def add_output(algorithm) -> None:
    algorithm.addParameter(QgsProcessingParameterVectorDestination(OUTPUT, "Land cover"))


def drawing_options(algorithm, parameters, context) -> list[str]:
    smooth = algorithm.parameterAsBool(parameters, SMOOTH, context)
    return [*algorithm.number_options(parameters, context, NUMBERS), *(["--smooth"] if smooth else [])]


def show_layer(context, path: str, group: str) -> str:
    """Have the layer loaded if that is asked for; the layer as QGIS names it."""
    uri = f"{path}|layername={LAYER}" if path.endswith(".gpkg") else path
    show_result(context, path, uri, "Land cover", group)
    return uri

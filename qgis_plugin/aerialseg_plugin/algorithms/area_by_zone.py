"""Area by zone: the area of each class within each of some polygons."""

from __future__ import annotations

from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterVectorLayer,
)

from aerialseg_plugin.kept_run import RunPlace

from .base import AerialsegAlgorithm
from .inputs import file_and_layer, write_polygons

INPUT, ZONES, FIELD, OUTPUT = "INPUT", "ZONES", "FIELD", "OUTPUT"


class AreaByZone(AerialsegAlgorithm):
    ID = "areabyzone"
    TITLE = "Area by zone"
    GROUP = "Accuracy"
    HELP = """Area of each class of a land-cover layer, within each of the zones: parcels, districts. The outlines of
the zones cut the polygons.

Zones: polygons in any coordinate system, also a temporary layer (empty: the whole map).

Field: names the zones; zones of one name are one zone (empty: all zones together).

The table is written as CSV and shown in the log."""

    def initAlgorithm(self, configuration=None) -> None:
        polygons = [QgsProcessing.SourceType.TypeVectorPolygon]
        self.addParameter(QgsProcessingParameterVectorLayer(INPUT, "Land-cover layer", polygons))
        self.addParameter(QgsProcessingParameterFeatureSource(ZONES, "Zones", polygons, optional=True))
        text = "Field that names the zones"
        self.addParameter(QgsProcessingParameterField(FIELD, text, parentLayerParameterName=ZONES, optional=True))
        self.addParameter(QgsProcessingParameterFileDestination(OUTPUT, "Areas", "CSV files (*.csv)"))

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        layer = self.parameterAsVectorLayer(parameters, INPUT, context)
        zones = self.parameterAsSource(parameters, ZONES, context) if parameters.get(ZONES) else None
        field = self.parameterAsString(parameters, FIELD, context) if zones is not None else ""
        output = self.parameterAsFileOutput(parameters, OUTPUT, context)
        options = [f"--out={output}", "--overwrite", *([f"--by={field}"] if field else [])]
        with RunPlace([output], "") as place:
            files = [file_and_layer(layer)]
            if zones is not None:
                files.append(place.file("zones.gpkg"))
                write_polygons(zones, files[1], context, field)
            self.run_aerialseg(["areas", *options, "--", *files], feedback)
        feedback.pushInfo(Path(output).read_text(encoding="utf-8"))
        return {OUTPUT: output}

"""Polygonize class raster: polygons of any raster of class ids."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProcessingParameterFile, QgsProcessingParameterRasterLayer

from aerialseg_plugin.kept_run import RunPlace
from aerialseg_plugin.progress import ALONE

from . import drawing
from .base import AerialsegAlgorithm
from .inputs import path_of

INPUT, CONFIDENCE, LEGEND = "INPUT", "CONFIDENCE", "LEGEND"


class PolygonizeClassRaster(AerialsegAlgorithm):
    ID = "polygonizeclassraster"
    TITLE = "Polygonize class raster"
    HELP = f"""Draws the polygons of a class raster, from aerialseg or elsewhere: one band of class ids, 0 to 65535.

Names and colours are those of the raster's attribute table, category names and colour table, or of a legend
(CSV: id,name,r,g,b).
{drawing.HELP}

Here, an empty minimum area keeps every region."""

    def initAlgorithm(self, configuration=None) -> None:
        self.addParameter(QgsProcessingParameterRasterLayer(INPUT, "Class raster"))
        text = "Confidence raster (0-100) on the same grid"
        self.addParameter(QgsProcessingParameterRasterLayer(CONFIDENCE, text, optional=True))
        self.addParameter(QgsProcessingParameterFile(LEGEND, "Legend", extension="csv", optional=True))
        drawing.add_drawing(self)
        drawing.add_output(self)

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        source = path_of(self.parameterAsRasterLayer(parameters, INPUT, context))
        output = self.parameterAsOutputLayer(parameters, drawing.OUTPUT, context)
        confidence = self.parameterAsRasterLayer(parameters, CONFIDENCE, context)
        legend = self.parameterAsString(parameters, LEGEND, context)
        options = [
            *drawing.drawing_options(self, parameters, context),
            *([f"--confidence={path_of(confidence)}"] if confidence else []),
            *([f"--legend={legend}"] if legend else []),
        ]
        with RunPlace([output], ""):
            self.run_aerialseg(["polygonize", *options, "--overwrite", "--", source, output], feedback, ALONE)
        return {drawing.OUTPUT: drawing.show_layer(context, output, f"Polygons of {Path(source).stem}")}

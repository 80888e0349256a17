"""Redraw polygons: another layer of a kept run, without the network."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProcessingException, QgsProcessingParameterFile

from aerialseg_plugin.kept_run import KeptRun, RunPlace

from . import drawing
from .base import AerialsegAlgorithm

RUN = "RUN"


class RedrawPolygons(AerialsegAlgorithm):
    ID = "redrawpolygons"
    TITLE = "Redraw polygons"
    HELP = f"""Draws the polygons of a kept run again, with other settings, without computing the classes again.

Kept run: the folder that was named in 'Map land cover'.
{drawing.HELP}"""

    def initAlgorithm(self, configuration=None) -> None:
        self.addParameter(QgsProcessingParameterFile(RUN, "Kept run", QgsProcessingParameterFile.Behavior.Folder))
        drawing.add_drawing(self)
        drawing.add_output(self)

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        kept = KeptRun(self.parameterAsString(parameters, RUN, context))
        output = self.parameterAsOutputLayer(parameters, drawing.OUTPUT, context)
        try:
            call = kept.read()
        except ValueError as error:
            raise QgsProcessingException(str(error)) from error
        options = [*drawing.drawing_options(self, parameters, context), "--keep-run", str(kept.run), "--overwrite"]
        with RunPlace([output], str(kept.folder)):
            self.run_aerialseg(["segment", *call, *options, "--", output], feedback)
        return {drawing.OUTPUT: drawing.show_layer(context, output, f"Land cover of {Path(call[0]).stem}")}

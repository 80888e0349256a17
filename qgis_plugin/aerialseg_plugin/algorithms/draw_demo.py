"""Draw the demo scene: a small orthophoto to try everything on."""

from __future__ import annotations

from pathlib import Path

from qgis.core import QgsProcessingOutputRasterLayer, QgsProcessingParameterFolderDestination

from .base import AerialsegAlgorithm

FOLDER, ORTHO, TRUTH = "OUTPUT", "ORTHOPHOTO", "TRUTH"


class DrawDemo(AerialsegAlgorithm):
    ID = "drawdemo"
    TITLE = "Draw the demo scene"
    GROUP = "Set-up"
    HELP = "Draws a small orthophoto (42 x 31.5 m at 3.5 cm per pixel) and its true classes, to try the other tools on."

    def initAlgorithm(self, configuration=None) -> None:
        self.addParameter(QgsProcessingParameterFolderDestination(FOLDER, "Demo scene"))
        self.addOutput(QgsProcessingOutputRasterLayer(ORTHO, "Orthophoto"))
        self.addOutput(QgsProcessingOutputRasterLayer(TRUTH, "True classes"))

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        folder = self.parameterAsString(parameters, FOLDER, context)
        self.run_aerialseg(["demo", "--overwrite", "--", folder], feedback)
        return {FOLDER: folder, ORTHO: str(Path(folder, "ortho.tif")), TRUTH: str(Path(folder, "truth.tif"))}

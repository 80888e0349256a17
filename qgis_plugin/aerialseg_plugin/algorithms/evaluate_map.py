"""Evaluate map: a map against reference data."""

from __future__ import annotations

from pathlib import Path

from qgis.core import (
    QgsProcessingOutputHtml,
    QgsProcessingParameterField,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterRasterLayer,
    QgsVectorLayer,
)

from .base import AerialsegAlgorithm
from .inputs import check_saved, layer_name_of, path_of

MAP, TRUTH, FIELD, FOLDER, REPORT = "MAP", "TRUTH", "FIELD", "OUTPUT", "REPORT"


class EvaluateMap(AerialsegAlgorithm):
    ID = "evaluatemap"
    TITLE = "Evaluate map"
    GROUP = "Accuracy"
    HELP = """Compares a class raster with reference data: polygons with a field of classes, or another class raster.

Writes a page with accuracy, intersection over union and the confusion matrix (report.html), and its tables (CSV).
Save edits of the reference layer first: the file is read."""

    def initAlgorithm(self, configuration=None) -> None:
        self.addParameter(QgsProcessingParameterRasterLayer(MAP, "Class raster"))
        self.addParameter(QgsProcessingParameterMapLayer(TRUTH, "Reference data: polygons or a class raster"))
        text = "Field of the polygons that holds the class (empty: class)"
        self.addParameter(QgsProcessingParameterField(FIELD, text, parentLayerParameterName=TRUTH, optional=True))
        self.addParameter(QgsProcessingParameterFolderDestination(FOLDER, "Report"))
        self.addOutput(QgsProcessingOutputHtml(REPORT, "Report"))

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        reference = self.parameterAsLayer(parameters, TRUTH, context)
        layer = ""
        if isinstance(reference, QgsVectorLayer):
            check_saved(reference)
            layer = layer_name_of(reference)
        classes = path_of(self.parameterAsRasterLayer(parameters, MAP, context))
        folder = self.parameterAsString(parameters, FOLDER, context)
        field = self.parameterAsString(parameters, FIELD, context)
        given = {"--field": field, "--layer": layer}
        options = [f"--out={folder}", "--overwrite", *(f"{name}={value}" for name, value in given.items() if value)]
        self.run_aerialseg(["accuracy", *options, "--", classes, path_of(reference)], feedback)
        return {FOLDER: folder, REPORT: str(Path(folder, "report.html"))}

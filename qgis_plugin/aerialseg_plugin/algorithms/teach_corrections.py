"""Teach from my corrections: a model of one's own imagery and classes, from labels drawn or corrected in QGIS."""

from __future__ import annotations

import shutil
from pathlib import Path

from qgis.core import (
    QgsProcessing,
    QgsProcessingException,
    QgsProcessingOutputHtml,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterVectorLayer,
)

from aerialseg_plugin.command import clean_environment, environment_folder, find_command, script_of
from aerialseg_plugin.installing import InstallError
from aerialseg_plugin.training_extra import SIZE, add_training, has_training

from .base import AerialsegAlgorithm
from .inputs import check_saved, layer_name_of, path_of
from .install_aerialseg import Steps

INPUT, LABELS, FIELD, MINUTES, MORE, MODEL, REPORT = "INPUT", "LABELS", "FIELD", "MINUTES", "MORE", "OUTPUT", "REPORT"
INSTALL = "INSTALL"


class TeachCorrections(AerialsegAlgorithm):
    ID = "teachcorrections"
    TITLE = "Teach from my corrections"
    GROUP = "Teaching"
    HELP = f"""Makes a model for your imagery and your classes, and judges it on labels that it has not seen.

Labels: a corrected layer "Land cover", of which the polygons with checked = true count, or any layer of polygons, lines
or points with a field of classes. Save its edits first: the file is read.

Minutes: time for all of it. 0 trains linear classifiers alone, in seconds.

Model to go on with: a taught model. Its labels, its classes and what it is judged on are kept.

The result is a folder: name it as the model in 'Map land cover'. An open page shows its scores.

Teaching needs torch and fastai: {SIZE}. Tick the box to add them to the environment that the plugin has made; they are
added once. An aerialseg of your own needs pip install "aerialseg[train]"."""

    def initAlgorithm(self, configuration=None) -> None:
        folder, any_vector = (
            QgsProcessingParameterFile.Behavior.Folder,
            [QgsProcessing.SourceType.TypeVectorAnyGeometry],
        )
        double = QgsProcessingParameterNumber.Type.Double
        text = "Field that says the class (empty: class, class_name, label …)"
        for parameter in (
            QgsProcessingParameterRasterLayer(INPUT, "Orthophoto"),
            QgsProcessingParameterVectorLayer(LABELS, "Labels", any_vector),
            QgsProcessingParameterField(FIELD, text, parentLayerParameterName=LABELS, optional=True),
            QgsProcessingParameterNumber(MINUTES, "Minutes", double, 10, minValue=0),
            QgsProcessingParameterFile(MORE, "Model to go on with", folder, optional=True),
            QgsProcessingParameterFolderDestination(MODEL, "Model"),
            QgsProcessingParameterBoolean(
                INSTALL, "Install what teaching needs, where it is missing (size: see help)", False
            ),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputHtml(REPORT, "Scores"))

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        labels = self.parameterAsVectorLayer(parameters, LABELS, context)
        check_saved(labels)
        ortho = path_of(self.parameterAsRasterLayer(parameters, INPUT, context))
        folder = Path(self.parameterAsString(parameters, MODEL, context))
        given = {
            "--layer": layer_name_of(labels),
            "--field": self.parameterAsString(parameters, FIELD, context),
            "--more": self.parameterAsString(parameters, MORE, context),
        }
        options = [f"--out={folder}", *(f"{option}={value}" for option, value in given.items() if value)]
        minutes = f"--minutes={self.parameterAsDouble(parameters, MINUTES, context)!r}"
        self._add_what_is_missing(self.parameterAsBool(parameters, INSTALL, context), feedback)
        was_there = folder.exists()
        try:
            self.run_aerialseg(["teach", minutes, *options, "--", ortho, path_of(labels)], feedback)
        except BaseException:
            if not was_there:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return {MODEL: str(folder), REPORT: str(folder / "report" / "report.html")}

    def _add_what_is_missing(self, wanted: bool, feedback) -> None:
        """Only to the environment that the plugin has made; other ones are somebody's own."""
        environment = environment_folder()
        if find_command() != str(script_of(environment)) or has_training(environment):
            return
        if not wanted:
            raise QgsProcessingException(
                f"Teaching needs torch and fastai, which are not installed yet: {SIZE}. Tick 'Install what teaching "
                f"needs' (INSTALL) to add them to {environment}, or run 'Install aerialseg' with a folder of wheels."
            )
        variables = clean_environment()
        feedback.pushInfo(f"To install: {SIZE}, in {environment}.")
        try:
            add_training(environment, "", script_of, Steps(feedback, variables).run, variables)
        except InstallError as error:
            raise QgsProcessingException(str(error)) from error

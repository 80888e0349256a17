"""Install aerialseg: an environment of its own beside QGIS's Python, which stays as it is."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qgis.core import (
    QgsProcessingException,
    QgsProcessingOutputString,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFile,
)

from aerialseg_plugin.child import run_lines
from aerialseg_plugin.command import clean_environment, environment_folder, qgis_python, script_of
from aerialseg_plugin.installing import LICENCES, PINS, InstallError, find_python, make_environment, spoken_size
from aerialseg_plugin.training_extra import SIZE, add_training

from .base import AerialsegAlgorithm

WHEELS, PYTHON, ACCEPT, TRAINING, COMMAND = "WHEELS", "PYTHON", "ACCEPT", "TRAINING", "COMMAND"


class InstallAerialseg(AerialsegAlgorithm):
    ID = "install"
    TITLE = "Install aerialseg"
    GROUP = "Set-up"

    def help_text(self) -> str:
        return f"""Installs aerialseg in a Python environment of its own; QGIS's Python is not changed.

Size: {spoken_size("")}.

For teaching: {SIZE}.

Folder: {environment_folder()} (to uninstall, delete it).

{LICENCES}

Folder of wheels: for a computer without internet. Make it on another one of the same kind with
pip download -r requirements.txt -d wheels
where requirements.txt is that of the plugin ({PINS})."""

    def initAlgorithm(self, configuration=None) -> None:
        text = "Install this (size, folder and licences: see the help)"
        self.addParameter(QgsProcessingParameterBoolean(ACCEPT, text, False))
        text = "Also what 'Teach from my corrections' needs (torch and fastai)"
        self.addParameter(QgsProcessingParameterBoolean(TRAINING, text, False))
        folder = QgsProcessingParameterFile.Behavior.Folder
        text = "Folder of wheels (empty: from the package index)"
        self.addParameter(QgsProcessingParameterFile(WHEELS, text, folder, optional=True))
        text = "Python 3.11 to 3.13 to make the environment with (empty: found automatically)"
        self.add_advanced(QgsProcessingParameterFile(PYTHON, text, optional=True))
        self.addOutput(QgsProcessingOutputString(COMMAND, "Command"))

    def canExecute(self) -> tuple[bool, str]:
        return True, ""

    def processAlgorithm(self, parameters, context, feedback) -> dict[str, str]:
        wheels = self.parameterAsString(parameters, WHEELS, context)
        folder = environment_folder()
        training = self.parameterAsBool(parameters, TRAINING, context)
        more = f" For teaching: {SIZE}." if training else ""
        feedback.pushInfo(f"To install: {spoken_size(wheels)}, in {folder}.{more}\n{LICENCES}")
        if not self.parameterAsBool(parameters, ACCEPT, context):
            raise QgsProcessingException("Nothing was installed: tick the first box (ACCEPT) to install this.")
        variables = clean_environment()
        try:
            python = find_python(self.parameterAsString(parameters, PYTHON, context), qgis_python(), variables)
            feedback.pushInfo(f"Python: {python}")
            run = Steps(feedback, variables).run
            make_environment(folder, python, wheels, script_of, run)
            if training:
                add_training(folder, wheels, script_of, run, variables)
        except InstallError as error:
            raise QgsProcessingException(str(error)) from error
        command = str(script_of(folder))
        feedback.pushInfo(f"Installed and checked: {command}")
        return {COMMAND: command}


class Steps:
    """Runs the commands of an installation; the packages that pip names move the bar."""

    def __init__(self, feedback, variables: dict[str, str]) -> None:
        self._feedback, self._variables = feedback, variables
        self._packages = sum(1 for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line)
        self._seen: set[str] = set()

    def run(self, line: Sequence[str], purpose: str) -> str:
        self._feedback.setProgressText(f"{purpose} …")
        said: list[str] = []

        def take(_: str, text: str) -> None:
            said.append(text)
            self._feedback.pushConsoleInfo(text)
            if package := re.match(r"(?:Collecting|Processing|Downloading) ([^\s=]+)", text):
                self._seen.add(package[1])
                self._feedback.setProgress(min(90, 5 + 75 * len(self._seen) / (2 * self._packages)))

        code = run_lines(line, self._variables, take, self._feedback.isCanceled)
        if self._feedback.isCanceled():
            raise QgsProcessingException("Cancelled: what was begun is removed.")
        if code:
            last = "\n".join(said[-15:])
            raise QgsProcessingException(f"{purpose} failed with exit code {code}; what was begun is removed.\n{last}")
        return "\n".join(said)

"""What the algorithms share: their names, and running the command with progress, log and cancelling."""

from __future__ import annotations

import re
from collections.abc import Sequence

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingFeedback,
    QgsProcessingParameterDefinition,
)
from qgis.PyQt.QtGui import QIcon

from aerialseg_plugin.child import run_lines
from aerialseg_plugin.command import MISSING, clean_environment, find_command
from aerialseg_plugin.progress import STAGES, ProgressReader


class AerialsegAlgorithm(QgsProcessingAlgorithm):
    """A subclass says ID, TITLE, GROUP and HELP, its parameters, and what to run."""

    ID = TITLE = HELP = ""
    GROUP = "Mapping"

    def createInstance(self) -> AerialsegAlgorithm:
        return type(self)()

    def name(self) -> str:
        return self.ID

    def displayName(self) -> str:
        return self.TITLE

    def group(self) -> str:
        return self.GROUP

    def groupId(self) -> str:
        return self.GROUP.lower().replace(" ", "").replace("-", "")

    def shortHelpString(self) -> str:
        return re.sub(r"(?<!\n)\n(?!\n)", " ", self.help_text())

    def help_text(self) -> str:
        """Paragraphs, between empty lines."""
        return self.HELP

    def icon(self) -> QIcon:
        return self.provider().icon() if self.provider() else QIcon()

    def canExecute(self) -> tuple[bool, str]:
        return (True, "") if find_command() else (False, MISSING)

    def add_advanced(self, parameter: QgsProcessingParameterDefinition) -> None:
        parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
        self.addParameter(parameter)

    def number_options(self, parameters, context, options: dict[str, str]) -> list[str]:
        """The command line's options for the numbers among the parameters that are given."""
        given = {name: option for name, option in options.items() if parameters.get(name) not in (None, "")}
        values = {option: self.parameterAsDouble(parameters, name, context) for name, option in given.items()}
        return [f"{option}={value!r}" for option, value in values.items()]

    def run_aerialseg(self, arguments: Sequence[str], feedback: QgsProcessingFeedback, stages=STAGES) -> None:
        """Run ``aerialseg`` with these arguments to its end.

        Raises QgsProcessingException with the command's message, or where it was cancelled.
        """
        command = find_command()
        if command is None:
            raise QgsProcessingException(MISSING)
        reader = ProgressReader(feedback, stages)
        feedback.setProgressText("Starting aerialseg …")
        feedback.pushCommandInfo(" ".join(quoted(one) for one in (command, *arguments)))
        line = [command, arguments[0], "--json-progress", *arguments[1:]]
        code = run_lines(line, clean_environment(), reader.take, feedback.isCanceled)
        if feedback.isCanceled():
            raise QgsProcessingException("Cancelled.")
        if code:
            raise QgsProcessingException(reader.failure(code))


def quoted(text: str) -> str:
    """An argument as one types it."""
    return f'"{text}"' if not text or set(text) & set(" '()&;|<>*?$") else text

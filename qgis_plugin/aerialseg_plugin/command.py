"""Where the ``aerialseg`` command is, and the environment it runs in: nothing of QGIS's own Python, GDAL or PROJ."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from qgis.core import QgsApplication, QgsSettings
from qgis.PyQt.QtCore import QStandardPaths

from .installing import complete_version

SETTING = "AERIALSEG_COMMAND"
"""The name of the setting in Settings > Options > Processing > Providers > aerialseg."""
MISSING = (
    "The command aerialseg was not found. Run 'Install aerialseg' from the Processing toolbox (aerialseg > Set-up), or "
    "name the command in Settings > Options > Processing > Providers > aerialseg."
)
FOREIGN = ("PYTHON", "GDAL_", "PROJ_", "OGR_", "CPL_", "QT_", "QGIS_", "GISBASE", "OSGEO4W", "VIRTUAL_ENV", "CONDA_")
"""How the names of variables begin that belong to QGIS's process: with them the command imports QGIS's libraries."""
LIBRARIES = ("LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES", "DYLD_FRAMEWORK_PATH")


def environment_folder() -> Path:
    """The environment that the plugin makes; outside QGIS's profile, which roams on Windows."""
    data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
    return Path(data, "aerialseg", "qgis-environment")


def script_of(environment: Path, name: str = "aerialseg") -> Path:
    """A command of a Python environment."""
    return environment / "Scripts" / f"{name}.exe" if os.name == "nt" else environment / "bin" / name


def find_command() -> str | None:
    """The command by the setting, in the plugin's environment, or on the PATH; None where there is none."""
    if named := QgsSettings().value(f"Processing/Configuration/{SETTING}", ""):
        return str(named) if os.path.isfile(named) else None
    if complete_version(environment_folder()):
        return str(script_of(environment_folder()))
    return shutil.which("aerialseg") or shutil.which("aerialseg", path=str(Path.home() / ".local" / "bin"))


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that are QGIS's."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(FOREIGN) and name.upper() not in LIBRARIES
    }
    if os.name == "nt":  # there, libraries are looked for on the PATH
        home = _comparable(Path(QgsApplication.prefixPath()).parents[1])
        folders = kept.get("PATH", "").split(os.pathsep)
        kept["PATH"] = os.pathsep.join(one for one in folders if not _comparable(Path(one)).startswith(home))
    return {**kept, "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}


def _comparable(path: Path) -> str:
    return os.path.normcase(os.path.abspath(path))


def qgis_python() -> Path:
    """The Python interpreter beside the one that QGIS embeds."""
    if os.name == "nt":
        return Path(sys.exec_prefix, "python.exe")
    return Path(sys.exec_prefix, "bin", "python3")

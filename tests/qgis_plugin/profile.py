"""The real QGIS with an empty profile, in which the plugin is installed from its zip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.qgis_runner import environment

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
PLUGINS = Path(".local", "share", "QGIS", "QGIS3", "profiles", "default", "python", "plugins")


def qgis_process() -> str:
    """Debian's wrapper hands qgis_process an option that it does not know; what it wraps works."""
    found = shutil.which("qgis_process.bin") or shutil.which("qgis_process")
    if found is None:
        pytest.skip("there is no qgis_process: install the Debian package qgis")
    return found


class Profile:
    """A home folder of its own; ``with_command`` puts the ``aerialseg`` of this environment on its PATH."""

    def __init__(self, folder: Path, *, with_command: bool = True) -> None:
        self.home, commands = folder / "home", folder / "bin"
        self.home.mkdir(parents=True, mode=0o700)
        commands.mkdir()
        if with_command:
            (commands / "aerialseg").symlink_to(SCRIPTS / "aerialseg")
        self.environment = {**environment(str(self.home)), "PATH": f"{commands}{os.pathsep}/usr/bin{os.pathsep}/bin"}

    def install(self) -> None:
        build = [sys.executable, str(ROOT / "scripts" / "build_plugin.py"), str(self.home)]
        path = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
        with zipfile.ZipFile(path) as file:
            file.extractall(self.home / PLUGINS)
        self.process("plugins", "enable", "aerialseg_plugin")

    def process(self, *args: str, timeout_s: float = 280, code: int = 0) -> str:
        """What qgis_process prints; its exit code must be ``code``."""
        command = [qgis_process(), *args]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, env=self.environment
        )
        assert done.returncode == code, f"exit code {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def run(self, algorithm: str, *, code: int = 0, timeout_s: float = 280, **parameters: object) -> str:
        """Run ``aerialseg:ALGORITHM``."""
        given = [f"--{name}={value}" for name, value in parameters.items()]
        return self.process("run", f"aerialseg:{algorithm}", *given, code=code, timeout_s=timeout_s)

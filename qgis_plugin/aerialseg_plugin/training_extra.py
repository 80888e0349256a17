"""What teaching needs beside the light installation: torch and fastai, added to the plugin's environment.

Nothing of QGIS is imported here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from .installing import COMPLETE, PINS, Run, check_room, pinned_version, pip_line

SIZE = "75 more packages, about 1450 MB on disk with torch for CPUs; several GB more where pip takes torch for GPUs"
SIZE_MB = 1450
"""As measured on Linux x86_64 with Python 3.11 and torch for CPUs, on 30 November 2026."""


def has_training(environment: Path) -> bool:
    """Whether all of it was added and checked."""
    try:
        return bool(json.loads((environment / COMPLETE).read_text(encoding="utf-8")).get("training"))
    except (OSError, ValueError, AttributeError):
        return False


def add_training(
    environment: Path, wheels: str, script: Callable[[Path, str], Path], run: Run, variables: dict[str, str]
) -> None:
    """Add torch and fastai; the packages that are there keep their versions. What fails is taken out again.

    Raises InstallError (no room), and what ``run`` raises.
    """
    check_room(environment, SIZE_MB)
    python = str(script(environment, "python"))
    try:
        wanted = f"aerialseg[train]=={pinned_version()}"
        run([*pip_line(python, wheels), "-c", str(PINS), wanted], "Installing what teaching needs")
        run([python, "-c", "import aerialseg.training, torch, torchvision, fastai"], "Checking")
    except BaseException:
        _remove_others(python, variables)
        raise
    place = environment / COMPLETE
    place.write_text(json.dumps({**json.loads(place.read_text(encoding="utf-8")), "training": True}), encoding="utf-8")


def _remove_others(python: str, variables: dict[str, str]) -> None:
    """Uninstall all packages but the pinned ones. Not to be cancelled; what it cannot do harms no map."""
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    pinned = {_name(line) for line in PINS.read_text(encoding="utf-8").splitlines() if "==" in line}
    options = {"capture_output": True, "text": True, "env": variables, "timeout": 300, "check": False}
    try:
        found = subprocess.run([*pip, "list", "--format=freeze"], **options).stdout.splitlines()
        others = [line.split("==")[0] for line in found if "==" in line and _name(line) not in pinned | _OWN]
        if others:
            subprocess.run([*pip, "uninstall", "-q", "-y", *others], **options)
    except (OSError, subprocess.TimeoutExpired):
        pass


_OWN = {"pip", "setuptools", "wheel"}


def _name(line: str) -> str:
    return line.split("==")[0].strip().lower().replace("_", "-").replace(".", "-")

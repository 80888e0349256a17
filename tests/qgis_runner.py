"""Scripts in the real QGIS: Debian's, which lives in the system's Python, not in ours."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

PYTHON = "/usr/bin/python3"
_MARK = "aerialseg-answer:"
_BEFORE = """
import json, sys
from qgis.core import *
args = sys.argv[1:]
answer = {}
application = QgsApplication([], False)
application.initQgis()
"""
_AFTER = f"""
print({_MARK!r} + json.dumps(answer), flush=True)
"""


def environment(home: str) -> dict[str, str]:
    """The variables of a QGIS without a screen whose profile lies in ``home``."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA", "XDG_DATA_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # with the compiled loops of aerialseg
    return kept | {"QT_QPA_PLATFORM": "offscreen", "HOME": home, "XDG_RUNTIME_DIR": home, "XDG_CACHE_HOME": cache}


@lru_cache(maxsize=1)
def _qgis_is_there() -> bool:
    if not Path(PYTHON).exists():
        return False
    probe = [PYTHON, "-c", "import qgis.core"]
    return subprocess.run(probe, capture_output=True, timeout=120, check=False).returncode == 0


def run_qgis(script: str, *args: str, variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The dict ``answer`` as the script left it; skips the test where there is no QGIS.

    The script finds QGIS started, the names of ``qgis.core``, the arguments in the list ``args`` and ``answer``, empty.
    ``variables`` are those of another profile than a new, empty one.
    """
    if not _qgis_is_there():
        pytest.skip(f"{PYTHON} cannot import qgis.core: install the Debian package python3-qgis")
    with tempfile.TemporaryDirectory() as home:
        file = Path(home, "script.py")
        file.write_text(_BEFORE + script + _AFTER, encoding="utf-8")
        command = [PYTHON, str(file), *(str(one) for one in args)]
        known = variables or environment(home)
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=dict(known))
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    assert lines, f"the script gave no answer (exit code {done.returncode}):\n{done.stdout}\n{done.stderr}"
    answer: dict[str, Any] = json.loads(lines[-1].removeprefix(_MARK))
    return answer

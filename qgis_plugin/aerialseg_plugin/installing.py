"""An environment of its own for ``aerialseg``: which Python makes it, what goes in, how it is checked and undone.

Nothing of QGIS is imported here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PINS = Path(__file__).with_name("requirements.txt")
"""Exact versions, of which the map is tested; scripts/plugin-pins writes them and their size."""
OLDEST, NEWEST = (3, 11), (3, 13)
COMPLETE = "aerialseg-complete.json"
"""Written into an environment when it is checked: without it, it is not used."""
PROBE = "import sys, venv, ensurepip; print(sys.version_info[0], sys.version_info[1], sys.maxsize > 2**32)"
LICENCES = """aerialseg is under Apache-2.0. The weights of its bundled model are for non-commercial use only, because
they were trained on the Semantic Drone Dataset (Graz University of Technology). The other packages are open source
under licences of their own: OpenVINO, PyArrow Apache-2.0; GDAL (in rasterio) MIT; NumPy, Numba, Shapely, pandas BSD."""

Run = Callable[[Sequence[str], str], str]
"""Runs a command (line, what it is for) and returns what it prints; raises where it fails."""


class InstallError(Exception):
    """What cannot be installed, why, and what to do."""


def pinned_version() -> str:
    """The version of aerialseg that the plugin installs."""
    return re.search(r"(?m)^aerialseg==(\S+)", PINS.read_text(encoding="utf-8"))[1]


def spoken_size(wheels: str) -> str:
    """How much is downloaded and installed."""
    text = PINS.read_text(encoding="utf-8")
    download, installed, packages = re.search(
        r"(\d+) MB to download, (\d+) MB installed, (\d+) packages", text
    ).groups()
    if wheels:
        mb = sum(path.stat().st_size for path in Path(wheels).glob("*.whl")) / 1e6
        return f"{packages} packages from {wheels} (wheels of {mb:.0f} MB), about {installed} MB on disk"
    return f"{packages} packages, about {download} MB to download and {installed} MB on disk"


def complete_version(environment: Path) -> str | None:
    """The version in an environment that was made and checked; None where there is none."""
    try:
        return str(json.loads((environment / COMPLETE).read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_python(named: str, beside: Path, variables: dict[str, str]) -> str:
    """A Python that can make the environment: the one named, else QGIS's (which stays as it is), else one on the PATH.

    Raises InstallError with what was tried.
    """
    names = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    found = [shutil.which(name, path=variables.get("PATH")) for name in (*names, "python3", "python")]
    tried = []
    for candidate in [named] if named else [str(beside), *filter(None, found)]:
        fault = _fault_of(candidate, variables)
        if not fault:
            return candidate
        tried.append(f"{candidate}: {fault}")
    wanted = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    raise InstallError(
        f"No Python {wanted} was found (tried: {'; '.join(dict.fromkeys(tried))}). Install one, from python.org or by "
        "your system's packages (Debian, Ubuntu: python3-venv), and name it as 'Python'."
    )


def _fault_of(python: str, variables: dict[str, str]) -> str:
    """Why this Python does not do; empty where it does."""
    try:
        done = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, timeout=60, env=variables)
    except (OSError, subprocess.TimeoutExpired):
        return "does not start"
    if done.returncode:
        return "has no venv (Debian, Ubuntu: apt install python3-venv)"
    major, minor, is_64_bit = done.stdout.split()
    if not OLDEST <= (int(major), int(minor)) <= NEWEST:
        return f"is Python {major}.{minor}"
    return "" if is_64_bit == "True" else "is a 32-bit Python"


def make_environment(folder: Path, python: str, wheels: str, script: Callable[[Path, str], Path], run: Run) -> None:
    """Make the environment ``folder``, or leave what was there before.

    script: the path of a command of an environment. Raises InstallError, and what ``run`` raises.
    """
    check_room(folder, int(re.search(r"(\d+) MB installed", PINS.read_text(encoding="utf-8"))[1]))
    with _replacing(folder):
        run([python, "-m", "venv", str(folder)], "Making the environment")
        run([*pip_line(str(script(folder, "python")), wheels), "-r", str(PINS)], "Installing packages")
        _verify(folder, script(folder, "aerialseg"), run)
        text = json.dumps({"version": pinned_version(), "python": python})
        (folder / COMPLETE).write_text(text, encoding="utf-8")


def _verify(folder: Path, command: Path, run: Run) -> None:
    """Map a small scene: every library is loaded, and compiled loops are ready for the first map."""
    said = run([str(command), "--version"], "Checking")
    if pinned_version() not in said:
        raise InstallError(f"{command} says '{said.strip()}', wanted version {pinned_version()}")
    scene = folder / "check"
    run([str(command), "demo", str(scene), "--size", "300,200"], "Checking")
    run([str(command), "segment", str(scene / "ortho.tif"), str(scene / "map.gpkg")], "Checking with a small map")
    shutil.rmtree(scene)


def pip_line(python: str, wheels: str) -> list[str]:
    """``pip install``, from the package index or from a folder of wheels."""
    source = ["--no-index", "--find-links", wheels] if wheels else []
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    return [*pip, "--only-binary", ":all:", "--progress-bar", "off", *source]


def check_room(folder: Path, megabytes: int) -> None:
    """Raise InstallError where so much, and a fifth more, is not free."""
    needed = megabytes * 1.2
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free / 1e6
    if free < needed:
        raise InstallError(
            f"{folder.parent} has {free:.0f} MB free, wanted {needed:.0f} MB: free some, or choose a folder"
        )


@contextmanager
def _replacing(folder: Path) -> Iterator[None]:
    """A block that makes ``folder``. What was there before goes when it ends well, else it comes back."""
    before = folder.with_name(f"{folder.name}.before")
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        try:
            os.replace(folder, before)
        except OSError as error:
            raise InstallError(f"{folder} is in use ({error}): end what runs in it, and try again") from error
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(FileNotFoundError):
            os.replace(before, folder)
        raise
    shutil.rmtree(before, ignore_errors=True)

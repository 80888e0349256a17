"""First use: from an empty profile to a map, with nothing installed but QGIS and the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import geopandas
import pytest

from aerialseg_plugin.installing import PINS
from tests.qgis_plugin.profile import ROOT, Profile

pytestmark = [pytest.mark.qgis, pytest.mark.slow, pytest.mark.timeout(1500)]

SYSTEM = Path("/usr/lib/python3/dist-packages")


def _wheels(folder: Path) -> Path:
    """This checkout's wheel and what it needs in the pinned versions, for the Python that makes the environment."""
    version = subprocess.run(
        ["/usr/bin/python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    others, pins = folder / "others.txt", PINS.read_text().splitlines(keepends=True)
    others.write_text("".join(line for line in pins if not line.startswith("aerialseg==")))
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True)
    wheel = str(next(folder.glob("aerialseg-*.whl")))
    binary = ["--only-binary", ":all:", "--python-version", version]
    subprocess.run([*pip, "download", *binary, "-d", str(folder), "-r", str(others), wheel], check=True)
    return folder


@pytest.mark.long
def test_an_empty_profile_installs_aerialseg_from_a_folder_of_wheels_and_maps_the_demo(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wheels = _wheels(tmp_path_factory.mktemp("wheels"))
    profile = Profile(tmp_path, with_command=False)
    profile.install()
    before = sorted(os.listdir(SYSTEM))
    said = profile.run("install", code=1, WHEELS=wheels)
    assert "Nothing was installed" in said
    assert "non-commercial" in said
    said = profile.run("install", ACCEPT="true", WHEELS=wheels, timeout_s=1200)
    assert "Installed and checked" in said
    assert sorted(os.listdir(SYSTEM)) == before, "QGIS's Python is not ours to change"
    assert not (profile.home / ".local" / "lib").exists()
    profile.run("drawdemo", OUTPUT=tmp_path / "demo")
    profile.run("maplandcover", INPUT=tmp_path / "demo" / "ortho.tif", OUTPUT=tmp_path / "map.gpkg")
    assert len(geopandas.read_file(tmp_path / "map.gpkg", layer="landcover")) > 5

"""The worked diffs of CONTRIBUTING.md apply to the package as it is, touch few files, and do what they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from tests.house import PACKAGE, ROOT
from tests.vector.drawn import blobs

SETTING = """
from click.testing import CliRunner
from aerialseg.cli.segment_command import segment_command
from aerialseg.mapping.plan import LayerPlan
from aerialseg.mapping.settings import SETTINGS, MapSettings
assert "--smooth-steps" in CliRunner().invoke(segment_command, ["--help"]).output
assert LayerPlan.of(MapSettings(smooth=True, smooth_steps="3"), (1.0, 1.0)).smooth == 3
assert SETTINGS["smooth_steps"].decides == "layer"
"""
FORMAT = """
import aerialseg, pyogrio
made = aerialseg.polygonize("classes.tif", "layer.gml")
assert pyogrio.read_info("layer.gml", force_feature_count=True)["features"] == made.polygons > 1
"""
DRIVER = """
from aerialseg.raster.describe import describe
from aerialseg.raster.opening import local_path
info = describe(local_path("image.bmp"))
assert (info.geo.width, info.geo.height, info.count) == (30, 20, 3), info
"""
NETWORK = """
from aerialseg.model.card import Architecture
from aerialseg.model.tile_crops import round_up
from aerialseg.model.network import find_reach
from aerialseg.model.networks import build
network = build("resnet26", classes=5)
assert find_reach(network).halo > 200, find_reach(network)
"""
EXAMPLES = {"A setting": (2, SETTING), "An output format": (2, FORMAT), "An input driver": (1, DRIVER)}
EXAMPLES["A network"] = (1, NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize("title", EXAMPLES)
def test_a_worked_diff_applies_and_works(title: str, tmp_path: Path) -> None:
    files, code = EXAMPLES[title]
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = re.search(rf"### {title}.*?```diff\n(.*?)```", text, re.DOTALL)
    assert found
    assert len(re.findall(r"^\+\+\+ ", found[1], re.MULTILINE)) == files
    # With what is compiled: kernels of files that the diff leaves as they are need not be compiled again.
    shutil.copytree(PACKAGE, tmp_path / "aerialseg", ignore=shutil.ignore_patterns("*.safetensors", "*.tmp.*"))
    (tmp_path / "worked.diff").write_text(found[1])
    subprocess.run(["git", "apply", "worked.diff"], cwd=tmp_path, check=True)
    with rasterio.open(tmp_path / "classes.tif", "w", **_profile(1), crs="EPSG:32633") as file:
        file.write(blobs(20, 30), 1)
    with rasterio.open(tmp_path / "image.bmp", "w", **_profile(3) | {"driver": "BMP"}) as file:
        file.write(np.zeros((3, 20, 30), np.uint8))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def _profile(count: int) -> dict[str, object]:
    place = rasterio.Affine(0.1, 0, 500_000, 0, -0.1, 5_000_000)
    return {"driver": "GTiff", "count": count, "height": 20, "width": 30, "dtype": "uint8", "transform": place}

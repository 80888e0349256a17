"""The layer as QGIS paints it, against the class raster of the same run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio

from aerialseg.raster.opening import without_georef_warnings
from tests.qgis_plugin.profile import SCRIPTS
from tests.qgis_runner import run_qgis

pytestmark = [pytest.mark.qgis, pytest.mark.timeout(900)]

PAINT = """
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
raster = QgsRasterLayer(args[1], "classes")
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(raster.crs())
settings.setExtent(raster.extent())
settings.setOutputSize(QSize(raster.width(), raster.height()))
settings.setBackgroundColor(QColor("white"))
settings.setFlag(QgsMapSettings.Antialiasing, False)
job = QgsMapRendererSequentialJob(settings)
job.start()
job.waitForFinished()
job.renderedImage().save(args[2])
answer["errors"] = [error.message for error in job.errors()]
answer["colours"] = {
    str(feature["class_id"]): color.getRgb()
    for feature in layer.getFeatures()
    for category in layer.renderer().categories()
    if str(category.value()) in (str(feature["class_id"]), str(feature["class_name"]))
    for color in [category.symbol().color()]
}
answer["opacity"] = {str(category.value()): category.symbol().opacity() for category in layer.renderer().categories()}
answer["layer_opacity"] = layer.opacity()
"""
EDGE_PX = 4


def _away_from_edges(classes: np.ndarray) -> np.ndarray:
    """Whether all pixels at most EDGE_PX rows and columns away are of one class."""
    side = 2 * EDGE_PX + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(classes, EDGE_PX, mode="edge"), (side, side))
    return windows.min((2, 3)) == windows.max((2, 3))


@pytest.mark.long
def test_what_qgis_paints_is_the_class_raster_away_from_edges(tmp_path: Path) -> None:
    subprocess.run([str(SCRIPTS / "aerialseg"), "demo", str(tmp_path), "--size", "400,300"], check=True)
    paths = [tmp_path / "map.gpkg", tmp_path / "classes.tif", tmp_path / "painted.png"]
    command = [SCRIPTS / "segment-raster", tmp_path / "ortho.tif", paths[0], "--raster", paths[1], "--quiet"]
    subprocess.run([str(one) for one in command], check=True)
    seen = run_qgis(PAINT, *map(str, paths))
    assert seen["errors"] == []
    with rasterio.open(paths[1]) as file:
        classes = file.read(1)
    with without_georef_warnings(), rasterio.open(paths[2]) as file:
        painted = file.read([1, 2, 3]).astype(int)
    numbers = np.array([int(number) for number in seen["colours"]])
    rgba = np.array(list(seen["colours"].values()), float)
    over_white = rgba[:, :3] * rgba[:, 3:] / 255 + 255 - rgba[:, 3:]
    distance = np.abs(painted[:, None] - over_white.T[:, :, None, None]).sum(0)
    found = numbers[distance.argmin(0)]
    counted = _away_from_edges(classes) & (classes != 255)
    assert counted.mean() > 0.5
    assert (found == classes)[counted].mean() >= 0.99

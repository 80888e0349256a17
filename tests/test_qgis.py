"""What the user sees: products of one run, opened in the real QGIS."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aerialseg.mapping.segment import segment
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.raster.ramp import CONFIDENCE_RAMP
from tests.conftest import WriteRaster, land_cover
from tests.fakes import CARD, LEGEND, Oracle
from tests.qgis_runner import run_qgis

pytestmark = pytest.mark.qgis

SCRIPT = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
raster = QgsRasterLayer(args[1], "classes")
confidence = QgsRasterLayer(args[2], "confidence")
shader = confidence.renderer().shader().rasterShaderFunction()
answer["ramp"] = [[item.value, item.label, item.color.name()] for item in shader.colorRampItemList()]
renderer, colors = layer.renderer(), raster.renderer()
answer.update(
    valid=[layer.isValid(), raster.isValid(), confidence.isValid()],
    crs=[layer.crs().authid(), raster.crs().authid()],
    renderer=[renderer.type(), colors.type()],
    attribute=renderer.classAttribute(),
    layer={c.label(): c.symbol().color().name() for c in renderer.categories() if c.value() not in (None, "")},
    raster={c.label: c.color.name() for c in colors.classes()},
    features=layer.featureCount(),
    invalid=sum(not f.geometry().isGeosValid() for f in layer.getFeatures()),
    fields=[field.name() for field in layer.fields()],
    area=sum(f["area_m2"] for f in layer.getFeatures()),
    indexed=layer.hasSpatialIndex() == QgsFeatureSource.SpatialIndexPresent,
)
"""


def test_layer_and_raster_open_named_and_coloured_alike(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(120, 140))
    layer, raster, confidence, style = segment(
        source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", confidence=tmp_path / "conf.tif"
    ).paths
    seen = run_qgis(SCRIPT, str(layer), str(raster), str(confidence))
    wanted = {entry.name: entry.hex for entry in LEGEND}
    assert seen["valid"] == [True, True, True]
    assert seen["crs"] == ["EPSG:32633", "EPSG:32633"]
    assert seen["renderer"] == ["categorizedSymbol", "paletted"]
    assert "class" in seen["attribute"]
    assert seen["layer"] == wanted
    assert seen["raster"] == wanted
    assert style == confidence.with_suffix(".qml")
    assert seen["ramp"] == [
        [step.upto, step.label, "#{:02x}{:02x}{:02x}".format(*step.color)] for step in CONFIDENCE_RAMP
    ]
    assert seen["features"] > 0
    assert seen["invalid"] == 0
    assert {"class_id", "class_name", "area_m2", "confidence"} <= set(seen["fields"])
    assert seen["area"] == pytest.approx(120 * 140 * 0.01)
    assert seen["indexed"]


def test_an_empty_layer_opens_as_well(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(40, 40), mask=land_cover(40, 40)[0] > 99)
    layer = segment(source, tmp_path / "map.gpkg", model=Oracle()).paths[0]
    script = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
answer.update(valid=layer.isValid(), features=layer.featureCount(), renderer=layer.renderer().type())
"""
    assert run_qgis(script, str(layer)) == {"valid": True, "features": 0, "renderer": "categorizedSymbol"}


PLACES = """
ortho, classes = QgsRasterLayer(args[0], "ortho"), QgsRasterLayer(args[1], "classes")
layer = QgsVectorLayer(args[2] + "|layername=landcover", "landcover", "ogr")
answer["extents"] = [
    [box.xMinimum(), box.yMinimum(), box.xMaximum(), box.yMaximum()]
    for box in (one.extent() for one in (ortho, classes, layer))
]
features = list(layer.getFeatures())
answer["seen"] = []
for x, y in json.loads(args[3]):
    point = QgsPointXY(x, y)
    here = [f["class_id"] for f in features if f.geometry().contains(QgsGeometry.fromPointXY(point))]
    answer["seen"].append([*(raster.dataProvider().sample(point, 1)[0] for raster in (ortho, classes)), *here])
"""


@pytest.mark.parametrize("gsd_m", [None, 0.05, 0.2])
def test_what_comes_of_a_raster_without_any_place_lies_upon_it(
    tmp_path: Path, write_raster: WriteRaster, gsd_m: float | None
) -> None:
    pixels = np.kron(np.arange(6, dtype=np.uint8).reshape(3, 2), np.ones((20, 30), np.uint8))
    with without_georef_warnings():
        source = write_raster(np.stack([pixels] * 3), crs=None, transform=None)
    layer, raster = segment(
        source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", gsd_m=gsd_m, min_area_m2=0
    ).paths
    points = [(x, -y) for y in (10, 30, 50) for x in (15, 45)]
    seen = run_qgis(PLACES, str(source), str(raster), str(layer), json.dumps(points))
    assert seen["extents"] == [[0, -60, 60, 0]] * 3
    assert seen["seen"] == [[number] * 3 for number in range(6)]


METADATA = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
found = layer.metadata()
box = found.extent().spatialExtents()[0]
answer.update(
    title=found.title(),
    abstract=found.abstract(),
    rights=found.rights(),
    licences=found.licenses(),
    constraints=[[one.type, one.constraint] for one in found.constraints()],
    history=found.history(),
    keywords=found.keywords(),
    crs=[found.crs().authid(), box.extentCrs.authid()],
    extent=[box.bounds.xMinimum(), box.bounds.yMinimum(), box.bounds.xMaximum(), box.bounds.yMaximum()],
    layer=[layer.extent().xMinimum(), layer.extent().yMinimum(), layer.extent().xMaximum(), layer.extent().yMaximum()],
)
"""


def test_qgis_shows_source_model_and_licence_and_no_folder(tmp_path: Path, write_raster: WriteRaster) -> None:
    card = replace(CARD, licence="for tests only & <nothing> else")
    source = write_raster(land_cover(60, 70))
    layer = segment(source, tmp_path / "map.gpkg", model=Oracle(card=card)).paths[0]
    seen = run_qgis(METADATA, str(layer))
    assert seen["title"] == f"Land cover of {source.name}"
    assert seen["rights"] == seen["licences"] == [card.licence]
    assert seen["constraints"] == [["license", card.licence]]
    assert f"made from: {source.name}" in seen["history"]
    assert f"model: {card.name}" in seen["history"]
    assert "Mean confidence" in seen["abstract"]
    assert LEGEND.names[1] in seen["keywords"]["aerialseg"]
    assert seen["crs"] == ["EPSG:32633", "EPSG:32633"]
    assert seen["extent"] == pytest.approx(seen["layer"])
    assert str(tmp_path) not in json.dumps(seen)

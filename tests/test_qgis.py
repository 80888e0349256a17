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
from aerialseg.vector.qgis import STYLES as NAMED_STYLES
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
        source, tmp_path / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", pixel_size_m=gsd_m, min_area_m2=0
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


PROJECT = """
from qgis.PyQt.QtCore import QSize
from qgis.gui import QgsMapCanvas
heard = []
QgsApplication.messageLog().messageReceived.connect(lambda *message: heard.append([str(one) for one in message]))
project = QgsProject.instance()
canvas = QgsMapCanvas()
canvas.resize(400, 300)
project.readProject.connect(canvas.readProject)
answer["read"] = project.read(f"geopackage:{args[0]}?projectName=landcover")
answer["error"], answer["heard"] = project.error(), heard
answer["crs"], answer["title"], answer["home"] = project.crs().authid(), project.title(), project.homePath()
answer["groups"] = {
    group.name(): [[one.layer().name(), one.layer().isValid(), one.isVisible()] for one in group.findLayers()]
    for group in project.layerTreeRoot().findGroups()
}
layers = {layer.name(): layer for layer in project.mapLayers().values()}
layer = layers["Land cover"]
answer["styles"] = [layer.styleManager().currentStyle(), *layer.styleManager().styles()]
answer["rights"], answer["features"] = layer.metadata().rights(), layer.featureCount()
answer["renderers"] = {name: one.renderer().type() for name, one in layers.items()}
answer["legend"] = [one.label() for one in layer.renderer().categories()]
answer["widget"] = layer.editorWidgetSetup(layer.fields().indexOf("class_id")).type()
seen, whole = canvas.extent(), layer.extent()
answer["seen"] = [seen.contains(whole), whole.width() / seen.width(), whole.height() / seen.height()]
layer.styleManager().setCurrentStyle("land cover: confidence")
answer["switched"] = layer.renderer().type()
answer["dirty"] = project.isDirty()
"""


def test_the_project_inside_the_geopackage_opens_without_a_word(tmp_path: Path, write_raster: WriteRaster) -> None:
    card = replace(CARD, licence="for tests only")
    source, out = write_raster(land_cover(120, 140)), tmp_path / "out"
    out.mkdir()
    layer = segment(
        source,
        out / "map of the town.gpkg",
        model=Oracle(card=card),
        raster=out / "c.tif",
        confidence=tmp_path / "conf.tif",
        dissolve=True,
    ).paths[0]
    before = layer.read_bytes()
    seen = run_qgis(PROJECT, str(layer))
    assert layer.read_bytes() == before
    assert (seen["read"], seen["error"], seen["heard"]) == (True, "", [])
    assert (seen["crs"], seen["title"]) == ("EPSG:32633", f"Land cover of {source.name}")
    assert seen["groups"] == {
        "Land cover": [
            ["Land cover", True, True],
            ["Land cover by class", True, False],
            ["Classes of the pixels", True, False],
            ["Confidence of the pixels (%)", True, False],
        ],
        "Orthophoto": [[source.name, True, True]],
    }
    assert seen["styles"] == [next(iter(NAMED_STYLES)), *sorted(NAMED_STYLES)]
    assert (seen["rights"], seen["widget"]) == ([card.licence], "ValueMap")
    assert seen["features"] > 0
    assert seen["renderers"] == {
        "Land cover": "categorizedSymbol",
        "Land cover by class": "categorizedSymbol",
        "Classes of the pixels": "paletted",
        "Confidence of the pixels (%)": "singlebandpseudocolor",
        source.name: "multibandcolor",
    }
    assert set(LEGEND.names) <= set(seen["legend"])
    assert seen["seen"][0]
    assert max(seen["seen"][1:]) > 0.5
    assert seen["switched"] == "graduatedSymbol"


def test_a_project_without_any_place_opens_as_well(tmp_path: Path, write_raster: WriteRaster) -> None:
    with without_georef_warnings():
        source = write_raster(land_cover(60, 70), crs=None, transform=None)
    layer = segment(source, tmp_path / "map.gpkg", model=Oracle()).paths[0]
    seen = run_qgis(PROJECT, str(layer))
    assert (seen["read"], seen["error"], seen["heard"], seen["crs"]) == (True, "", [], "")
    assert [one[1] for group in seen["groups"].values() for one in group] == [True, True]
    assert seen["seen"][0]

"""The layer opens finished in the real QGIS: classes named and coloured."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
from affine import Affine

from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.vector.fields import CLASSES, POLYGONS
from aerialseg.vector.layers import polygonize
from aerialseg.vector.qgis import OPACITY, OUTLINES_TO_SCALE, STYLES
from tests.qgis_runner import run_qgis
from tests.vector.drawn import blobs, write

AWKWARD = Legend(
    (
        LandClass(0, "water", (28, 42, 168)),
        LandClass(1, "Büsche & <Bäume>", (107, 142, 35)),
        LandClass(2, 'paved "area"', (128, 64, 128)),
        LandClass(3, "not in the raster", (255, 0, 7)),
        LandClass(4, "roof", (70, 70, 70)),
    )
)

OPEN = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
renderer = layer.renderer()
answer.update(
    valid=layer.isValid(),
    features=layer.featureCount(),
    crs=layer.crs().authid(),
    geometry=QgsWkbTypes.displayString(layer.wkbType()),
    renderer=renderer.type(),
    field=renderer.classAttribute() if renderer.type() == "categorizedSymbol" else None,
)
if renderer.type() == "categorizedSymbol":
    answer["classes"] = [[one.value(), one.label(), one.symbol().color().name()] for one in renderer.categories()]
    context = QgsRenderContext()
    renderer.startRender(context, layer.fields())
    drawn = {}
    for feature in layer.getFeatures():
        symbol = renderer.symbolForFeature(feature, context)
        drawn[feature["class_name"]] = symbol.color().name() if symbol else None
        if not feature.geometry().isGeosValid():
            answer["valid"] = False
    renderer.stopRender(context)
    answer["drawn"] = drawn
"""


def made(folder: Path, drawn: np.ndarray) -> Path:
    path = folder / "land cover.gpkg"
    polygonize(write(folder / "c.tif", drawn), None, path, legend=AWKWARD, tolerance_px=1.5)
    return path


@pytest.mark.qgis
def test_qgis_opens_the_layer_with_names_and_colours(tmp_path: Path) -> None:
    drawn = np.where((classes := blobs(180, 220)) == 3, 4, classes)
    path = made(tmp_path, drawn)
    before = path.read_bytes()
    answer = run_qgis(OPEN, str(path))
    assert answer["valid"]
    assert answer["features"] > 20
    assert (answer["crs"], answer["geometry"]) == ("EPSG:32633", "Polygon")
    assert (answer["renderer"], answer["field"]) == ("categorizedSymbol", "class_id")
    present = np.unique(drawn[drawn != NODATA]).tolist()
    shown = [(AWKWARD[one].name, AWKWARD[one].hex) for one in present]
    assert [(label, color) for _, label, color in answer["classes"]] == [*shown, ("other classes", "#c8c8c8")]
    assert answer["drawn"] == dict(shown)
    assert path.read_bytes() == before


@pytest.mark.qgis
def test_qgis_opens_an_empty_layer(tmp_path: Path) -> None:
    answer = run_qgis(OPEN, str(made(tmp_path, np.full((4, 4), NODATA, np.uint8))))
    assert answer["valid"]
    assert (answer["features"], answer["geometry"], answer["renderer"]) == (0, "Polygon", "categorizedSymbol")


FIELDS = """
answer["layers"] = {}
for uri in args:
    layer = QgsVectorLayer(uri, "layer", "ogr")
    answer["layers"][uri] = dict(
        valid=layer.isValid(),
        renderer=layer.renderer().type() if layer.isValid() else None,
        geometry=QgsWkbTypes.displayString(layer.wkbType()),
        aliases={field.name(): layer.attributeDisplayName(number) for number, field in enumerate(layer.fields())},
        comments={field.name(): field.comment() for field in layer.fields()},
        invalid=sum(not one.geometry().isGeosValid() for one in layer.getFeatures()),
        features=layer.featureCount(),
    )
"""


@pytest.mark.qgis
@pytest.mark.parametrize("ending", [".gpkg", ".fgb", ".geojson"])
def test_qgis_shows_names_of_fields_for_people_and_the_dissolved_layer(tmp_path: Path, ending: str) -> None:
    drawn = np.where((classes := blobs(60, 70)) == 3, 4, classes)
    output = tmp_path / f"map{ending}"
    polygonize(write(tmp_path / "c.tif", drawn), None, output, legend=AWKWARD, dissolve=True)
    if ending == ".gpkg":
        uris = [f"{output}|layername={name}" for name in ("landcover", "landcover_by_class")]
    else:
        uris = [str(output), str(tmp_path / f"map_by_class{ending}")]
    answer = run_qgis(FIELDS, *uris)["layers"]
    for uri, kind in zip(uris, (POLYGONS, CLASSES), strict=True):
        found = answer[uri]
        assert (found["valid"], found["renderer"], found["geometry"]) == (True, "categorizedSymbol", kind.geometry)
        assert found["features"] > 0
        assert found["invalid"] == 0
        assert {name: found["aliases"][name] for name in kind.names} == {one.name: one.alias for one in kind.fields}


def test_the_geopackage_describes_its_fields_by_the_standard(tmp_path: Path) -> None:
    path = made(tmp_path, blobs(20, 20, classes=3))
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute("SELECT table_name, column_name, title, description FROM gpkg_data_columns").fetchall()
        extensions = database.execute("SELECT table_name FROM gpkg_extensions WHERE extension_name = 'gpkg_schema'")
        assert {row[0] for row in extensions} == {"gpkg_data_columns", "gpkg_data_column_constraints"}
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
    assert rows == [("landcover", one.name, one.alias, one.comment) for one in POLYGONS.fields]


def test_styles_are_well_formed_and_set_as_default(tmp_path: Path) -> None:
    with closing(sqlite3.connect(made(tmp_path, blobs(20, 20, classes=3)))) as database:
        rows = database.execute(
            "SELECT f_table_catalog, f_table_schema, f_table_name, f_geometry_column, useAsDefault, styleQML, styleSLD "
            "FROM layer_styles"
        ).fetchall()
    assert [row[:5] for row in rows] == [("", "", "landcover", "geom", int(first)) for first in (True, False, False)]
    labels = [one.get("label") for one in ElementTree.fromstring(rows[0][5]).iter("category")]
    assert labels == [*AWKWARD.names[:3], "other classes"]
    titles = [one.text for one in ElementTree.fromstring(rows[0][6]).iter("{http://www.opengis.net/se}Title")]
    assert titles == list(AWKWARD.names[:3])


EDITED = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
answer["styles"] = layer.listStylesInDatabase()[2]
answer["widgets"] = {f.name(): layer.editorWidgetSetup(n).type() for n, f in enumerate(layer.fields())}
number = layer.fields().indexOf("class_id")
answer["choice"] = [list(one.items())[0] for one in layer.editorWidgetSetup(number).config()["map"]]
formatter = QgsApplication.fieldFormatterRegistry().fieldFormatter("Range")
confidence = layer.fields().indexOf("confidence")
setup = layer.editorWidgetSetup(confidence)
answer["shown"] = formatter.representValue(layer, confidence, setup.config(), None, 0.87654)
feature = max(layer.getFeatures(), key=lambda one: one["area_m2"])
names = ["class_id", "class_name", "area_m2", "checked"]
answer["before"] = [feature[name] for name in names]
layer.startEditing()
layer.changeAttributeValue(feature.id(), number, 3)
half = QgsRectangle(feature.geometry().boundingBox())
half.setXMaximum(half.center().x())
shape = feature.geometry().intersection(QgsGeometry.fromRect(half))
layer.changeGeometry(feature.id(), shape)
layer.changeAttributeValue(feature.id(), layer.fields().indexOf("checked"), True)
answer["saved"] = layer.commitChanges()
answer["errors"] = layer.commitErrors()
again = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
answer["after"] = [again.getFeature(feature.id())[name] for name in names]
answer["plane"] = shape.area()
context = QgsRenderContext()
context.setExpressionContext(QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(again)))
renderer = again.renderer()
renderer.startRender(context, again.fields())
answer["label"] = [
    one.label() for one in renderer.categories() if one.value() == 3 or one.value() in (None, "")
]
renderer.stopRender(context)
"""


@pytest.mark.qgis
def test_a_class_changed_in_qgis_changes_name_and_area_too(tmp_path: Path) -> None:
    drawn = np.where((classes := blobs(60, 70)) == 3, 4, classes)
    answer = run_qgis(EDITED, str(made(tmp_path, drawn)))
    assert set(answer["styles"]) == set(STYLES)
    assert answer["widgets"]["class_id"] == "ValueMap"
    assert answer["choice"] == [[one.name, str(one.id)] for one in AWKWARD]
    assert answer["shown"] in ("0.88", "0,88")
    assert answer["saved"], answer["errors"]
    assert answer["before"][3] is False
    assert answer["after"] == [3, "not in the raster", pytest.approx(answer["plane"]), True]
    assert answer["after"][2] < answer["before"][2]


@pytest.mark.qgis
def test_an_area_measured_in_qgis_is_ours_also_where_the_plane_is_not_true_to_scale(tmp_path: Path) -> None:
    for crs, transform in (
        ("EPSG:3857", Affine(3, 0, 1e6, 0, -3, 7e6)),
        ("EPSG:4326", Affine(3e-5, 0, 9, 0, -3e-5, 52)),
    ):
        path = tmp_path / f"{crs[5:]}.gpkg"
        raster = write(tmp_path / f"{crs[5:]}.tif", blobs(60, 70, classes=3), crs=crs, transform=transform)
        polygonize(raster, None, path, legend=AWKWARD)
        measured = run_qgis(MEASURED, str(path))
        assert measured["again"] == pytest.approx(measured["ours"], rel=1e-3)


MEASURED = """
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
QgsProject.instance().addMapLayer(layer)
expression = QgsExpression(layer.defaultValueDefinition(layer.fields().indexOf("area_m2")).expression())
context = QgsExpressionContext(QgsExpressionContextUtils.globalProjectLayerScopes(layer))
answer.update(ours=[], again=[])
for feature in layer.getFeatures():
    context.setFeature(feature)
    answer["ours"].append(feature["area_m2"])
    answer["again"].append(expression.evaluate(context))
"""

RENDERED = """
from PyQt5.QtCore import QSize
from PyQt5.QtGui import QColor
layer = QgsVectorLayer(args[0] + "|layername=landcover", "landcover", "ogr")
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(layer.crs())
settings.setBackgroundColor(QColor(255, 255, 255))
settings.setExtent(layer.extent())
settings.setOutputSize(QSize(*json.loads(args[2])))
settings.setOutputDpi(float(args[3]))
scopes = [QgsExpressionContextUtils.globalScope(), QgsExpressionContextUtils.mapSettingsScope(settings)]
settings.setExpressionContext(QgsExpressionContext(scopes))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
answer["saved"] = job.renderedImage().save(args[1])
answer["scale"] = settings.scale()
"""


@pytest.mark.qgis
@pytest.mark.parametrize("dpi", [96.0, 9600.0])  # with and without outlines
def test_the_map_that_qgis_draws_is_the_class_raster_over_white(tmp_path: Path, dpi: float) -> None:
    coarse = np.where((classes := blobs(45, 55)) == 3, 4, classes)
    drawn = coarse.repeat(4, 0).repeat(4, 1)
    image = tmp_path / "map.png"
    answer = run_qgis(RENDERED, str(made(tmp_path, drawn)), str(image), json.dumps([440, 360]), str(dpi))
    assert answer["saved"]
    assert (answer["scale"] < OUTLINES_TO_SCALE) == (dpi < 100.0), answer["scale"]
    with without_georef_warnings(), rasterio.open(image) as dataset:
        seen = dataset.read([1, 2, 3]).astype(float)[:, ::2, ::2]
    colors = np.full((256, 3), 255.0)
    for entry in AWKWARD:
        colors[entry.id] = OPACITY * np.array(entry.color) + (1 - OPACITY) * 255
    around = np.lib.stride_tricks.sliding_window_view(np.pad(drawn, 3, mode="edge"), (7, 7))
    inside = around.min((2, 3)) == around.max((2, 3))
    same = (abs(np.moveaxis(seen, 0, -1) - colors[drawn]) <= 2).all(-1)
    assert inside.mean() > 0.3
    assert same[inside].mean() >= 0.99

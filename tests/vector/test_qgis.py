"""The layer opens finished in the real QGIS: classes named and coloured."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.vector.fields import CLASSES, POLYGONS
from aerialseg.vector.layers import polygonize
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
settings = QgsMapSettings()
settings.setLayers([layer])
settings.setDestinationCrs(layer.crs())
settings.setExtent(layer.extent())
from PyQt5.QtCore import QSize
settings.setOutputSize(QSize(220, 180))
job = QgsMapRendererParallelJob(settings)
job.start()
job.waitForFinished()
image = job.renderedImage()
colors = {}
for y in range(image.height()):
    for x in range(image.width()):
        name = image.pixelColor(x, y).name()
        colors[name] = colors.get(name, 0) + 1
answer["colors"] = colors
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
    assert [(label, color) for _, label, color in answer["classes"]] == [(one.name, one.hex) for one in AWKWARD]
    present = np.unique(drawn[drawn != NODATA]).tolist()
    assert answer["drawn"] == {AWKWARD[one].name: AWKWARD[one].hex for one in present}
    assert {AWKWARD[one].hex for one in present} <= {name for name, count in answer["colors"].items() if count > 50}
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
    assert [row[:5] for row in rows] == [("", "", "landcover", "geom", 1)]
    labels = [one.get("label") for one in ElementTree.fromstring(rows[0][5]).iter("category")]
    assert labels == list(AWKWARD.names)
    titles = [one.text for one in ElementTree.fromstring(rows[0][6]).iter("{http://www.opengis.net/se}Title")]
    assert titles == list(AWKWARD.names)

"""The plugin in the real QGIS: Debian's, without a screen."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import geopandas
import pytest

from aerialseg_plugin.installing import COMPLETE
from tests.qgis_plugin.profile import SCRIPTS, Profile, qgis_process
from tests.qgis_runner import run_qgis

pytestmark = [pytest.mark.qgis, pytest.mark.timeout(900)]

PLUGIN = """
import os, sys, threading, time
sys.path.insert(0, "/usr/share/qgis/python/plugins")
sys.path.insert(0, os.path.expanduser("~/.local/share/QGIS/QGIS3/profiles/default/python/plugins"))
from processing.core.Processing import Processing
Processing.initialize()
from aerialseg_plugin.provider import AerialsegProvider
provider = AerialsegProvider()
QgsApplication.processingRegistry().addProvider(provider)
import processing
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    made = Profile(tmp_path_factory.mktemp("profile"))
    made.install()
    return made


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _draw_scene(tmp_path_factory.mktemp("scene"), "500,400")


def _draw_scene(folder: Path, size: str) -> Path:
    subprocess.run([str(SCRIPTS / "aerialseg"), "demo", str(folder), "--size", size], check=True)
    return folder / "ortho.tif"


def _command(*args: object) -> None:
    line = [str(SCRIPTS / "segment-raster"), *(str(one) for one in args)]
    subprocess.run(line, check=True, capture_output=True, timeout=250)


def _same_layer(one: Path, other: Path) -> bool:
    first, second = (geopandas.read_file(path, layer="landcover") for path in (one, other))
    return len(first) > 0 and first.equals(second)


def test_the_plugin_loads_from_an_empty_profile_and_lists_its_algorithms(profile: Profile) -> None:
    assert "* aerialseg_plugin" in profile.process("plugins")
    listed = profile.process("list")
    for name in ("maplandcover", "redrawpolygons", "polygonizeclassraster", "evaluatemap", "drawdemo"):
        assert f"aerialseg:{name}\t" in listed


def test_without_the_command_it_says_what_to_do(tmp_path: Path, scene: Path) -> None:
    empty = Profile(tmp_path, with_command=False)
    empty.install()
    said = empty.run("maplandcover", code=1, INPUT=scene, OUTPUT=tmp_path / "m.gpkg")
    assert "The command aerialseg was not found" in said
    assert not (tmp_path / "m.gpkg").exists()


def test_map_land_cover_gives_the_layer_of_the_command_and_redraws_it_without_the_network(
    profile: Profile, scene: Path, tmp_path: Path
) -> None:
    said = profile.run(
        "maplandcover",
        INPUT=scene,
        MIN_AREA=0.5,
        OUTPUT=tmp_path / "map.gpkg",
        CLASSES=tmp_path / "classes.tif",
        REPORT=tmp_path / "report.html",
        RUN=tmp_path / "kept",
    )
    assert "Starting aerialseg" in said
    assert "<html" in (tmp_path / "report.html").read_text("utf-8")
    _command(scene, tmp_path / "wanted.gpkg", "--min-area", 0.5, "--raster", tmp_path / "wanted.tif")
    assert _same_layer(tmp_path / "map.gpkg", tmp_path / "wanted.gpkg")
    profile.run("redrawpolygons", RUN=tmp_path / "kept", SMOOTH="true", OUTPUT=tmp_path / "smooth.gpkg")
    _command(scene, tmp_path / "wanted-smooth.gpkg", "--smooth")
    assert _same_layer(tmp_path / "smooth.gpkg", tmp_path / "wanted-smooth.gpkg")
    profile.run("polygonizeclassraster", INPUT=tmp_path / "classes.tif", OUTPUT=tmp_path / "polygons.gpkg")
    assert len(geopandas.read_file(tmp_path / "polygons.gpkg", layer="landcover")) > 0
    profile.run("areabyzone", INPUT=tmp_path / "map.gpkg", OUTPUT=tmp_path / "areas.csv")
    assert "grass" in (tmp_path / "areas.csv").read_text()
    said = profile.run(
        "evaluatemap", MAP=tmp_path / "classes.tif", TRUTH=scene.with_name("truth.tif"), OUTPUT=tmp_path / "report"
    )
    assert "pixel accuracy" in said
    assert (tmp_path / "report" / "report.html").exists()


AREAS = """
from qgis.PyQt.QtCore import QVariant
ortho = QgsRasterLayer(args[0], "ortho")
box = ortho.extent()
middle = QgsRectangle(box.center().x() - 3, box.center().y() - 2, box.center().x() + 3, box.center().y() + 2)
polygons = QgsVectorLayer("Polygon?crs=EPSG:4326", "area", "memory")
to_degrees = QgsCoordinateTransform(ortho.crs(), polygons.crs(), QgsProject.instance())
feature = QgsFeature()
geometry = QgsGeometry.fromRect(middle)
geometry.transform(to_degrees)
feature.setGeometry(geometry)
polygons.dataProvider().addFeatures([feature])
QgsProject.instance().addMapLayer(polygons)
inputs = [{"EXTENT": QgsReferencedRectangle(middle, ortho.crs())}, {"AOI": polygons.id()}]
answer["areas"] = []
polygons.dataProvider().addAttributes([QgsField("name", QVariant.String)])
polygons.updateFields()
zone = next(polygons.getFeatures())
polygons.dataProvider().changeAttributeValues({zone.id(): {0: "garden"}})
for number, area in enumerate(inputs):
    output = os.path.join(args[1], f"part{number}.gpkg")
    found = processing.run("aerialseg:maplandcover", {"INPUT": ortho, "OUTPUT": output, **area})
    layer = QgsVectorLayer(found["OUTPUT"], "map", "ogr")
    answer["areas"].append(sum(f["area_m2"] for f in layer.getFeatures()))
zones = {"INPUT": found["OUTPUT"], "ZONES": polygons.id(), "FIELD": "name", "OUTPUT": args[1] + "/areas.csv"}
processing.run("aerialseg:areabyzone", zones)
with open(args[1] + "/areas.csv") as file:
    answer["zones"] = file.read()
alg = QgsApplication.processingRegistry().algorithmById("aerialseg:maplandcover")
context = QgsProcessingContext()
answer["refused"] = [
    alg.checkParameterValues({"OUTPUT": "/tmp/x.gpkg", **given}, context)
    for given in ({}, {"INPUT": args[0], "FOLDER": "/tmp"}, {"INPUT": args[0], **inputs[0], **inputs[1]})
]
"""


def test_an_extent_and_a_layer_of_polygons_in_another_crs_are_areas_of_interest(
    profile: Profile, scene: Path, tmp_path: Path
) -> None:
    seen = run_qgis(PLUGIN + AREAS, str(scene), str(tmp_path), variables=profile.environment)
    assert seen["areas"] == pytest.approx([24, 24], rel=0.02)
    assert "garden" in seen["zones"]
    assert [ok for ok, _ in seen["refused"]] == [False] * 3
    assert "Give an orthophoto" in seen["refused"][0][1]


LOADED = """
project = QgsProject.instance()
ortho = QgsRasterLayer(args[0], "ortho")
project.addMapLayer(ortho)
parameters = {"INPUT": ortho.id(), "OUTPUT": args[1] + "/map.gpkg", "CLASSES": args[1] + "/classes.tif"}
processing.runAndLoadResults("aerialseg:maplandcover", parameters)
root = project.layerTreeRoot()
answer["groups"] = {group.name(): [node.name() for node in group.findLayers()] for group in root.findGroups()}
answer["at_top"] = [node.name() for node in root.children()]
layer = project.mapLayersByName("Land cover")[0]
answer["renderer"] = layer.renderer().type()
answer["features"] = layer.featureCount()
answer["raster"] = project.mapLayersByName("Class raster")[0].renderer().type()
"""


def test_results_are_loaded_in_a_group_with_their_styles(profile: Profile, scene: Path, tmp_path: Path) -> None:
    seen = run_qgis(PLUGIN + LOADED, str(scene), str(tmp_path), variables=profile.environment)
    assert seen["groups"] == {"Land cover of ortho": ["Land cover", "Class raster"]}
    assert seen["at_top"] == ["Land cover of ortho", "ortho"]
    assert seen["renderer"] == "categorizedSymbol"
    assert seen["raster"] == "paletted"
    assert seen["features"] > 0


CANCELLED = """
class Feedback(QgsProcessingFeedback):
    started = None
    said = []
    def setProgressText(self, text):
        self.said.append((time.monotonic(), text))
        if text.startswith("Classifying"):
            answer.setdefault("children", children())  # lines may still come when the child has ended
            threading.Timer(0.1, self.cancel).start()

def children():
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline") as file:
                line = file.read()
        except OSError:
            continue
        if args[1] in line and int(name) != os.getpid():
            found[name] = line
    return found

feedback = Feedback()
begin = time.monotonic()
try:
    parameters = {"INPUT": args[0], "OUTPUT": args[1] + "/map.gpkg", "OPTIONS": "--tta --precision fp32"}  # takes long
    processing.run("aerialseg:maplandcover", parameters, feedback=feedback)
    answer["ended"] = "finished"
except QgsProcessingException as error:
    answer["ended"] = str(error)
answer["first_after_s"] = feedback.said[0][0] - begin
answer["first"] = feedback.said[0][1]
answer["left"] = children()
answer["files"] = os.listdir(args[1])
"""


@pytest.mark.long
def test_cancelling_ends_the_command_and_leaves_nothing(profile: Profile, tmp_path: Path) -> None:
    scene = _draw_scene(tmp_path / "scene", "1500,1200")  # a smaller one is mapped before a busy machine cancels it
    (out := tmp_path / "out").mkdir()
    seen = run_qgis(PLUGIN + CANCELLED, str(scene), str(out), variables=profile.environment)
    assert "Cancelled" in seen["ended"] or "execution" in seen["ended"]
    assert len(seen["children"]) == 1
    assert seen["left"] == {}
    assert seen["files"] == []
    assert seen["first"] == "Starting aerialseg …"
    assert seen["first_after_s"] < 1


def _commands_at_work(folder: Path) -> list[str]:
    """Their command lines."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_text())
    return [line for line in lines if str(folder) in line and "segment" in line]


def test_a_qgis_that_is_killed_takes_the_command_with_it(profile: Profile, scene: Path, tmp_path: Path) -> None:
    line = [qgis_process(), "run", "aerialseg:maplandcover", f"--INPUT={scene}", f"--OUTPUT={tmp_path}/map.gpkg"]
    qgis = subprocess.Popen(line, env=profile.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not _commands_at_work(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _commands_at_work(tmp_path)
    qgis.kill()
    qgis.wait()
    while _commands_at_work(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _commands_at_work(tmp_path)


CORRECTED = """
layer = QgsVectorLayer(args[1] + "|layername=landcover", "map", "ogr")
fields = layer.fields()
biggest = max(layer.getFeatures(), key=lambda feature: feature.geometry().area())
layer.startEditing()
layer.changeAttributeValue(biggest.id(), fields.indexOf("class_id"), int(args[3]))
layer.changeAttributeValue(biggest.id(), fields.indexOf("class_name"), args[4])
layer.changeAttributeValue(biggest.id(), fields.indexOf("checked"), True)
QgsProject.instance().addMapLayer(layer)
parameters = {"INPUT": args[0], "CORRECTIONS": layer.id(), "OUTPUT": args[2]}
try:
    processing.run("aerialseg:maplandcover", parameters)
    answer["unsaved"] = "taken"
except QgsProcessingException as error:
    answer["unsaved"] = str(error)
layer.commitChanges()
found = QgsVectorLayer(processing.run("aerialseg:maplandcover", parameters)["OUTPUT"], "corrected", "ogr")
inside = biggest.geometry().pointOnSurface()
answer["class"] = [f["class_name"] for f in found.getFeatures() if f.geometry().contains(inside)]
answer["was"] = biggest["class_name"]
"""


@pytest.mark.long
def test_a_polygon_that_is_corrected_in_qgis_keeps_its_class_on_the_next_map(
    profile: Profile, scene: Path, tmp_path: Path
) -> None:
    _command(scene, tmp_path / "map.gpkg")
    paths = str(scene), str(tmp_path / "map.gpkg"), str(tmp_path / "corrected.gpkg")
    seen = run_qgis(PLUGIN + CORRECTED, *paths, "7", "pool", variables=profile.environment)
    assert "edits that are not saved" in seen["unsaved"]
    assert seen["class"] == ["pool"] != [seen["was"]]


MODEL = """
model = QgsProcessingModelAlgorithm("areas of a class raster")
model.addModelParameter(QgsProcessingParameterRasterLayer("RASTER", "Raster"), QgsProcessingModelParameter("RASTER"))
source = QgsProcessingModelChildParameterSource
draw = QgsProcessingModelChildAlgorithm("aerialseg:polygonizeclassraster")
draw.setChildId("draw")
draw.addParameterSources("INPUT", [source.fromModelParameter("RASTER")])
draw.addParameterSources("SMOOTH", [source.fromStaticValue(True)])
model.addChildAlgorithm(draw)
measure = QgsProcessingModelChildAlgorithm("aerialseg:areabyzone")
measure.setChildId("measure")
measure.addParameterSources("INPUT", [source.fromChildOutput("draw", "OUTPUT")])
output = QgsProcessingModelOutput("areas", "Areas")
output.setChildId("measure")
output.setChildOutputName("OUTPUT")
measure.setModelOutputs({"areas": output})
model.addChildAlgorithm(measure)
found = processing.run(model, {"RASTER": args[0], "measure:areas": args[1]})
answer["output"] = found["measure:areas"]
"""


def test_in_a_model_one_tool_takes_what_another_made(profile: Profile, scene: Path, tmp_path: Path) -> None:
    areas = tmp_path / "areas.csv"
    truth = str(scene.with_name("truth.tif"))
    assert run_qgis(PLUGIN + MODEL, truth, str(areas), variables=profile.environment) == {"output": str(areas)}
    assert "all,class 3," in areas.read_text()


TEACHING = CANCELLED.replace('text.startswith("Classifying")', 'text.startswith(("Reading", "Training"))').replace(
    'processing.run("aerialseg:maplandcover", parameters, feedback=feedback)',
    'processing.run("aerialseg:teachcorrections", {"INPUT": args[0], "LABELS": args[2], "MINUTES": 5, '
    '"OUTPUT": args[1] + "/model"}, feedback=feedback)',
)


@pytest.mark.long
@pytest.mark.slow
def test_cancelled_teaching_leaves_nothing(profile: Profile, scene: Path, tmp_path: Path) -> None:
    labels = scene.with_name("truth.gpkg")
    line = [SCRIPTS / "aerialseg", "polygonize", scene.with_name("truth.tif"), labels, "--overwrite"]
    subprocess.run([str(one) for one in line], check=True, capture_output=True)
    features = geopandas.read_file(labels, layer="landcover")
    features.rename(columns={"class_name": "class"})[["class", "geometry"]].to_file(labels.with_name("labels.gpkg"))
    given = str(scene), str(tmp_path), str(labels.with_name("labels.gpkg"))
    seen = run_qgis(PLUGIN + TEACHING, *given, variables=profile.environment)
    assert "Cancelled" in seen["ended"] or "execution" in seen["ended"]
    assert len(seen["children"]) == 1
    assert (seen["left"], seen["files"]) == ({}, [])


def test_teaching_asks_before_it_adds_what_is_missing(scene: Path, tmp_path: Path) -> None:
    light = Profile(tmp_path, with_command=False)
    light.install()
    made = light.home / ".local" / "share" / "aerialseg" / "qgis-environment"
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "aerialseg").symlink_to(SCRIPTS / "aerialseg")
    (made / COMPLETE).write_text('{"version": "0.2.0"}')
    given = {"INPUT": scene, "LABELS": scene.with_name("labels.gpkg"), "OUTPUT": tmp_path / "model"}
    said = light.run("teachcorrections", code=1, **given)
    assert "Teaching needs torch and fastai" in said
    assert "MB on disk" in said
    assert not (tmp_path / "model").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_model_that_is_taught_in_qgis_maps_with_the_classes_of_its_labels(profile: Profile, tmp_path: Path) -> None:
    subprocess.run([str(SCRIPTS / "aerialseg"), "demo", str(tmp_path)], check=True)
    ortho, truth = tmp_path / "ortho.tif", tmp_path / "truth.tif"
    polygonize = [SCRIPTS / "aerialseg", "polygonize", truth, tmp_path / "truth.gpkg"]
    subprocess.run([str(one) for one in polygonize], check=True, capture_output=True)
    labels = geopandas.read_file(tmp_path / "truth.gpkg", layer="landcover")
    labels = labels[labels.area_m2 > 2].rename(columns={"class_name": "kind"})[["kind", "geometry"]]
    labels.to_file(tmp_path / "labels.gpkg")
    profile.run(
        "teachcorrections", INPUT=ortho, LABELS=tmp_path / "labels.gpkg", FIELD="kind", MINUTES=0, OUTPUT=tmp_path / "m"
    )
    assert (tmp_path / "m" / "report" / "report.html").exists()
    profile.run("maplandcover", INPUT=ortho, MODEL=tmp_path / "m", OUTPUT=tmp_path / "map.gpkg")
    found = geopandas.read_file(tmp_path / "map.gpkg", layer="landcover")
    assert len(set(found.class_name)) > 2
    assert set(found.class_name) <= set(labels.kind)

"""The pictures of docs/qgis.md, from the real QGIS on a virtual screen.

``python benchmarks/qgis_screenshots.py FOLDER`` needs QGIS, Xvfb (Debian's ``qgis`` and ``xvfb``) and aerialseg in this
Python's environment. It draws the demo scene, starts QGIS with an empty profile and the plugin from its zip, opens the
dialogs, maps the scene and writes ``qgis-*.png`` (those in docs/images/ are reduced to 192 colours).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROFILE = Path(".local", "share", "QGIS", "QGIS3", "profiles", "default")
SETTINGS = """[PythonPlugins]
aerialseg_plugin=true
processing=true
[UI]
firstRunVersion=32216
[qgis]
checkVersion=false
"""
IN_QGIS = r"""
import os
import processing
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QDockWidget, QLabel
from qgis.core import QgsProject, QgsRasterLayer
from qgis.utils import iface, plugins

scene, out, results = (os.environ[f"SHOTS_{name}"] for name in ("SCENE", "OUT", "RESULTS"))
window = iface.mainWindow()

def save(widget, name):
    QApplication.processEvents()
    widget.grab().save(os.path.join(out, f"qgis-{name}.png"))

def dialog_of(algorithm, parameters):
    dialog = processing.createAlgorithmDialog(algorithm, parameters)
    dialog.resize(900, 760)
    dialog.show()
    return dialog

def steps():
    window.resize(1280, 820)
    ortho = QgsRasterLayer(os.path.join(scene, "ortho.tif"), "ortho")
    QgsProject.instance().addMapLayer(ortho)
    QgsProject.instance().setCrs(ortho.crs())
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() in ("Layers", "ProcessingToolbox"))
    yield 2
    iface.setActiveLayer(ortho)
    iface.zoomToActiveLayer()
    toolbox = window.findChild(QDockWidget, "ProcessingToolbox")
    toolbox.searchBox.setText("aerialseg")
    yield 4
    save(window, "toolbox")
    dialog = dialog_of("aerialseg:install", {})
    yield 2
    save(dialog, "install")
    dialog.close()
    parameters = {"INPUT": ortho.id(), "OUTPUT": os.path.join(results, "landcover.gpkg"),
                  "CONFIDENCE": os.path.join(results, "confidence.tif")}
    dialog = dialog_of("aerialseg:maplandcover", parameters)
    yield 2
    save(dialog, "map")
    done = []
    dialog.algorithmFinished.connect(lambda *_: done.append(True))
    dialog.runButton().click()
    shown = False
    while not done:
        yield 0.5
        text = dialog.findChild(QLabel, "lblProgress").text()
        if not shown and ("left" in text or text.startswith("Drawing")):
            shown = True
            save(dialog, "log")
    yield 2
    dialog.close()
    toolbox.hide()
    iface.zoomFull()
    yield 6
    save(window, "result")
    group = QgsProject.instance().layerTreeRoot().findGroup("Land cover of ortho")
    layer = group.findLayers()[0].layer()
    iface.setActiveLayer(layer)
    layer.startEditing()
    feature = sorted(layer.getFeatures(), key=lambda one: -one.geometry().area())[2]
    layer.selectByIds([feature.id()])
    iface.mapCanvas().zoomToSelected(layer)
    yield 4
    form = iface.getFeatureForm(layer, feature)
    form.show()
    yield 2
    save(form, "form")
    form.close()
    layer.rollBack()
    QgsProject.instance().setDirty(False)
    iface.addProject(f"geopackage:{results}/landcover.gpkg?projectName=landcover")
    for dock in window.findChildren(QDockWidget):
        dock.setVisible(dock.objectName() == "Layers")
    yield 6
    save(window, "project")

def go(iterator):
    try:
        wait_s = next(iterator)
    except StopIteration:
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    QTimer.singleShot(int(wait_s * 1000), lambda: go(iterator))

QTimer.singleShot(3000, lambda: go(steps()))
"""


def prepare(home: Path) -> None:
    """An empty profile with the plugin."""
    build = [sys.executable, str(ROOT / "scripts" / "build_plugin.py"), str(home)]
    path = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    with zipfile.ZipFile(path) as file:
        file.extractall(home / PROFILE / "python" / "plugins")
    (home / PROFILE / "QGIS").mkdir()
    (home / PROFILE / "QGIS" / "QGIS3.ini").write_text(SETTINGS, encoding="utf-8")
    (home / "bin").mkdir()
    (home / "bin" / "aerialseg").symlink_to(Path(sys.executable).with_name("aerialseg"))


def take(home: Path, out: Path, display: str) -> None:
    scene, results = home / "scene", home / "results"
    subprocess.run([str(home / "bin" / "aerialseg"), "demo", str(scene)], check=True)
    results.mkdir()
    script = home / "shots.py"
    script.write_text(IN_QGIS, encoding="utf-8")
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "QT_QPA_PLATFORM", "XDG_DATA_HOME")
    known = {name: value for name, value in os.environ.items() if name not in hidden}
    own = {
        "HOME": str(home),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        "PATH": f"{home / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "DISPLAY": display,
        "XDG_RUNTIME_DIR": str(home),
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "SHOTS_SCENE": str(scene),
        "SHOTS_OUT": str(out.resolve()),
        "SHOTS_RESULTS": str(results),
    }
    line = ["qgis.bin", "--nologo", "--noversioncheck", "--code", str(script)]
    subprocess.run(line, env=known | own, check=True, timeout=600)


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    screen = subprocess.Popen(["Xvfb", ":78", "-screen", "0", "1400x900x24"], stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as home:
            prepare(Path(home))
            take(Path(home), out, ":78")
    finally:
        screen.terminate()
        screen.wait()
    print(*sorted(str(path) for path in out.glob("qgis-*.png")), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

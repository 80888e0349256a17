"""The plugin as it is handed out: what is in the zip, and what its code may not do."""

from __future__ import annotations

import ast
import configparser
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from aerialseg._version import __version__
from tests.qgis_runner import run_qgis

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {"aerialseg", "torch", "numpy", "osgeo", "rasterio", "PyQt5", "PyQt6", "PySide2", "PySide6"}
"""Qt by ``qgis.PyQt``, which is Qt 5 or 6; nothing that QGIS's Python may lack or that belongs to the command."""


def _files(folder: Path) -> dict[str, bytes]:
    build = [sys.executable, str(ROOT / "scripts" / "build_plugin.py"), str(folder)]
    path = subprocess.run(build, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(path).name == f"aerialseg_plugin-{__version__}.zip"
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return _files(tmp_path_factory.mktemp("zip"))


def test_the_zip_holds_one_folder_of_text_files(files: dict[str, bytes]) -> None:
    assert {name.split("/")[0] for name in files} == {"aerialseg_plugin"}
    assert {"__init__.py", "metadata.txt", "LICENSE"} <= {name.split("/", 1)[1] for name in files}
    for name, data in files.items():
        assert "\0" not in data.decode("utf-8"), f"{name} is binary"
    assert {Path(name).suffix for name in files} <= {".py", ".txt", ".svg", ""}


def test_the_same_files_give_the_same_zip(tmp_path: Path, files: dict[str, bytes]) -> None:
    assert list(_files(tmp_path).items()) == list(files.items())


def test_metadata_says_what_qgis_and_its_repository_ask_for(files: dict[str, bytes]) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_file(io.StringIO(files["aerialseg_plugin/metadata.txt"].decode()))
    said = parser["general"]
    assert said["version"] == __version__
    assert said["qgisMinimumVersion"] == "3.22"
    assert said["qgisMaximumVersion"] == "4.99"
    assert said["hasProcessingProvider"] == "yes"
    assert all(said.get(key) for key in ("name", "description", "about", "author", "email", "tags"))
    assert f"aerialseg_plugin/{said['icon']}" in files


def enums_in(data: bytes) -> set[str]:
    """Dotted names of what is taken from classes of qgis and begins with a capital: enums, and classes within."""
    tree = ast.parse(data)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qgis.")
        for alias in node.names
    }
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and id(node) not in inner}
    return {name for name in dotted if name.split(".")[0] in imported and name.split(".")[1][:1].isupper()}


def test_enums_are_named_in_full_as_qt_6_wants_them(files: dict[str, bytes]) -> None:
    assert enums_in(b"from qgis.core import QgsA\nQgsA.Flag.One\nQgsA.Two\nQgsA.three()") == {
        "QgsA.Flag.One",
        "QgsA.Two",
    }
    found = set().union(*(enums_in(data) for name, data in files.items() if name.endswith(".py")))
    short = {name for name in found if name.count(".") == 1}
    assert short == {"QgsVectorFileWriter.SaveVectorOptions"}, "a class; whatever else is an enum without its type"
    assert len(found) > 5


@pytest.mark.qgis
def test_qgis_3_22_knows_the_same_names(files: dict[str, bytes]) -> None:
    found = sorted(set().union(*(enums_in(data) for name, data in files.items() if name.endswith(".py"))))
    script = "from qgis.PyQt.QtCore import *\nanswer['known'] = [repr(eval(name)) != '' for name in args]"
    assert run_qgis(script, *found) == {"known": [True] * len(found)}


def test_the_code_is_python_3_9_and_imports_only_qgis_and_the_standard_library(files: dict[str, bytes]) -> None:
    for name, data in files.items():
        if not name.endswith(".py"):
            continue
        tree = ast.parse(data, name, feature_version=(3, 9))
        found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        tops = {module.split(".")[0] for module in found}
        assert not tops & FORBIDDEN, f"{name} imports {tops & FORBIDDEN}"
        assert tops <= {*sys.stdlib_module_names, "qgis", "processing", "aerialseg_plugin"}, name

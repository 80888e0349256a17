"""The project inside a GeoPackage: relative paths, the same bytes, nothing that XML or QGIS cannot name."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path
from xml.etree.ElementTree import Element, fromstring

import numpy as np
import pytest

import aerialseg
from aerialseg.mapping.products import MAX_IMAGES
from aerialseg.mapping.segment import segment
from aerialseg.vector.qgis_project import Project
from tests.batch.conftest import draw
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle
from tests.vector.drawn import blobs, write


def project_in(path: Path, name: str = "landcover") -> Element:
    with closing(sqlite3.connect(path)) as database:
        [(content,)] = database.execute("SELECT content FROM qgis_projects WHERE name = ?", [name]).fetchall()
    with zipfile.ZipFile(io.BytesIO(bytes.fromhex(content))) as file:
        return fromstring(file.read("project.qgs"))


def sources(root: Element) -> list[str | None]:
    return [layer.findtext("datasource") for layer in root.iter("maplayer")]


def test_paths_are_relative_to_the_geopackage(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, out = write_raster(land_cover(60, 70)), tmp_path / "out"
    out.mkdir()
    segment(source, out / "map.gpkg", model=Oracle(), raster=tmp_path / "c.tif", confidence=out / "conf.tif")
    root = project_in(out / "map.gpkg")
    assert sources(root) == ["./map.gpkg|layername=landcover", "../c.tif", "./conf.tif", f"../{source.name}"]
    assert str(tmp_path) not in "".join(filter(None, sources(root)))
    assert [group.get("name") for group in root.iterfind("layer-tree-group/layer-tree-group")] == [
        "Land cover",
        "Orthophoto",
    ]
    shown = {one.get("name"): one.get("checked") for one in root.iter("layer-tree-layer")}
    assert [name for name, checked in shown.items() if checked == "Qt::Checked"] == ["Land cover", source.name]


def test_the_bytes_depend_on_the_names_of_the_files_and_not_on_the_folder(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "c.tif", blobs(30, 40))
        aerialseg.polygonize(tmp_path / name / "c.tif", tmp_path / name / "map.gpkg", dissolve=True)
    contents = []
    for name in ("one", "other"):
        with closing(sqlite3.connect(tmp_path / name / "map.gpkg")) as database:
            contents.append(database.execute("SELECT name, content FROM qgis_projects").fetchall())
    assert contents[0] == contents[1]
    first, second, raster = sources(project_in(tmp_path / "one" / "map.gpkg"))
    assert (first, second, raster) == (
        "./map.gpkg|layername=landcover",
        "./map.gpkg|layername=landcover_by_class",
        "./c.tif",
    )


@pytest.mark.parametrize("count", [2, MAX_IMAGES + 1])
def test_a_large_mosaic_is_left_out(tmp_path: Path, count: int) -> None:
    tiles = [draw(tmp_path / f"t{n}.tif", land_cover(16, 16), left=500_000 + 1.6 * n) for n in range(count)]
    segment(tiles, tmp_path / "map.gpkg", model=Oracle())
    images = [one for one in sources(project_in(tmp_path / "map.gpkg")) if one and one.startswith("./t")]
    assert len(images) == (count if count <= MAX_IMAGES else 0)


def test_a_stretch_is_the_one_that_the_model_saw(tmp_path: Path, write_raster: WriteRaster) -> None:
    source = write_raster(land_cover(40, 40).astype(np.uint16) * 10)
    segment(source, tmp_path / "map.gpkg", model=Oracle(), scale=(0, 2550))
    renderer = project_in(tmp_path / "map.gpkg").find(".//rasterrenderer[@type='multibandcolor']")
    assert renderer is not None
    assert [renderer.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["1", "2", "3"]
    for colour in ("red", "green", "blue"):
        stretch = renderer.find(f"{colour}ContrastEnhancement")
        assert stretch is not None
        assert [float(stretch.findtext(name, "")) for name in ("minValue", "maxValue")] == [0, 2550]


@pytest.mark.parametrize(("masked", "alpha"), [(True, "4"), (False, "-1")])
def test_what_is_masked_is_not_drawn_black(tmp_path: Path, write_raster: WriteRaster, masked: bool, alpha: str) -> None:
    mask = {"mask": land_cover(40, 40)[0] > 1} if masked else {}
    segment(write_raster(land_cover(40, 40), **mask), tmp_path / "map.gpkg", model=Oracle())
    renderer = project_in(tmp_path / "map.gpkg").find(".//rasterrenderer[@type='multibandcolor']")
    assert renderer is not None
    assert renderer.get("alphaBand") == alpha


def test_a_name_that_xml_cannot_hold_costs_the_project_and_nothing_else(tmp_path: Path) -> None:
    assert not Project(tmp_path / "a\x01.gpkg", "").spoken
    path = tmp_path / "a\x01.gpkg"
    aerialseg.polygonize(write(tmp_path / "c.tif", blobs(9, 9)), path)
    with closing(sqlite3.connect(path)) as database:
        assert not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'qgis_projects'").fetchall()
        assert database.execute("SELECT count(*) FROM landcover").fetchone()[0]

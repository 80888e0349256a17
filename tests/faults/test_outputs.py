"""FAULTS.md 24: what other people keep in an output, and every file that is an input, survives --overwrite."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

import aerialseg
from aerialseg.batch.collect import Wanted, collect
from aerialseg.datasets.chipset import check_out
from aerialseg.errors import OutputError, UsageError
from aerialseg.mapping.outputs import Outputs
from aerialseg.mapping.segment import segment
from aerialseg.vector import transplant
from aerialseg.vector.fields import POLYGONS
from aerialseg.vector.geopackage import quoted
from aerialseg.vector.qgis import STYLES
from tests.batch.conftest import Folder, draw
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Oracle
from tests.vector.drawn import blobs, noise, write

OURS = ("landcover", "landcover_by_class")
QGIS_PROJECTS = "CREATE TABLE qgis_projects (name TEXT PRIMARY KEY, metadata BLOB, content BLOB)"
CUSTOM = CRS.from_proj4("+proj=tmerc +lat_0=50 +lon_0=11 +k=0.9999 +x_0=1000 +y_0=2000 +ellps=bessel +units=m")
OTHER = CRS.from_proj4("+proj=laea +lat_0=40 +lon_0=8 +ellps=GRS80 +units=m")


def project(path: Path, crs: Any = 32633) -> Path:
    """Somebody's GeoPackage: parcels with a style and an index, a table, a saved QGIS project, metadata of its own."""
    boxes = [shapely.box(n, 0, n + 1, 1) for n in range(3)]
    parcels = geopandas.GeoDataFrame({"owner": ["by hand", "b", "c"]}, geometry=boxes, crs=crs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OGR_CURRENT_DATE", "2020-01-01T00:00:00.000Z")
        pyogrio.write_dataframe(parcels, path, layer="parcels", layer_metadata={"surveyor": "me"}, VERSION="1.3")
        pyogrio.write_dataframe(parcels.drop(columns="geometry"), path, layer="owners")
        pyogrio.write_dataframe(parcels.iloc[:0], path, layer="nothing yet")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(QGIS_PROJECTS)
        database.execute("INSERT INTO qgis_projects VALUES ('plan', x'00', x'504b0304')")
        database.execute("CREATE VIEW owned AS SELECT * FROM owners")
    return path


def style(path: Path, layer: str) -> None:
    """A style of the user's, saved in the file as QGIS does."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, "
            "f_table_catalog TEXT, f_table_schema TEXT, f_table_name TEXT, f_geometry_column TEXT, styleName TEXT, "
            "styleQML TEXT, styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT, ui TEXT, "
            "update_time DATETIME)"
        )
        database.execute(
            "INSERT INTO layer_styles (f_table_name, f_geometry_column, styleName, styleQML, useAsDefault) "
            "VALUES (?, 'geom', 'mine', '<qgis/>', 1)",
            [layer],
        )


def rows(path: Path, query: str, *values: object) -> list[Any]:
    with closing(sqlite3.connect(path)) as database:
        return sorted(database.execute(query, values).fetchall(), key=repr)


def of_others(path: Path) -> dict[str, list[Any]]:
    """All that the file holds beside our layers: tables, indexes, triggers, and the rows that describe them."""
    found = {}
    objects = rows(path, "SELECT type, name, tbl_name, sql FROM sqlite_master")
    own = ("gpkg_", "sqlite_", *(f"rtree_{name}_" for name in OURS))
    alien = [one for one in objects if one[2] not in (*OURS, "layer_styles") and not one[2].startswith(own)]
    found["sqlite_master"] = alien
    for kind, name, _, _ in alien:
        if kind in ("table", "view"):
            found[name] = rows(path, f'SELECT * FROM "{quoted(name)}"')
    if "qgis_projects" in found:
        found["qgis_projects"] = [one for one in found["qgis_projects"] if one[0] not in OURS]
    tables = {name for kind, name, _, _ in objects if kind == "table"}
    for table in ("gpkg_contents", "gpkg_geometry_columns", "gpkg_extensions", "gpkg_ogr_contents"):
        names = "'landcover', 'landcover_by_class', 'layer_styles', 'gpkg_data_columns', 'gpkg_data_column_constraints'"
        found[table] = rows(path, f"SELECT * FROM {table} WHERE coalesce(table_name, '') NOT IN ({names})")
    if "gpkg_metadata" in tables:
        found["metadata"] = rows(
            path,
            "SELECT r.*, m.* FROM gpkg_metadata_reference r JOIN gpkg_metadata m ON id = md_file_id "
            "WHERE coalesce(table_name, '') NOT IN ('landcover', 'landcover_by_class')",
        )
    mine = "SELECT * FROM layer_styles WHERE styleName = 'mine'"
    found["styles"] = rows(path, mine) if "layer_styles" in tables else []
    return found


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%USING rtree%'").fetchall():
            assert database.execute("SELECT rtreecheck(?)", [name]).fetchone() == ("ok",)
    said = subprocess.run(["ogrinfo", "-so", "-al", str(path)], capture_output=True, text=True, check=True)
    assert said.stderr == ""


def assert_same_layer(path: Path, clean: Path, layer: str = "landcover") -> None:
    one, other = (pyogrio.read_dataframe(file, layer=layer) for file in (path, clean))
    assert one.to_wkb().equals(other.to_wkb())
    assert one.crs == other.crs
    for table, column in (
        ("gpkg_contents", "description"), ("gpkg_contents", "identifier"), ("gpkg_contents", "max_x"),
        ("gpkg_data_columns", "title"), ("gpkg_ogr_contents", "feature_count"), ("gpkg_extensions", "extension_name"),
        ("gpkg_geometry_columns", "geometry_type_name"),
    ):  # fmt: skip
        query = f"SELECT {column} FROM {table} WHERE table_name = ?"
        assert rows(path, query, layer) == rows(clean, query, layer), table
    styles = "SELECT styleQML, styleSLD FROM layer_styles WHERE f_table_name = ? AND styleName = 'land cover'"
    assert rows(path, styles, layer) == rows(clean, styles, layer)
    about = [pyogrio.read_info(file, layer=layer)["layer_metadata"] for file in (path, clean)]
    assert about[0] == about[1]


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return write(tmp_path / "c.tif", blobs(40, 50))


@pytest.mark.slow
def test_row_24_polygonize_overwrites_its_own_layers_alone(tmp_path: Path, classes: Path) -> None:
    path, clean = project(tmp_path / "project.gpkg"), tmp_path / "clean.gpkg"
    style(path, "parcels")
    before = of_others(path)
    assert {"parcels", "owners", "owned", "qgis_projects", "rtree_parcels_geom_node"} <= before.keys()
    assert before["metadata"]
    assert before["styles"]
    for again in range(3):
        smaller = write(tmp_path / "c.tif", blobs(30 + again, 20))
        aerialseg.polygonize(smaller, clean, dissolve=again < 2, overwrite=True)
        aerialseg.polygonize(smaller, path, dissolve=again < 2, overwrite=True)
        assert of_others(path) == before
        assert_sound(path)
        for layer in OURS[: 2 if again < 2 else 1]:
            assert_same_layer(path, clean, layer)
    assert "landcover_by_class" not in pyogrio.list_layers(path)[:, 0]
    for table in ("gpkg_metadata", "gpkg_data_columns", "layer_styles", "gpkg_ogr_contents"):
        assert len(rows(path, f"SELECT * FROM {table}")) == len(rows(clean, f"SELECT * FROM {table}")) + {
            "gpkg_metadata": 1, "gpkg_data_columns": 0, "layer_styles": 1, "gpkg_ogr_contents": 3,
        }[table]  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "clean.gpkg", "project.gpkg"]


def test_row_24_layers_of_ours_with_other_names_stay(tmp_path: Path, classes: Path) -> None:
    path = tmp_path / "years.gpkg"
    aerialseg.polygonize(classes, path, layer="landcover_2025")
    before = rows(path, "SELECT * FROM landcover_2025"), rows(path, "SELECT * FROM layer_styles")
    with pytest.raises(UsageError, match="holds 'landcover_2025': --overwrite adds 'landcover_2026' and keeps every"):
        aerialseg.polygonize(classes, path, layer="landcover_2026")
    aerialseg.polygonize(write(tmp_path / "d.tif", noise(9, 9)), path, layer="landcover_2026", overwrite=True)
    assert rows(path, "SELECT * FROM landcover_2025") == before[0]
    assert set(before[1]) < set(rows(path, "SELECT * FROM layer_styles"))
    assert_sound(path)


def test_row_24_segment_overwrites_its_own_layer_alone(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, path = write_raster(land_cover(64, 64)), project(tmp_path / "project.gpkg")
    before, whole = of_others(path), path.read_bytes()
    with pytest.raises(
        UsageError, match=r"holds 'parcels', .*: --overwrite adds 'landcover' and keeps everything else"
    ):
        segment(source, path, model=Oracle())
    assert path.read_bytes() == whole
    for _ in range(2):
        segment(source, path, model=Oracle(), overwrite=True)
        assert of_others(path) == before
        assert_sound(path)
    segment(source, tmp_path / "clean.gpkg", model=Oracle())
    assert_same_layer(path, tmp_path / "clean.gpkg")
    assert {one for one in os.listdir(tmp_path) if one.startswith(".")} == set()


def test_row_24_collect_overwrites_its_own_layer_alone(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.tif", land_cover(48, 48))
    job = Folder(tmp_path)
    assert job.run().exit_code == 0
    path = project(tmp_path / "city.gpkg")
    before = of_others(path)
    with pytest.raises(UsageError, match=r"holds 'parcels', .*: --overwrite adds 'landcover' and keeps"):
        collect(tmp_path / "night.job", Wanted(layer=path))
    collect(tmp_path / "night.job", Wanted(layer=path, overwrite=True))
    assert of_others(path) == before
    assert_sound(path)
    assert len(pyogrio.read_dataframe(path, layer="landcover"))


def test_row_24_batch_overwrites_its_own_layer_alone(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.tif", land_cover(48, 48))
    (tmp_path / "out").mkdir()
    path = project(tmp_path / "out" / "a.gpkg")
    before = of_others(path)
    assert Folder(tmp_path).run().exit_code == 0
    assert of_others(path) == before
    assert len(pyogrio.read_dataframe(path, layer="landcover"))


def test_row_24_chips_are_not_overwritten_with_other_layers_among_them(tmp_path: Path) -> None:
    boxes = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32633)
    for layer in ("blocks", "chips"):
        boxes.to_file(tmp_path / "chips.gpkg", layer=layer, driver="GPKG")
    (tmp_path / "chips.json").write_text("{}")
    check_out(tmp_path, [], overwrite=True)
    boxes.to_file(tmp_path / "chips.gpkg", layer="my notes", driver="GPKG")
    with pytest.raises(UsageError, match=r"'my notes': move them into another file"):
        check_out(tmp_path, [], overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("made", ["layer", "table", "view"])
def test_row_24_a_layer_of_our_name_that_is_not_ours_is_refused(tmp_path: Path, classes: Path, made: str) -> None:
    path = project(tmp_path / "project.gpkg")
    if made == "layer":
        boxes = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32633)
        boxes.to_file(path, layer="LandCover", driver="GPKG")
    else:
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"CREATE {made} LandCover " + ("(a)" if made == "table" else "AS SELECT 1"))
    before = path.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"'LandCover' that aerialseg did not make.*--layer"):
            aerialseg.polygonize(classes, path, overwrite=overwrite)
    assert path.read_bytes() == before
    aerialseg.polygonize(classes, path, layer="landcover_2026", overwrite=True)
    assert_sound(path)


def test_row_24_a_twin_of_somebody_else_stays_unless_it_is_asked_for(tmp_path: Path, classes: Path) -> None:
    path = project(tmp_path / "project.gpkg")
    boxes = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.box(0, 0, 1, 1)], crs=32633)
    boxes.to_file(path, layer="landcover_by_class", driver="GPKG")
    aerialseg.polygonize(classes, path, overwrite=True)
    assert pyogrio.read_dataframe(path, layer="landcover_by_class").a.tolist() == [1]
    with pytest.raises(UsageError, match="'landcover_by_class' that aerialseg did not make"):
        aerialseg.polygonize(classes, path, overwrite=True, dissolve=True)


def test_row_24_layers_of_the_first_version_are_known_as_ours(tmp_path: Path, classes: Path) -> None:
    path = tmp_path / "map.gpkg"
    aerialseg.polygonize(classes, path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE gpkg_contents SET description = ''")
        database.execute("DROP TABLE gpkg_data_columns")
        database.execute("DROP TABLE gpkg_data_column_constraints")
        database.execute("DELETE FROM gpkg_extensions WHERE extension_name = 'gpkg_schema'")
    style(path, "landcover")
    aerialseg.polygonize(write(tmp_path / "d.tif", noise(9, 9)), path, overwrite=True)
    assert_sound(path)
    assert len(rows(path, "SELECT * FROM gpkg_data_columns")) == len(POLYGONS.fields)


def test_row_24_a_style_and_metadata_that_the_user_gave_our_layer_stay(tmp_path: Path, classes: Path) -> None:
    path = tmp_path / "map.gpkg"
    aerialseg.polygonize(classes, path)
    style(path, "landcover")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO gpkg_metadata VALUES (9, 'dataset', 'http://mrcc.com/qgis.dtd', 'text/xml', 'x')")
        database.execute(
            "INSERT INTO gpkg_metadata_reference "
            "VALUES ('table', 'landcover', NULL, NULL, '2020-01-01T00:00:00Z', 9, NULL)"
        )
    aerialseg.polygonize(classes, path, overwrite=True)
    default = "SELECT styleName FROM layer_styles WHERE useAsDefault AND f_table_name = 'landcover'"
    assert rows(path, default) == [("mine",)]
    assert len(rows(path, "SELECT * FROM layer_styles")) == 1 + len(STYLES)
    kept = "SELECT timestamp FROM gpkg_metadata_reference JOIN gpkg_metadata ON id = md_file_id WHERE metadata = 'x'"
    assert rows(path, kept) == [("2020-01-01T00:00:00Z",)]
    assert len(rows(path, "SELECT * FROM gpkg_metadata")) == 3
    assert_sound(path)


def test_row_24_our_project_is_replaced_and_one_that_the_user_saved_stays(tmp_path: Path, classes: Path) -> None:
    path, ask = project(tmp_path / "map.gpkg"), "SELECT name, metadata, content FROM qgis_projects"
    aerialseg.polygonize(classes, path, overwrite=True)
    first = rows(path, ask)
    assert [name for name, _, _ in first] == ["landcover", "plan"]
    aerialseg.polygonize(write(tmp_path / "d.tif", noise(9, 9)), path, overwrite=True)
    second = rows(path, ask)
    assert second[0] != first[0]
    assert second[1] == first[1]
    theirs = '{"last_modified_time": "2026-11-30T20:28:00", "last_modified_user": "me" }'
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE qgis_projects SET metadata = ?, content = '504b' WHERE name = 'landcover'", [theirs])
    aerialseg.polygonize(classes, path, overwrite=True)
    assert rows(path, ask)[0] == ("landcover", theirs, "504b")
    assert_sound(path)


def test_row_24_a_saved_project_alone_keeps_the_file_from_being_replaced_as_a_whole(
    tmp_path: Path, classes: Path
) -> None:
    path = tmp_path / "map.gpkg"
    aerialseg.polygonize(classes, path)
    before = path.read_bytes()
    aerialseg.polygonize(classes, path, overwrite=True)
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO qgis_projects VALUES ('plan', '{}', '504b')")
    with pytest.raises(UsageError, match="holds 'landcover': --overwrite replaces"):
        aerialseg.polygonize(classes, path)
    aerialseg.polygonize(classes, path, overwrite=True)
    assert [row[0] for row in rows(path, "SELECT name FROM qgis_projects")] == ["landcover", "plan"]


@pytest.mark.slow
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:2056", CUSTOM.to_wkt(), None])
def test_row_24_each_layer_keeps_its_coordinate_system(tmp_path: Path, crs: str | None) -> None:
    path, clean = project(tmp_path / "project.gpkg", OTHER), tmp_path / "clean.gpkg"
    before, parcels = of_others(path), pyogrio.read_dataframe(path, layer="parcels").crs
    source = write(tmp_path / "c.tif", blobs(20, 20), crs=crs)
    for file in (path, clean):
        aerialseg.polygonize(source, file, overwrite=True)
    assert of_others(path) == before
    assert pyogrio.read_dataframe(path, layer="parcels").crs == parcels
    assert_same_layer(path, clean)
    assert_sound(path)


@pytest.mark.parametrize("kind", ["text", "page of zeros", "SQLite", "truncated", "garbled"])
def test_row_24_what_is_no_sound_geopackage_is_not_replaced(tmp_path: Path, classes: Path, kind: str) -> None:
    path = tmp_path / "notes.gpkg"
    if kind == "SQLite":
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE diary (day)")
    elif kind in ("truncated", "garbled"):
        project(path)
        with open(path, "r+b") as file:
            if kind == "truncated":
                file.truncate(path.stat().st_size - 4096)
            else:
                file.seek(100)
                file.write(os.urandom(3000))
    else:
        path.write_bytes(b"my notes" if kind == "text" else bytes(4096))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"exists: .*GeoPackage"):
        aerialseg.polygonize(classes, path)
    with pytest.raises(OutputError, match=r"notes\.gpkg is .*GeoPackage.* not replaced: rename it"):
        aerialseg.polygonize(classes, path, overwrite=True)
    assert path.read_bytes() == before


def test_row_24_an_empty_file_or_a_geopackage_of_ours_alone_is_replaced_whole(tmp_path: Path, classes: Path) -> None:
    path = tmp_path / "map.gpkg"
    path.touch()
    aerialseg.polygonize(write(tmp_path / "big.tif", noise(200, 200)), path, overwrite=True)
    large = path.stat().st_size
    aerialseg.polygonize(write(tmp_path / "small.tif", noise(5, 5)), path, overwrite=True)
    assert path.stat().st_size < large


def test_row_24_a_geopackage_closed_in_wal_mode_is_taken_and_left_without_logs(tmp_path: Path, classes: Path) -> None:
    path = project(tmp_path / "project.gpkg")
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    before = of_others(path)
    aerialseg.polygonize(classes, path, overwrite=True)
    assert of_others(path) == before
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "project.gpkg"]


def test_row_24_an_edit_made_meanwhile_is_not_lost(
    tmp_path: Path, classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copied = project(tmp_path / "project.gpkg"), transplant._copy_layer

    def edited(*given: Any) -> None:
        copied(*given)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE owners SET owner = 'someone new'")

    monkeypatch.setattr(transplant, "_copy_layer", edited)
    with pytest.raises(OutputError, match="changed by another program"):
        aerialseg.polygonize(classes, path, overwrite=True)
    assert set(rows(path, "SELECT owner FROM owners")) == {("someone new",)}
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "project.gpkg"]


KILLED = """
import os, signal, sys
import aerialseg
from aerialseg.vector import transplant, writing
module, name = sys.argv[1].split(".")
module = {"transplant": transplant, "writing": writing, "os": os}[module]
done = getattr(module, name)
def killed(*given, **named):
    if module is not os or str(given[1]).endswith("project.gpkg"):
        if sys.argv[2] == "after":
            done(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    return done(*given, **named)
setattr(module, name, killed)
aerialseg.polygonize("c.tif", "project.gpkg", overwrite=True)
"""


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "when"),
    [("transplant.copy_database", "after"), ("transplant._drop_layers", "after"), ("transplant._copy_layer", "after"),
     ("os.replace", "before"), ("os.replace", "after")],
)  # fmt: skip
def test_row_24_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path, where: str, when: str) -> None:
    write(tmp_path / "c.tif", noise(30, 30))
    path = project(tmp_path / "project.gpkg")
    aerialseg.polygonize(write(tmp_path / "d.tif", noise(9, 9)), path, overwrite=True)
    before, whole = of_others(path), path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, where, when], cwd=tmp_path, timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert (path.read_bytes() == whole) == ((where, when) != ("os.replace", "after"))
    assert_sound(path)
    assert of_others(path) == before
    aerialseg.polygonize(tmp_path / "c.tif", path, overwrite=True)
    assert of_others(path) == before
    assert sorted(os.listdir(tmp_path)) == ["c.tif", "d.tif", "project.gpkg"]


@pytest.mark.slow
def test_row_24_killed_at_any_time_the_file_is_sound(tmp_path: Path) -> None:
    write(tmp_path / "c.tif", noise(600, 600))
    path = project(tmp_path / "project.gpkg")
    before, whole = of_others(path), path.read_bytes()
    code = "import aerialseg; print('go', flush=True); aerialseg.polygonize('c.tif', 'project.gpkg', overwrite=True)"
    for part in (1, 2):  # files under way that are waited for before the kill
        with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            while len(list(tmp_path.glob(".*.part.gpkg"))) < part and process.poll() is None:
                time.sleep(0.002)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert path.read_bytes() == whole
        assert_sound(path)
        assert of_others(path) == before


def alias(path: Path, how: str, name: str) -> Path:
    """Another name of a file."""
    other = path.with_name(name)
    if how == "path":
        path.rename(other)
    elif how == "symlink":
        other.symlink_to(path)
    else:
        os.link(path, other)
    return other


@pytest.mark.parametrize("how", ["path", "symlink", "hard link"])
@pytest.mark.parametrize("end", [".ovr", ".msk", ".aux.xml"])
@pytest.mark.parametrize("product", ["raster", "confidence"])
def test_row_24_an_input_named_as_a_sidecar_of_an_output_is_refused(
    tmp_path: Path, write_raster: WriteRaster, how: str, end: str, product: str
) -> None:
    source = write_raster(land_cover(64, 64))
    beside = alias(source, how, f"x.tif{end}")
    source = beside if how == "path" else source
    before = source.read_bytes()
    with pytest.raises(UsageError, match=rf"x\.tif would replace or remove .*x\.tif\{end}, which is the input itself"):
        segment(source, tmp_path / "o.gpkg", model=Oracle(), overwrite=True, **{product: tmp_path / "x.tif"})
    assert source.read_bytes() == beside.read_bytes() == before
    assert not (tmp_path / "o.gpkg").exists()


@pytest.mark.parametrize("how", ["symlink", "hard link"])
@pytest.mark.parametrize("end", [".ovr", ".msk", ".aux.xml"])
def test_row_24_an_output_that_is_a_sidecar_of_the_input_is_refused(tmp_path: Path, how: str, end: str) -> None:
    source, sidecar = tmp_path / "ortho.tif", tmp_path / f"ortho.tif{end}"
    source.write_bytes(b"pixels")
    sidecar.write_bytes(b"mask")
    beside = alias(sidecar, how, "mask.tif")
    with pytest.raises(UsageError, match=r"mask\.tif is a file that belongs to the input"):
        Outputs.check(source, tmp_path / "o.gpkg", beside, overwrite=True)


def test_row_24_other_files_that_polygonize_reads_are_inputs_too(tmp_path: Path, classes: Path) -> None:
    rated = write(tmp_path / "f.tif", np.full((40, 50), 7))
    os.link(rated, tmp_path / "map.gpkg")
    with pytest.raises(UsageError, match="is the input itself"):
        aerialseg.polygonize(classes, tmp_path / "map.gpkg", confidence=rated, overwrite=True)


def test_row_24_collect_does_not_replace_what_it_collects(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "a.tif", land_cover(48, 48))
    assert Folder(tmp_path).run().exit_code == 0
    for path in (tmp_path / "out" / "a.tif", tmp_path / "in" / "a.tif"):
        before = path.read_bytes()
        with pytest.raises(UsageError, match="is the input itself"):
            collect(tmp_path / "night.job", Wanted(mosaic=path, overwrite=True))
        assert path.read_bytes() == before


def edit_layer(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "map.gpkg")) as database, database:
        database.execute("CREATE TABLE notes (a)")
    return folder / "map.gpkg"


def edit_raster(folder: Path) -> Path:
    with open(folder / "x.tif", "ab") as file:
        file.write(b"more")
    return folder / "x.tif"


def edit_names(folder: Path) -> Path:
    (folder / "x.tif.aux.xml").write_text("<PAMDataset/>")
    return folder / "x.tif.aux.xml"


def replace_raster(folder: Path) -> Path:
    shutil.copy2(folder / "x.tif", folder / "copy.tif")
    os.replace(folder / "copy.tif", folder / "x.tif")
    return folder / "x.tif"


def add_overviews(folder: Path) -> Path:
    (folder / "x.tif.ovr").write_bytes(b"by hand")
    return folder / "x.tif.ovr"


@pytest.mark.slow
@pytest.mark.parametrize("edit", [edit_layer, edit_raster, edit_names, replace_raster, add_overviews])
def test_row_24_a_kept_run_replaces_only_what_it_published_itself(
    tmp_path: Path, write_raster: WriteRaster, edit: Callable[[Path], Path]
) -> None:
    source = write_raster(land_cover(64, 64))
    options: dict[str, Any] = {"model": Oracle(), "raster": tmp_path / "x.tif", "keep_run": tmp_path / "run"}
    for _ in range(3):  # untouched, its own results may be replaced
        segment(source, tmp_path / "map.gpkg", **options)
    edited = edit(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(
        UsageError, match=rf"{edited.name} (was changed since this run wrote it|exists): add --overwrite"
    ):
        segment(source, tmp_path / "map.gpkg", **options)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    segment(source, tmp_path / "map.gpkg", overwrite=True, **options)
    segment(source, tmp_path / "map.gpkg", **options)


def test_row_24_a_kept_run_keeps_the_layers_that_were_added_to_its_output(
    tmp_path: Path, write_raster: WriteRaster
) -> None:
    source, path = write_raster(land_cover(64, 64)), project(tmp_path / "project.gpkg")
    before = of_others(path)
    segment(source, path, model=Oracle(), keep_run=tmp_path / "run", overwrite=True)
    segment(source, path, model=Oracle(), keep_run=tmp_path / "run")
    assert of_others(path) == before


def test_row_24_what_was_edited_during_the_run_is_not_replaced(tmp_path: Path, write_raster: WriteRaster) -> None:
    source, path = write_raster(land_cover(64, 64)), tmp_path / "map.gpkg"
    segment(source, path, model=Oracle(), keep_run=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "blocks")
    (tmp_path / "run" / "mosaic.json").unlink()

    class Meddling(Oracle):
        def predict(self, tile):  # type: ignore[no-untyped-def]
            edit_layer(tmp_path)
            return super().predict(tile)

    with pytest.raises(UsageError, match="was changed since"):
        segment(source, path, model=Meddling(), keep_run=tmp_path / "run")
    assert rows(path, "SELECT name FROM sqlite_master WHERE name = 'notes'")

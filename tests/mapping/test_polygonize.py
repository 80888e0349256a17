"""aerialseg polygonize: any categorical raster into a layer, as a library call and as a shell sees it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine
from click.testing import CliRunner

import aerialseg
from aerialseg.cli.polygonize_command import polygonize_command
from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.legend import LandClass, Legend
from aerialseg.locks import locked
from aerialseg.mapping.outputs import lock_of
from tests.vector.drawn import blobs

SCRIPT = Path(sys.executable).parent / "aerialseg"
PLACE = {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 500_000, 0, -0.5, 5_000_000)}


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), "polygonize", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=250)


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has everything imported already: a process of its own costs a second."""
    done = CliRunner().invoke(polygonize_command, [*map(str, arguments)], prog_name="aerialseg polygonize")
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def raster(path: Path, values: np.ndarray, **profile: object) -> Path:
    height, width = values.shape
    settings = {"driver": "GTiff", "count": 1, "dtype": values.dtype, **PLACE, **profile}
    with rasterio.open(path, "w", height=height, width=width, **settings) as file:
        file.write(values, 1)
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    return raster(tmp_path / "c.tif", blobs(40, 50), nodata=255)


@pytest.mark.slow
def test_the_command_prints_the_paths_made_and_nothing_else_on_stdout(tmp_path: Path, classes: Path) -> None:
    done = run(classes, "map.fgb", "--dissolve", "--smooth", "--min-area", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["map.fgb", "map.qml", "map_by_class.fgb", "map_by_class.qml"]
    assert done.stdout.splitlines() == [str(tmp_path / name) for name in names]
    assert "Drawing polygons" in done.stderr
    assert "polygons over" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.tif", *names]


def test_uint16_ids_beyond_255_and_no_nodata(tmp_path: Path) -> None:
    values = np.array([[0, 0, 255], [300, 300, 65_535]], np.uint16)
    result = aerialseg.polygonize(raster(tmp_path / "c.tif", values), tmp_path / "map.gpkg", simplify_m=0)
    frame = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover")
    assert frame.class_id.tolist() == [0, 255, 300, 65_535]
    assert frame.class_name.tolist() == ["class 0", "class 255", "class 300", "class 65535"]
    assert frame.pixels.tolist() == [2, 1, 2, 1]
    assert result.paths == (tmp_path / "map.gpkg",)
    assert {line.class_id: line.area_m2 for line in result.classes} == {0: 0.5, 255: 0.25, 300: 0.5, 65_535: 0.25}


def test_a_palette_raster_names_and_colours_its_layer_itself(tmp_path: Path) -> None:
    from aerialseg.raster.cog import write_cog

    legend = Legend((LandClass(1, "Büsche & <Bäume>", (1, 200, 3)), LandClass(4, "roof", (200, 5, 6))))
    drawn = raster(tmp_path / "plain.tif", np.array([[1, 1, 4], [4, 4, 4]], np.uint8))
    write_cog(drawn, tmp_path / "c.tif", legend=legend, metadata={})
    result = aerialseg.polygonize(tmp_path / "c.tif", tmp_path / "map.fgb")
    assert set(pyogrio.read_dataframe(tmp_path / "map.fgb").class_name) == set(legend.names)
    assert {line.name: line.color for line in result.classes} == {entry.name: entry.hex for entry in legend}
    assert 'value="200,5,6,255"' in (tmp_path / "map.qml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"},
        {"blockysize": 1},
        {"blockysize": 7, "compress": "lzw"},
        {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 13, 0, -1e-4, 52)},
        {"crs": None},
    ],
)
def test_any_layout_and_place_gives_the_same_classes_and_pixels(tmp_path: Path, layout: dict[str, object]) -> None:
    drawn = blobs(40, 50)
    for name, profile in (("a", {}), ("b", layout)):
        aerialseg.polygonize(
            raster(tmp_path / f"{name}.tif", drawn, nodata=255, **profile), tmp_path / f"{name}.gpkg", simplify_m=0
        )
    a, b = (pyogrio.read_dataframe(tmp_path / f"{name}.gpkg", layer="landcover") for name in "ab")
    assert a.class_id.tolist() == b.class_id.tolist()
    assert a.pixels.tolist() == b.pixels.tolist()


def test_a_raster_without_any_place_comes_to_lie_where_qgis_draws_it(tmp_path: Path) -> None:
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = raster(tmp_path / "c.tif", np.array([[1, 2]], np.uint8), crs=None, transform=None)
    aerialseg.polygonize(path, tmp_path / "map.gpkg", simplify_m=0)
    frame = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover")
    assert frame.total_bounds.tolist() == [0, -1, 2, 0]


def test_units_are_those_of_the_ground(tmp_path: Path, classes: Path) -> None:
    aerialseg.polygonize(classes, tmp_path / "map.gpkg", min_area_m2=5, simplify_m=0)
    frame = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover")
    touching = shapely.STRtree(frame.geometry.values).query(frame.geometry.values, predicate="touches")[0]
    small = frame[frame.area_m2 < 5]
    assert set(small.index).isdisjoint(touching)
    assert (frame.area_m2 / frame.pixels).unique() == pytest.approx([0.25])


def test_a_legend_is_a_file_or_an_object(tmp_path: Path, classes: Path) -> None:
    legend = Legend(tuple(LandClass(i, f"name {i}", (i, i, i)) for i in range(5)))
    legend.to_csv(tmp_path / "l.csv")
    for given in (legend, tmp_path / "l.csv"):
        aerialseg.polygonize(classes, tmp_path / "map.gpkg", legend=given, overwrite=True)
        frame = pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover")
        assert set(frame.class_name) <= set(legend.names)


def test_workers_change_no_byte_of_the_polygons(tmp_path: Path, classes: Path) -> None:
    found = []
    for workers in (1, 4):
        aerialseg.polygonize(classes, tmp_path / "map.gpkg", workers=workers, smooth=True, overwrite=True)
        found.append(pyogrio.read_dataframe(tmp_path / "map.gpkg", layer="landcover").to_wkb())
    assert found[0].equals(found[1])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{c}"], 2, "Missing argument"),
        (["{c}", "map.shp"], 2, ".gpkg, .fgb, .parquet or .geojson"),
        (["{c}", "{c}", "--overwrite"], 2, "must end in"),
        (["{c}", "old.gpkg"], 2, "old.gpkg is not a GeoPackage"),
        (["{c}", "old.gpkg", "--overwrite"], 5, "old.gpkg is not a GeoPackage"),
        (["{c}", "old.fgb"], 2, "old.qml exists: add --overwrite"),
        (["{c}", "map.gpkg", "--min-area", "-1"], 2, "wanted 0 or more"),
        (["{c}", "map.gpkg", "--workers", "0"], 2, "wanted 1 or more"),
        (["{c}", "map.gpkg", "--layer", "gpkg_contents"], 2, "--layer"),
        (["nowhere.tif", "map.gpkg"], 3, "nowhere.tif"),
        ([".", "map.gpkg"], 3, "is a folder"),
        (["page.tif", "map.gpkg"], 3, "HTML page"),
        (["https://example.org/c.tif", "map.gpkg"], 3, "not a local file"),
        (["float.tif", "map.gpkg"], 3, "0.5"),
        (["bands.tif", "map.gpkg"], 3, "3 bands"),
        (["{c}", "map.gpkg", "--legend", "short.csv"], 3, "class 1 is in the raster but not in the legend"),
        (["{c}", "map.gpkg", "--legend", "nowhere.csv"], 3, "nowhere.csv"),
        (["{c}", "map.gpkg", "--confidence", "float.tif"], 3, "float.tif"),
        (["{c}", "map.gpkg", "--max-pixels", "100"], 3, "--max-pixels"),
        (["{c}", "nowhere/map.gpkg"], 5, "does not exist"),
        (["{c}", "open.gpkg", "--overwrite"], 5, "open in another program"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line_and_the_right_exit_code(
    tmp_path: Path,
    classes: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    raster(tmp_path / "float.tif", np.full((40, 50), 0.5, np.float32))
    with rasterio.open(tmp_path / "bands.tif", "w", driver="GTiff", count=3, height=2, width=2, dtype="uint8", **PLACE):
        pass
    (tmp_path / "short.csv").write_text("id,name,r,g,b\n0,a,1,2,3\n")
    (tmp_path / "page.tif").write_text("<html>")
    for name in ("old.gpkg", "old.qml", "open.gpkg", "open.gpkg-wal"):
        (tmp_path / name).write_text("old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    done = here(*(argument.format(c=classes) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert capfd.readouterr() == ("", ""), "what GDAL says past Python"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "code"), [(["c.tif"], 2), (["nowhere.tif", "map.gpkg"], 3)])
def test_a_process_that_fails_ends_as_the_command_does(
    tmp_path: Path, classes: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    done, told = run(*arguments), here(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    ended, said = (re.sub(r"^\d\d:\d\d:\d\d ", "", one.stderr, flags=re.M) for one in (done, told))
    assert ended == said


def test_the_input_is_never_the_output_by_whatever_name(tmp_path: Path, classes: Path) -> None:
    os.link(classes, tmp_path / "map.gpkg")
    with pytest.raises(UsageError, match="is the input itself"):
        aerialseg.polygonize(classes, tmp_path / "map.gpkg", overwrite=True)


def test_row_23_the_second_of_two_polygonize_for_one_output_is_refused(tmp_path: Path, classes: Path) -> None:
    lock = locked(lock_of(tmp_path / "map.gpkg"), lambda: "x", remove=True)
    with lock, pytest.raises(OutputError, match="in use by another run"):
        aerialseg.polygonize(classes, tmp_path / "map.gpkg")
    aerialseg.polygonize(classes, tmp_path / "map.gpkg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.tif", "map.gpkg"]


def test_a_damaged_raster_is_an_input_error(tmp_path: Path) -> None:
    path = raster(tmp_path / "c.tif", blobs(300, 300), compress="deflate")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"c\.tif"):
        aerialseg.polygonize(path, tmp_path / "map.gpkg")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c.tif"]


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("ending", ["gpkg", "fgb", "parquet", "geojson"])
@pytest.mark.parametrize("after_s", [0.0, 0.15])
def test_told_to_stop_it_leaves_nothing_and_the_older_file(tmp_path: Path, ending: str, after_s: float) -> None:
    source = raster(tmp_path / "c.tif", np.random.default_rng(0).integers(0, 4, (900, 900), dtype=np.uint8))
    older = raster(tmp_path / "older.tif", np.zeros((2, 2), np.uint8))
    aerialseg.polygonize(older, tmp_path / f"map.{ending}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    command = [str(SCRIPT), "polygonize", str(source), str(tmp_path / f"map.{ending}"), "--overwrite"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not list(tmp_path.glob(f".*.part.{ending}")):
            time.sleep(0.02)
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    if process.returncode == 0:
        pytest.skip("it was done before it could be stopped")
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

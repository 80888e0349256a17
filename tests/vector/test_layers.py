"""The GeoPackage: what is in it, what it says about itself, and what happens when it cannot be written."""

from __future__ import annotations

import functools
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from pyproj import Geod

from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.vector import layers, polygons, rows, writing
from aerialseg.vector.layers import polygonize
from aerialseg.vector.writing import NewLayers
from tests.vector.drawn import LEGEND, NORTH_UP, PIXELS, blobs, layer_of, noise, write

DEGREES = Affine(2e-4, 0, 13.4, 0, -2e-4, 52.5)
FIELDS = ["class_id", "class_name", "area_m2", "perimeter_m", "confidence", "confidence_min", "pixels", "checked"]
WHEN = datetime(2026, 11, 22, 12, tzinfo=UTC)


def ogrinfo(path: Path) -> str:
    try:
        done = subprocess.run(["ogrinfo", "-al", "-so", str(path)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("ogrinfo is not installed (Debian package gdal-bin)")
    assert not done.stderr
    return done.stdout


def test_every_polygon_has_class_name_area_and_confidence(tmp_path: Path) -> None:
    drawn = np.array([[0, 0, 1], [0, 255, 1]], np.uint8)
    percent = np.array([[90, 60, 10], [30, 255, 30]], np.uint8)
    frame, info, _ = layer_of(tmp_path, drawn, percent)
    assert list(frame.columns) == [*FIELDS, "geometry"]
    assert frame.class_id.tolist() == [0, 1]
    assert frame.class_name.tolist() == ["class 0", "class 1"]
    assert frame.area_m2.tolist() == pytest.approx([3 * 0.0025, 2 * 0.0025])
    assert frame.perimeter_m.tolist() == pytest.approx([8 * 0.05, 6 * 0.05])
    assert frame.confidence.tolist() == pytest.approx([0.6, 0.2])
    assert frame.confidence_min.tolist() == pytest.approx([0.3, 0.1])
    assert frame.pixels.tolist() == [3, 2]
    assert info.polygons == 2
    assert info.pixels == {0: 3, 1: 2}
    assert info.area_m2 == pytest.approx({0: 0.0075, 1: 0.005})
    assert info.merged == 0


def test_confidence_is_that_of_the_pixels_as_classified_also_after_merging(tmp_path: Path) -> None:
    drawn = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.uint8)
    percent = np.where(drawn == 1, 10, 55).astype(np.uint8)
    frame, info, _ = layer_of(tmp_path, drawn, percent, min_pixels=2)
    assert frame.confidence.tolist() == pytest.approx([(8 * 0.55 + 0.1) / 9])
    assert frame.confidence_min.tolist() == pytest.approx([0.1])
    assert frame.pixels.tolist() == [9]
    assert (info.merged, info.polygons) == (1, 1)


def test_without_a_confidence_raster_confidence_is_null(tmp_path: Path) -> None:
    _, _, path = layer_of(tmp_path, noise(5, 5))
    with closing(sqlite3.connect(path)) as database:
        assert set(database.execute("SELECT confidence, confidence_min FROM landcover")) == {(None, None)}


def test_the_areas_of_the_file_are_those_of_its_polygons(tmp_path: Path) -> None:
    drawn = blobs(120, 130)
    frame, info, _ = layer_of(tmp_path, drawn, tolerance_px=2.0)
    assert np.allclose(frame.area_m2, frame.geometry.area, rtol=1e-5)
    assert frame.area_m2.sum() == pytest.approx((drawn != NODATA).sum() * 0.0025)
    assert info.vertices == shapely.get_num_coordinates(frame.geometry.values).sum()
    for one, area in info.area_m2.items():
        assert area == pytest.approx(frame.area_m2[frame.class_id == one].sum())


def test_written_in_parts_or_at_once_it_is_the_same_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = noise(40, 40)
    whole, _, _ = layer_of(tmp_path, drawn, strip_rows=64)
    in_parts = functools.partial(polygons.make_polygons, batch=400)
    monkeypatch.setattr(rows, "make_polygons", in_parts)
    parts, _, path = layer_of(tmp_path, drawn, strip_rows=7)
    assert whole.equals(parts)
    assert geopandas.read_file(path, layer="landcover", bbox=tuple(whole.geometry[5].bounds)).shape[0] > 0


def test_the_file_is_byte_identical_when_the_time_is_given(tmp_path: Path) -> None:
    files = [layer_of(tmp_path, noise(20, 20), timestamp=WHEN, metadata={"b": "1"})[2].read_bytes() for _ in range(2)]
    assert files[0] == files[1]
    assert b"2026-11-22T12:00:00.000Z" in files[0]


def test_nothing_is_left_beside_the_file_and_an_older_one_is_replaced(tmp_path: Path) -> None:
    layer_of(tmp_path, noise(5, 5))
    frame, _, path = layer_of(tmp_path, noise(9, 9))
    assert len(geopandas.read_file(path, layer="landcover")) == len(frame)
    assert sorted(os.listdir(tmp_path)) == ["classes.tif", "landcover.gpkg"]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(("crs", "transform"), [("EPSG:32633", NORTH_UP), ("EPSG:4326", DEGREES), (None, PIXELS)])
def test_gdal_reads_it_without_a_word_of_complaint(tmp_path: Path, crs: str | None, transform: Affine) -> None:
    given = {"model": "default", "source": "ortho.tif"}
    frame, _, path = layer_of(tmp_path, blobs(50, 60), crs=crs, transform=transform, metadata=given)
    said = ogrinfo(path)
    assert f"Feature Count: {len(frame)}" in said
    assert "Geometry: Polygon" in said
    assert "model=default" in said
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (10300,)
        assert ("gpkg_rtree_index",) in database.execute("SELECT extension_name FROM gpkg_extensions").fetchall()
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert dict(database.execute("SELECT table_name, data_type FROM gpkg_contents")) == {
            "landcover": "features",
            "layer_styles": "attributes",
        }


def test_nodata_alone_gives_an_empty_layer_with_everything_a_layer_has(tmp_path: Path) -> None:
    frame, info, path = layer_of(tmp_path, np.full((4, 5), NODATA, np.uint8), np.full((4, 5), NODATA, np.uint8))
    assert len(frame) == 0
    assert info == layers.LayerInfo(0, 0, {}, {}, 0, LEGEND)
    about = pyogrio.read_info(path, layer="landcover")
    assert about["geometry_type"] == "Polygon"
    assert about["crs"] == "EPSG:32633"
    assert about["fields"].tolist() == FIELDS
    assert about["dtypes"].tolist() == ["int32", "object", "float64", "float64", "float64", "float64", "int64", "bool"]
    assert "Feature Count: 0" in ogrinfo(path)


def test_areas_in_degrees_are_those_of_the_ellipsoid(tmp_path: Path) -> None:
    drawn = blobs(60, 70)
    frame, _, _ = layer_of(tmp_path, drawn, transform=DEGREES, crs="EPSG:4326")
    geod = Geod(ellps="WGS84")
    true = [abs(geod.geometry_area_perimeter(one)[0]) for one in frame.geometry]
    assert np.allclose(frame.area_m2, true, rtol=5e-5, atol=0.1)  # a parallel is no geodesic


def test_areas_in_web_mercator_are_those_of_the_ground(tmp_path: Path) -> None:
    drawn = blobs(60, 70)
    transform = Affine(20, 0, 1_491_636, 0, -20, 6_894_701)
    frame, _, _ = layer_of(tmp_path, drawn, transform=transform, crs="EPSG:3857")
    geod = Geod(ellps="WGS84")
    true = [abs(geod.geometry_area_perimeter(one)[0]) for one in frame.to_crs(4326).geometry]
    assert np.allclose(frame.area_m2, true, rtol=5e-5, atol=0.1)  # a parallel is no geodesic
    assert frame.area_m2.sum() < 0.5 * frame.geometry.area.sum()


def test_areas_in_feet_are_in_square_metres(tmp_path: Path) -> None:
    frame, _, _ = layer_of(tmp_path, np.zeros((10, 10)), transform=Affine(1, 0, 6e6, 0, -1, 2e6), crs="EPSG:2229")
    assert frame.area_m2[0] == pytest.approx(100 * (1200 / 3937) ** 2)


def test_without_crs_areas_are_in_pixels(tmp_path: Path) -> None:
    frame, _, _ = layer_of(tmp_path, np.zeros((10, 10)), transform=Affine(3, 0, 7, 0, -3, 9), crs=None)
    assert frame.area_m2[0] == 100
    assert frame.crs is None or not frame.crs.is_geographic


def test_without_crs_the_size_of_a_pixel_tells_the_areas(tmp_path: Path) -> None:
    drawn = blobs(60, 70)
    for transform in (PIXELS, Affine(3, 0, 7, 0, -3, 9)):
        frame, info, _ = layer_of(tmp_path, drawn, transform=transform, crs=None, pixel_m=(0.25, 0.5))
        assert sum(info.area_m2.values()) == pytest.approx((drawn != NODATA).sum() * 0.125)
        assert np.allclose(frame.area_m2, frame.geometry.area / abs(transform.determinant) * 0.125)


def test_a_crs_knows_better_than_the_size_that_is_told(tmp_path: Path) -> None:
    frame, _, _ = layer_of(tmp_path, np.zeros((10, 10)), pixel_m=(3, 3))
    assert frame.area_m2[0] == pytest.approx(0.25)


def test_progress_goes_up_to_one(tmp_path: Path) -> None:
    told: list[float] = []
    layer_of(tmp_path, noise(40, 20), strip_rows=10, progress=told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == 1


def test_a_class_without_a_name_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="class 9 is in the raster but not in the legend"):
        layer_of(tmp_path, np.full((2, 2), 9, np.uint8))


def test_names_of_any_kind_come_through(tmp_path: Path) -> None:
    legend = Legend((LandClass(0, 'Wiese & <Büsche> "x"\'', (1, 2, 3)), LandClass(1, "水", (4, 5, 6))))
    raster = write(tmp_path / "c.tif", np.array([[0, 1]], np.uint8))
    path = tmp_path / "häuser & co\n.zip!x.gpkg"
    polygonize(raster, None, path, legend=legend)
    with closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT class_name FROM landcover ORDER BY fid")]
    assert names == list(legend.names)


def test_a_confidence_raster_of_another_size_is_an_error(tmp_path: Path) -> None:
    raster, other = write(tmp_path / "c.tif", noise(4, 4)), write(tmp_path / "f.tif", noise(4, 5))
    with pytest.raises(InputError, match="5 x 4 px: wanted 4 x 4"):
        polygonize(raster, other, tmp_path / "o.gpkg", legend=LEGEND)


@pytest.mark.parametrize("wrong", [{"min_pixels": -1}, {"tolerance_px": -0.5}, {"tolerance_px": float("nan")}])
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        polygonize(tmp_path / "c.tif", None, tmp_path / "o.gpkg", legend=LEGEND, **wrong)  # type: ignore[arg-type]


def test_a_raster_that_is_none_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "c.tif").write_text("<html>")
    with pytest.raises(InputError, match=r"c\.tif"):
        polygonize(tmp_path / "c.tif", None, tmp_path / "o.gpkg", legend=LEGEND)


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    raster = write(tmp_path / "c.tif", noise(4, 4))
    with pytest.raises(OutputError, match="nowhere"):
        polygonize(raster, None, tmp_path / "nowhere" / "o.gpkg", legend=LEGEND)
    (tmp_path / "folder.gpkg").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        polygonize(raster, None, tmp_path / "folder.gpkg", legend=LEGEND)


def test_a_name_of_255_bytes_works(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".gpkg")
    polygonize(write(tmp_path / "c.tif", noise(4, 4)), None, path, legend=LEGEND)
    assert path.exists()


def test_when_it_fails_the_older_file_stays_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, path = layer_of(tmp_path, noise(9, 9))
    before = path.read_bytes()
    for where, name in (
        (NewLayers, "finish"),
        (NewLayers, "write"),
        (writing, "complete_geopackage"),
        (rows.Rows, "_add"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                layer_of(tmp_path, noise(8, 8))
        assert path.read_bytes() == before
        assert sorted(os.listdir(tmp_path)) == ["classes.tif", "landcover.gpkg"]


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [0, 40, 120, 160])
def test_row_21_a_full_disk_leaves_no_geopackage(tmp_path: Path, kilobytes: int) -> None:
    """A limit on the file's size fails like a full disk, at whichever write comes first; 184 kB would be needed."""
    raster = write(tmp_path / "c.tif", noise(30, 30))
    script = f"""
        import resource, signal
        from pathlib import Path
        from aerialseg.errors import OutputError
        from aerialseg.vector import layers
        from tests.vector.drawn import LEGEND
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        folder = Path({str(tmp_path)!r})
        layers.polygonize(folder / "c.tif", None, folder / "whole.gpkg", legend=LEGEND)
        assert (folder / "whole.gpkg").stat().st_size > 161 * 1024
        resource.setrlimit(resource.RLIMIT_FSIZE, ({kilobytes} * 1024, resource.RLIM_INFINITY))
        try:
            layers.polygonize(folder / "c.tif", None, folder / "o.gpkg", legend=LEGEND)
        except OutputError as error:
            print("said:", error)
        assert sorted(path.name for path in folder.iterdir()) == ["c.tif", "whole.gpkg"]
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "said: " in done.stdout, done.stderr
    assert "o.gpkg" in done.stdout
    assert raster.exists()

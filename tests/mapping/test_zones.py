"""Areas by zone are those of the polygons, cut where the zones' outlines run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pandas
import pytest
import shapely

from aerialseg.errors import InputError
from aerialseg.mapping.zones import ZoneArea, areas_by_zone
from aerialseg.vector.layers import polygonize
from tests.vector.drawn import LEGEND, NORTH_UP, blobs, write

WEST, SOUTH, METRES = 500_000.0, 5_000_000.0 - 4.0, 4.0


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """4 m by 4 m: class 1 in the north-western quarter, class 2 elsewhere."""
    classes = np.full((80, 80), 2, np.uint8)
    classes[:40, :40] = 1
    polygonize(write(tmp_path / "c.tif", classes, NORTH_UP), None, tmp_path / "map.gpkg", legend=LEGEND)
    return tmp_path / "map.gpkg"


def zones(path: Path, boxes: dict[str, tuple[float, float, float, float]], crs: str = "EPSG:32633") -> Path:
    shapes = [shapely.box(WEST + a, SOUTH + b, WEST + c, SOUTH + d) for a, b, c, d in boxes.values()]
    frame = geopandas.GeoDataFrame({"name": list(boxes)}, geometry=shapes, crs="EPSG:32633")
    frame.to_crs(crs).to_file(path, driver="GPKG")
    return path


def test_without_zones_the_areas_are_those_of_the_map(layer: Path) -> None:
    found = areas_by_zone(layer)
    assert found == (
        ZoneArea("all", "class 2", pytest.approx(12.0), pytest.approx(0.75)),
        ZoneArea("all", "class 1", pytest.approx(4.0), pytest.approx(0.25)),
    )


def test_polygons_are_cut_by_the_outlines_of_zones(tmp_path: Path, layer: Path) -> None:
    parcels = zones(tmp_path / "z.gpkg", {"a": (0, 0, 1, 4), "b": (1, 1, 3, 3), "far": (50, 50, 60, 60)})
    out = tmp_path / "areas.csv"
    found = {(row.zone, row.class_name): row.area_m2 for row in areas_by_zone(layer, parcels, by="name", out=out)}
    wanted = {("a", "class 1"): 2.0, ("a", "class 2"): 2.0, ("b", "class 1"): 1.0, ("b", "class 2"): 3.0}
    assert found == pytest.approx(wanted)
    assert out.read_text().splitlines()[:2] == ["zone,class_name,area_m2,share", "a,class 1,2.0,0.5"]


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_zones_that_cover_the_map_add_up_to_it_in_any_crs(tmp_path: Path, crs: str) -> None:
    drawn = write(tmp_path / "c.tif", blobs(80, 80), NORTH_UP)
    polygonize(drawn, None, tmp_path / "map.gpkg", legend=LEGEND, smooth=2)
    halves = {"west": (-1.0, -1.0, 1.7, 5.0), "east": (1.7, -1.0, 5.0, 5.0)}
    found = areas_by_zone(tmp_path / "map.gpkg", zones(tmp_path / "z.gpkg", halves, crs), by="name")
    for whole in areas_by_zone(tmp_path / "map.gpkg"):
        parts = sum(row.area_m2 for row in found if row.class_name == whole.class_name)
        assert parts == pytest.approx(whole.area_m2, rel=1e-6)


def test_a_layer_without_classes_is_refused(tmp_path: Path) -> None:
    other = zones(tmp_path / "z.gpkg", {"a": (0, 0, 1, 1)})
    with pytest.raises(InputError, match="class_name"):
        areas_by_zone(other)


@pytest.mark.slow
def test_the_command_prints_a_table(layer: Path) -> None:
    command = [sys.executable, "-m", "aerialseg", "areas", layer.name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=layer.parent)
    assert done.stdout.splitlines() == [
        "zone,class_name,area_m2,share",
        "all,class 2,12.0,0.75",
        "all,class 1,4.0,0.25",
    ]
    assert subprocess.run([*command, "--by", "name"], capture_output=True, cwd=layer.parent).returncode == 2


def test_a_polygon_that_was_split_in_qgis_counts_as_it_is_drawn_now(tmp_path: Path, layer: Path) -> None:
    frame = geopandas.read_file(layer, layer="landcover")
    square = frame[frame.class_name == "class 1"].iloc[0]
    west, east = (shapely.intersection(square.geometry, shapely.box(*one)) for one in _halves(square.geometry))
    halves = geopandas.GeoDataFrame([square, square], geometry=[west, east], crs=frame.crs)  # attributes are copied
    halves.iloc[0, halves.columns.get_loc("class_name")] = "class 3"
    rest = frame[frame.class_name != "class 1"]
    pandas.concat([rest, halves]).to_file(tmp_path / "split.gpkg", layer="landcover", driver="GPKG")
    found = {row.class_name: row.area_m2 for row in areas_by_zone(tmp_path / "split.gpkg")}
    assert found == pytest.approx({"class 1": 2.0, "class 2": 12.0, "class 3": 2.0}, rel=1e-3)


def _halves(square: shapely.Polygon) -> tuple[tuple[float, ...], tuple[float, ...]]:
    left, bottom, right, top = square.bounds
    middle = (left + right) / 2
    return (left, bottom, middle, top), (middle, bottom, right, top)


def test_zones_without_a_crs_and_a_raster_as_layer_are_refused(tmp_path: Path, layer: Path) -> None:
    bare = geopandas.GeoDataFrame({"name": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)])
    with pytest.warns(UserWarning, match="crs"):
        bare.to_file(tmp_path / "bare.gpkg", driver="GPKG")
    with pytest.raises(InputError, match=r"bare.gpkg has no coordinate reference system"):
        areas_by_zone(layer, tmp_path / "bare.gpkg")
    with pytest.raises(InputError, match=r"c.tif is no file of polygons"):
        areas_by_zone(tmp_path / "c.tif")


def test_ground_that_zones_of_one_name_share_counts_once(tmp_path: Path, layer: Path) -> None:
    shared = zones(tmp_path / "z.gpkg", {"a": (0, 0, 3, 4), "b": (1, 0, 4, 4)})
    assert sum(row.area_m2 for row in areas_by_zone(layer, shared)) == pytest.approx(16.0)


def test_a_layer_of_another_name_is_measured_where_it_is_named(tmp_path: Path, layer: Path) -> None:
    frame = geopandas.read_file(layer, layer="landcover")
    frame[frame.class_name == "class 1"].to_file(layer, layer="older", driver="GPKG")
    assert [row.class_name for row in areas_by_zone(f"{layer}:older")] == ["class 1"]
    assert [row.class_name for row in areas_by_zone(layer)] == ["class 2", "class 1"]

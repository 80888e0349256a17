"""The places where a label helps most: of low confidence, far apart, of many classes, as squares to label wholly."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely

from aerialseg.errors import InputError, UsageError
from aerialseg.evaluation.doubts import find_doubts
from aerialseg.legend import NODATA, Legend
from aerialseg.progress import Silent
from aerialseg.raster.cog import write_cog
from tests.fakes import LEGEND
from tests.raster.drawing import UTM, write

SIDE = 320


class Heard(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def rasters(folder: Path, classes: np.ndarray, percent: np.ndarray, name: str = "map") -> tuple[Path, Path]:
    """Class and confidence raster, 0.1 m a pixel."""
    paths = []
    for kind, values, legend in (("classes", classes, LEGEND), ("confidence", percent, None)):
        plain = write(folder / f"{name}-{kind}-plain.tif", values[None].astype(np.uint8), crs=UTM, nodata=NODATA)
        write_cog(plain, folder / f"{name}-{kind}.tif", legend=legend, metadata={})
        paths.append(folder / f"{name}-{kind}.tif")
    return paths[0], paths[1]


def doubtful(folder: Path, spots: list[tuple[int, int, int, int]], **options: Any) -> tuple[list[Any], Any]:
    """Places and layer of a map that is sure but for spots (row and column of the 32 px block, class, per cent)."""
    classes, percent = np.ones((SIDE, SIDE), int), np.full((SIDE, SIDE), 95)
    for row, col, number, value in spots:
        box = np.s_[32 * row : 32 * row + 32, 32 * col : 32 * col + 32]
        classes[box], percent[box] = number, value
    one, other = rasters(folder, classes, percent)
    places = find_doubts([one], [other], folder / "places.gpkg", **options)
    return places, geopandas.read_file(folder / "places.gpkg", layer="places")


def test_the_least_confident_blocks_come_first_with_their_class(tmp_path: Path) -> None:
    spots = [(1, 1, 4, 40), (8, 8, 3, 30), (1, 8, 0, 50), (8, 1, 2, 60)]
    places, layer = doubtful(tmp_path, spots, count=4)
    assert [place.class_name for place in places] == ["road", "roof", "water", "forest"]
    assert [place.confidence for place in places] == pytest.approx([0.3, 0.4, 0.5, 0.6])
    assert layer["rank"].tolist() == [1, 2, 3, 4]
    assert layer.class_name.tolist() == ["road", "roof", "water", "forest"]
    assert layer.geometry.area.tolist() == pytest.approx([3.2**2] * 4)
    assert not layer.checked.any()
    assert layer.crs == UTM


def test_places_lie_apart_and_no_class_takes_them_all(tmp_path: Path) -> None:
    """A lake of low confidence beside single blocks that are little better."""
    spots = [(row, col, 0, 20) for row in range(4) for col in range(4)]
    spots += [(8, 8, 3, 45), (8, 1, 4, 44), (1, 8, 2, 46)]
    places, layer = doubtful(tmp_path, spots, count=5)
    assert {place.class_name for place in places} == {"water", "road", "roof", "forest", "grass"}
    centres = layer.geometry.centroid
    apart = [one.distance(other) for n, one in enumerate(centres) for other in centres[n + 1 :]]
    assert min(apart) > 3.2 * 2


def test_there_are_as_many_places_as_asked_for_even_where_little_is_doubtful(tmp_path: Path) -> None:
    places, layer = doubtful(tmp_path, [(5, 5, 4, 40)], count=12)
    assert len(places) == len(layer) == 12
    assert places[0].class_name == "roof"
    assert layer.geometry.is_valid.all()
    assert len(layer.geometry.to_wkb().unique()) == 12


def test_fewer_places_than_asked_for_are_said(tmp_path: Path) -> None:
    """The map has 100 blocks, all but two of one class."""
    heard = Heard()
    places, _ = doubtful(tmp_path, [(5, 5, 4, 40), (1, 1, 3, 40)], count=120, progress=heard)
    assert len(places) == 100
    assert any("100 places, not 120" in note for note in heard.notes)


def test_blocks_at_nodata_are_left_out(tmp_path: Path) -> None:
    classes, percent = np.ones((SIDE, SIDE), int), np.full((SIDE, SIDE), 90)
    percent[:64] = 10
    classes[:64, ::4] = NODATA
    percent[:64, ::4] = NODATA
    one, other = rasters(tmp_path, classes, percent)
    places = find_doubts([one], [other], tmp_path / "places.gpkg", count=3)
    assert all(place.confidence == pytest.approx(0.9) for place in places)
    classes[:] = NODATA
    one, other = rasters(tmp_path, classes, percent, "empty")
    with pytest.raises(InputError, match="no square of 32 x 32 px"):
        find_doubts([one], [other], tmp_path / "none.gpkg")
    assert not (tmp_path / "none.gpkg").exists()


def test_of_several_maps_the_worst_places_are_taken_together(tmp_path: Path) -> None:
    maps = []
    for number, value in enumerate((80, 30)):
        percent = np.full((SIDE, SIDE), 95)
        percent[64:96, 64:96] = value
        classes = np.full((SIDE, SIDE), number)
        maps.append(rasters(tmp_path, classes, percent, f"map{number}"))
    places = find_doubts([one for one, _ in maps], [other for _, other in maps], tmp_path / "places.gpkg", count=2)
    assert [place.class_name for place in places] == ["grass", "water"]


def test_side_is_in_metres_and_qgis_draws_outlines(tmp_path: Path) -> None:
    _, layer = doubtful(tmp_path, [(5, 5, 4, 40)], count=2, side_m=6.4)
    assert layer.geometry.area.tolist() == pytest.approx([6.4**2] * 2)
    with sqlite3.connect(tmp_path / "places.gpkg") as database:
        styles = database.execute("SELECT styleName, useAsDefault FROM layer_styles").fetchall()
    assert [name for name, default in styles if default] == ["land cover: outlines"]


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    one, other = rasters(tmp_path, np.ones((64, 64)), np.full((64, 64), 50))
    with pytest.raises(UsageError, match="1 class rasters and 0 confidence rasters"):
        find_doubts([one], [], tmp_path / "places.gpkg")
    with pytest.raises(UsageError, match="wanted a GeoPackage"):
        find_doubts([one], [other], tmp_path / "places.geojson")
    with pytest.raises(UsageError, match="count 0"):
        find_doubts([one], [other], tmp_path / "places.gpkg", count=0)
    with pytest.raises(InputError, match=r"no square of 100 x 100 px .*: give a smaller --side"):
        find_doubts([one], [other], tmp_path / "places.gpkg", side_m=10.0)
    with pytest.raises(InputError, match="has a colour table, as class rasters have"):
        find_doubts([other], [one], tmp_path / "places.gpkg")
    find_doubts([one], [other], tmp_path / "places.gpkg")
    with pytest.raises(UsageError, match="overwrite"):
        find_doubts([one], [other], tmp_path / "places.gpkg")


def test_a_file_with_other_layers_is_never_replaced(tmp_path: Path) -> None:
    doubtful(tmp_path, [(1, 1, 4, 40)])
    places = next(tmp_path.glob("*.gpkg"))
    doubtful(tmp_path, [(1, 1, 4, 40)], overwrite=True)  # its own alone
    geopandas.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=32633).to_file(places, layer="trees", driver="GPKG")
    before = places.read_bytes()
    with pytest.raises(UsageError, match="also holds 'trees'"):
        doubtful(tmp_path, [(1, 1, 4, 40)], overwrite=True)
    assert places.read_bytes() == before


def test_maps_whose_numbers_mean_different_classes_are_refused(tmp_path: Path) -> None:
    one = rasters(tmp_path, np.ones((64, 64)), np.full((64, 64), 50))
    renamed = Legend(tuple(replace(entry, name=f"other {entry.name}") for entry in LEGEND))
    plain = write(tmp_path / "plain.tif", np.ones((1, 64, 64), np.uint8), crs=UTM, nodata=NODATA)
    write_cog(plain, tmp_path / "other.tif", legend=renamed, metadata={})
    with pytest.raises(InputError, match="in another map: run it for each map alone"):
        find_doubts([one[0], tmp_path / "other.tif"], [one[1], one[1]], tmp_path / "places.gpkg")

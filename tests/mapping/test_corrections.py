"""Polygons that a person has checked keep their class on the next map, exactly, and the network need not run for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely

from aerialseg.errors import InputError, UsageError
from aerialseg.legend import Legend
from aerialseg.mapping.segment import segment
from tests.fakes import CARD, LEGEND, Flaky, Oracle
from tests.mapping.test_aoi import SHAPE, STAR, ground, inside, read
from tests.mapping.test_mosaics import Heard, run, scene, write_tile
from tests.raster.drawing import UTM

from aerialseg.raster.grid import Box  # isort: skip

PARK = ground(30.2, 40.3, 120.8, 35.1, 130.4, 110.9, 25.7, 100.6)
YARD = ground(200, 200, 203, 200, 203, 204, 200, 204)
"""12 pixels: less than the minimum mapping unit."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tile(tmp_path_factory.mktemp("whole") / "whole.tif", scene(*SHAPE), Box(0, 0, *SHAPE))


def checked(path: Path, *polygons: tuple[shapely.Geometry, Any], crs: Any = UTM, **columns: Any) -> str:
    """A layer of (polygon, class id or name), all of them checked unless ``columns`` say otherwise."""
    field = "class_id" if isinstance(polygons[0][1], int) else "class_name"
    values = {field: [value for _, value in polygons], "checked": [True] * len(polygons), **columns}
    frame = geopandas.GeoDataFrame(values, geometry=[shape for shape, _ in polygons], crs=crs)
    (frame.to_parquet if path.suffix == ".parquet" else frame.to_file)(path)
    return str(path)


def mapped(source: Path, folder: Path, name: str = "map", **options: Any) -> tuple[np.ndarray, np.ndarray, Any]:
    """Classes, confidence and layer."""
    options = {"model": Oracle(), "confidence": folder / f"{name}-conf.tif"} | options
    _, _, layer = run(source, folder, name, **options)
    with rasterio.open(folder / f"{name}-conf.tif") as file:
        return read(folder / f"{name}.tif")[0], file.read(1), layer


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".gpkg", ".shp", ".geojson", ".parquet", ".fgb"])
def test_checked_polygons_have_their_class_and_nothing_else_changes(tmp_path: Path, source: Path, ending: str) -> None:
    whole, confidence, _ = mapped(source, tmp_path)
    crs = UTM
    polygons = [(PARK, 5), (STAR.difference(PARK), 4)]
    if ending == ".geojson":
        to_degrees = pyproj.Transformer.from_crs(UTM, "EPSG:4326", always_xy=True)
        polygons = [
            (shapely.transform(shape, lambda xy: np.stack(to_degrees.transform(*xy.T), axis=1)), number)
            for shape, number in polygons
        ]
        crs = "EPSG:4326"
    file = tmp_path / f"checked{ending}"
    if ending == ".geojson":
        frame = {"class_id": [number for _, number in polygons], "checked": [True] * 2}
        geopandas.GeoDataFrame(frame, geometry=[shape for shape, _ in polygons], crs=crs).to_file(
            file, COORDINATE_PRECISION=12
        )
    else:
        checked(file, *polygons, crs=crs)
    classes, rated, _ = mapped(source, tmp_path, "again", corrections=str(file))
    park, star = inside(PARK), inside(STAR.difference(PARK))
    assert np.array_equal(classes, np.where(park, 5, np.where(star, 4, whole)))
    assert np.array_equal(rated, np.where(park | star, 100, confidence))


def test_a_checked_polygon_below_the_minimum_area_stays_in_the_layer(tmp_path: Path, source: Path) -> None:
    corrections = checked(tmp_path / "checked.gpkg", (YARD, "roof"))
    classes, _, layer = mapped(source, tmp_path, corrections=corrections, min_area_m2=4, simplify_m=0)
    here = layer[layer.class_name == "roof"]
    assert (classes[inside(YARD)] == 4).all()
    assert here.geometry.union_all().buffer(1e-6).contains(YARD)
    _, _, without = mapped(source, tmp_path, "without", min_area_m2=4, simplify_m=0)
    assert not without[without.class_name == "roof"].geometry.union_all().intersects(YARD.buffer(-0.01))
    assert layer.geometry.area.sum() == pytest.approx(without.geometry.area.sum())


@pytest.mark.slow
def test_a_kept_run_takes_corrections_without_the_network(tmp_path: Path, source: Path) -> None:
    kept = tmp_path / "run"
    mapped(source, tmp_path, keep_run=kept)
    corrections = checked(tmp_path / "checked.gpkg", (PARK, 5))
    clean = mapped(source, tmp_path, "clean", corrections=corrections)
    fails = Flaky(tmp_path / "log", 1)
    again = mapped(source, tmp_path, "again", corrections=corrections, keep_run=kept, model=fails)
    assert all(np.array_equal(one, other) for one, other in zip(clean[:2], again[:2], strict=True))
    assert clean[2].equals(again[2])
    before = mapped(source, tmp_path, "before", keep_run=kept, model=fails)
    assert np.array_equal(before[0], mapped(source, tmp_path, "first")[0])


def test_where_the_raster_has_no_data_a_correction_says_nothing(tmp_path: Path) -> None:
    pixels = scene(*SHAPE)
    pixels[:, 60:80, 60:80] = 0
    source = write_tile(tmp_path / "hole.tif", pixels, Box(0, 0, *SHAPE), nodata=0)
    classes, _, _ = mapped(source, tmp_path, corrections=checked(tmp_path / "checked.gpkg", (PARK, 5)))
    assert (classes[60:80, 60:80] == 255).all()
    assert (classes[inside(PARK)] == 5).sum() == inside(PARK).sum() - 400


def test_of_several_files_the_last_one_counts(tmp_path: Path, source: Path) -> None:
    files = [checked(tmp_path / f"{number}.gpkg", (PARK, number)) for number in (3, 5)]
    classes, _, _ = mapped(source, tmp_path, corrections=files)
    assert (classes[inside(PARK)] == 5).all()


def test_a_file_that_checks_nothing_here_is_said(tmp_path: Path, source: Path) -> None:
    heard, far = Heard(), shapely.affinity.translate(PARK, 5000)
    mapped(source, tmp_path, corrections=checked(tmp_path / "far.gpkg", (far, 5)), progress=heard)
    assert any("no checked polygon of" in note for note in heard.notes)


WRONG = {
    "unknown class": ([(PARK, "rooof")], {}, "'rooof', which the model does not know; it knows: 0 water, 1 grass"),
    "none checked": ([(PARK, 5)], {"checked": [False]}, "no feature of .* has checked = true"),
    "no class": ([(PARK, 5)], {"class_id": [None]}, "the checked feature 1 has no class_id: give it one"),
    "two classes": (
        [(PARK, 5), (STAR.difference(PARK), 4)],
        {"class_name": ["grass", "roof"]},
        "is bare soil by class_id, grass by class_name",
    ),
    "contradiction": ([(PARK, 5), (STAR, 4)], {}, "of roof and bare soil overlap on [0-9,]+ px, such as at 500"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, source: Path, name: str) -> None:
    polygons, columns, message = WRONG[name]
    corrections = checked(tmp_path / "checked.gpkg", *polygons, **columns)
    with pytest.raises(InputError, match=message):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), corrections=corrections)


def test_a_file_without_the_field_and_one_that_is_the_output_are_refused(tmp_path: Path, source: Path) -> None:
    plain = tmp_path / "plain.gpkg"
    geopandas.GeoDataFrame({"class_id": [1]}, geometry=[PARK], crs=UTM).to_file(plain)
    with pytest.raises(InputError, match="has no field checked"):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), corrections=plain)
    with pytest.raises(InputError, match="is no file of polygons"):
        segment(source, tmp_path / "map.gpkg", model=Oracle(), corrections=source)
    corrections = checked(tmp_path / "checked.gpkg", (PARK, 1))
    with pytest.raises(UsageError, match="input"):
        segment(source, corrections, model=Oracle(), corrections=corrections, overwrite=True)


def test_of_another_models_layer_the_names_count(tmp_path: Path, source: Path) -> None:
    polygons = [(PARK, 5), (STAR.difference(PARK), 1)]
    corrections = checked(tmp_path / "checked.gpkg", *polygons, class_name=["roof", "water"])
    classes, _, _ = mapped(source, tmp_path, corrections=corrections)
    assert (classes[inside(PARK)] == 4).all()
    assert (classes[inside(STAR.difference(PARK))] == 0).all()


@pytest.mark.slow
def test_the_names_that_a_layer_shows_are_understood(tmp_path: Path, source: Path) -> None:
    """A map calls classes by their titles, as plain words, where the model has names of its data."""
    legend = Legend(tuple(replace(entry, title=f"plain {entry.name}") for entry in LEGEND))
    model = Oracle(card=replace(CARD, legend=legend))
    _, _, layer = mapped(source, tmp_path, model=model)
    assert layer.class_name.str.startswith("plain ").all()
    polygons = [(PARK, "plain roof"), (STAR.difference(PARK), "grass")]
    classes, _, _ = mapped(
        source, tmp_path, "again", model=model, corrections=checked(tmp_path / "checked.gpkg", *polygons)
    )
    assert (classes[inside(PARK)] == 4).all()
    assert (classes[inside(STAR.difference(PARK))] == 1).all()


def test_what_unchecked_polygons_say_does_not_matter(tmp_path: Path, source: Path) -> None:
    polygons = [(PARK, 5), (STAR, 99)]
    corrections = checked(tmp_path / "checked.gpkg", *polygons, checked=[True, False])
    assert 99 not in [entry.id for entry in LEGEND]
    classes, _, _ = mapped(source, tmp_path, corrections=corrections)
    assert (classes[inside(PARK)] == 5).all()

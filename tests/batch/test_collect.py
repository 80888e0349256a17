"""Collecting: tiles of one grid become one layer without borders, one mosaic, one STAC collection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio

from aerialseg.batch.collect import Wanted, collect
from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.segment import segment
from tests.batch.conftest import Folder, cut_in_half, draw
from tests.conftest import land_cover
from tests.fakes import Oracle

TABLES: dict[str, Any] = {
    "outputs": {"layer": "out/{stem}.gpkg", "raster": "out/{stem}.tif", "confidence": "out/{stem}-conf.tif"},
    "settings": {"min-area": 0, "simplify": 0},
}
HEIGHT, WIDTH = 96, 128


@pytest.fixture
def flight(tmp_path: Path) -> Folder:
    """One image, whole and cut into four tiles of unequal size."""
    pixels = land_cover(HEIGHT, WIDTH, cell=20)
    draw(tmp_path / "whole" / "all.tif", pixels)
    for name, rows, cols in (
        ("nw", (0, 50), (0, 70)),
        ("ne", (0, 50), (70, 128)),
        ("sw", (50, 96), (0, 70)),
        ("se", (50, 96), (70, 128)),
    ):
        part = np.ascontiguousarray(pixels[:, slice(*rows), slice(*cols)])
        draw(tmp_path / "in" / f"{name}.tif", part, left=500_000 + cols[0] * 0.1, top=5_000_000 - rows[0] * 0.1)
    folder = Folder(tmp_path)
    assert folder.run(**TABLES).exit_code == 0
    return folder


def whole(folder: Folder) -> geopandas.GeoDataFrame:
    path = folder.path / "whole"
    segment(path / "all.tif", path / "all.gpkg", model=Oracle(), raster=path / "c.tif", min_area_m2=0, simplify_m=0)
    return geopandas.read_file(path / "all.gpkg", layer="landcover")


def areas(layer: geopandas.GeoDataFrame) -> list[tuple[int, float]]:
    return sorted((int(row.class_id), round(row.geometry.area, 6)) for row in layer.itertuples())


@pytest.mark.slow
def test_regions_go_on_over_the_borders_as_in_the_whole_image(flight: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    path = flight.path / "one.gpkg"
    monkeypatch.chdir(flight.path)
    assert collect("night.job", Wanted(layer=Path("one.gpkg"))) == (path,), "from the root, as all commands say them"
    one = geopandas.read_file(path, layer="landcover")
    wanted = whole(flight)
    apart = sum(len(geopandas.read_file(tile, layer="landcover")) for tile in (flight.path / "out").glob("*.gpkg"))
    assert len(one) == len(wanted) < apart
    assert areas(one) == areas(wanted)
    assert one["confidence"].notna().all()
    assert one.union_all().equals(wanted.union_all())


@pytest.mark.slow
def test_geoparquet_holds_the_same(flight: Folder) -> None:
    collect(flight.path / "night.job", Wanted(layer=flight.path / "one.gpkg"))
    collect(flight.path / "night.job", Wanted(layer=flight.path / "one.parquet"))
    assert areas(geopandas.read_parquet(flight.path / "one.parquet")) == areas(
        geopandas.read_file(flight.path / "one.gpkg", layer="landcover")
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all.vrt", "all.tif"])
def test_a_mosaic_is_the_whole_class_raster(flight: Folder, name: str) -> None:
    collect(flight.path / "night.job", Wanted(mosaic=flight.path / name))
    whole(flight)
    with rasterio.open(flight.path / name) as mosaic, rasterio.open(flight.path / "whole/c.tif") as wanted:
        assert np.array_equal(mosaic.read(1), wanted.read(1))
        assert (mosaic.transform, mosaic.crs, mosaic.nodata) == (wanted.transform, wanted.crs, 255)
        assert mosaic.colormap(1)[1] == wanted.colormap(1)[1]


@pytest.mark.slow
def test_where_tiles_overlap_the_first_counts_and_a_hole_is_nodata(tmp_path: Path) -> None:
    for name, left, value in (("a", 0.0, 1), ("b", 3.0, 2), ("c", 9.0, 3)):
        draw(tmp_path / "in" / f"{name}.tif", np.full((3, 40, 40), value, np.uint8), left=500_000 + left)
    folder = Folder(tmp_path)
    folder.run(**TABLES)
    collect(tmp_path / "night.job", Wanted(layer=tmp_path / "all.gpkg", mosaic=tmp_path / "all.vrt"))
    with rasterio.open(tmp_path / "all.vrt") as mosaic:
        row = mosaic.read(1)[0]
    assert row.tolist() == [1] * 40 + [2] * 30 + [255] * 20 + [3] * 40
    assert areas(geopandas.read_file(tmp_path / "all.gpkg", layer="landcover")) == [(1, 16.0), (2, 12.0), (3, 16.0)]


@pytest.mark.slow
def test_tiles_of_other_grids_are_in_the_layer_and_refused_in_a_mosaic(flight: Folder) -> None:
    draw(flight.path / "in" / "x.tif", np.full((3, 40, 40), 4, np.uint8), left=500_100.037)
    flight.run(**TABLES)
    with pytest.raises(InputError, match=r"2 grids \(.*x\.tif is not"):
        collect(flight.path / "night.job", Wanted(mosaic=flight.path / "all.tif"))
    collect(flight.path / "night.job", Wanted(layer=flight.path / "all.gpkg"))
    layer = geopandas.read_file(flight.path / "all.gpkg", layer="landcover")
    assert len(layer) == len(whole(flight)) + 1
    assert (4, 16.0) in areas(layer)


@pytest.mark.slow
def test_only_some_are_collected(flight: Folder) -> None:
    collect(flight.path / "night.job", Wanted(mosaic=flight.path / "all.vrt"), only="n*.tif")
    with rasterio.open(flight.path / "all.vrt") as mosaic:
        assert mosaic.shape == (50, 128)


@pytest.mark.slow
def test_every_item_of_the_collection_is_valid_and_finds_its_files(flight: Folder) -> None:
    pystac = pytest.importorskip("pystac")
    from aerialseg.batch.stac_out import validate

    collect(flight.path / "night.job", Wanted(stac=flight.path / "stac"))
    assert validate(flight.path / "stac") == 5
    collection = pystac.Collection.from_file(str(flight.path / "stac/collection.json"))
    items = {item.id: item for item in collection.get_items()}
    assert set(items) == {"nw", "ne", "sw", "se"}
    item = items["se"]
    assert Path(item.assets["raster"].get_absolute_href()) == flight.path / "out/se.tif"
    assert not item.assets["layer"].href.startswith("/")
    assert item.properties["proj:code"] == "EPSG:32633"
    assert item.properties["proj:shape"] == [46, 58]
    assert {one["title"] for one in item.assets["raster"].extra_fields["classification:classes"]} == {
        entry.name for entry in Oracle().card.legend
    }
    west, south, east, north = item.bbox
    assert 15 <= west < east < 15.001
    assert 45 < south < north < 46


@pytest.mark.slow
def test_an_item_that_is_not_valid_is_not_published(flight: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pystac")
    from aerialseg.batch import stac_out as catalog
    from aerialseg.errors import OutputError

    monkeypatch.setattr(catalog, "_bounds", lambda outline: [1.0, 2.0])
    monkeypatch.setattr(
        catalog,
        "_extent",
        lambda pystac, items: pystac.Extent(
            pystac.SpatialExtent([[0, 0, 1, 1]]), pystac.TemporalExtent([[items[0].datetime, None]])
        ),
    )
    with pytest.raises(OutputError, match="would not be valid STAC"):
        collect(flight.path / "night.job", Wanted(stac=flight.path / "stac"))
    assert not (flight.path / "stac").exists()
    assert not [path.name for path in flight.path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_collection_is_replaced_whole_and_nothing_else_is(flight: Folder) -> None:
    pytest.importorskip("pystac")
    collect(flight.path / "night.job", Wanted(stac=flight.path / "stac"))
    collect(flight.path / "night.job", Wanted(stac=flight.path / "stac", overwrite=True), only="n*")
    assert json.loads((flight.path / "stac/collection.json").read_text())["description"].count("2 rasters") == 1
    with pytest.raises(UsageError, match="holds no collection"):
        collect(flight.path / "night.job", Wanted(stac=flight.path / "in", overwrite=True))
    assert (flight.path / "in/nw.tif").exists()


@pytest.mark.slow
def test_a_broken_input_is_left_out_of_the_collection(flight: Folder) -> None:
    cut_in_half(flight.path / "in/se.tif")
    assert flight.run(**TABLES).exit_code == 1
    collect(flight.path / "night.job", Wanted(mosaic=flight.path / "all.vrt"))
    with rasterio.open(flight.path / "all.vrt") as mosaic:
        assert (mosaic.read(1)[50:, 70:] == 255).all()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "nothing to collect into"),
        ({"layer": "all.shp"}, r"must end in \.gpkg or \.parquet"),
        ({"mosaic": "all.png"}, "must end in"),
        ({"layer": "all.gpkg", "mosaic": "in/a.tif"}, r"a\.tif exists: add --overwrite"),
    ],
)
def test_slips_are_named(folder: Folder, wanted: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        collect(folder.path / "night.job", Wanted(**{name: folder.path / path for name, path in wanted.items()}))


def test_what_cannot_be_collected_is_named(folder: Folder) -> None:
    folder.run(outputs={"layer": "out/{stem}.gpkg"})
    with pytest.raises(InputError, match="no class raster to collect: give outputs"):
        collect(folder.path / "night.job", Wanted(layer=folder.path / "all.gpkg"))
    with pytest.raises(InputError, match="no finished input that matches x"):
        collect(folder.path / "night.job", Wanted(layer=folder.path / "all.gpkg"), only="x")

"""Tile indexes as input: the rasters that they list, in the order of their fields; hostile ones are refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import pandas as pd
import pyogrio
import pytest
import shapely

from aerialseg.errors import InputError, UsageError
from aerialseg.mapping.source_files import find_sources
from aerialseg.raster import tile_index
from tests.batch.conftest import Folder, folder
from tests.fakes import Oracle
from tests.mapping.test_mosaics import cut, run, scene
from tests.raster.drawing import picture, write

__all__ = ["folder"]

ENDINGS = [".gpkg", ".fgb", ".geojson", ".shp"]


def write_index(path: Path, locations: Sequence[Any], **fields: Sequence[Any]) -> Path:
    shapes = [shapely.box(n, 0, n + 1, 1) for n in range(len(locations))]
    frame = geopandas.GeoDataFrame({"location": locations, **fields}, geometry=shapes, crs=4326)
    frame.to_file(path, engine="pyogrio")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_an_index_gives_the_map_of_its_tiles(tmp_path: Path, ending: str) -> None:
    tiles = cut(scene(120, 120), tmp_path / "data" / "tiles", (50,), (70,), 5)
    index = write_index(tmp_path / "data" / f"index{ending}", [f"tiles/{tile.name}" for tile in tiles])
    (found,) = {run(source, tmp_path, name)[1] for source, name in ((index, "a"), (tmp_path / "data/tiles", "b"))}
    assert found


@pytest.mark.parametrize(("ending", "driver"), [(".gpkg", "GPKG"), (".geojson", "GeoJSON"), (".shp", "ESRI Shapefile")])
def test_what_gdaltindex_writes_is_read(tmp_path: Path, ending: str, driver: str) -> None:
    if shutil.which("gdaltindex") is None:
        pytest.skip("gdaltindex is not installed (apt-get install gdal-bin)")
    tiles = cut(scene(60, 60), tmp_path / "tiles", (30,), (30,))
    command = ["gdaltindex", "-f", driver, f"index{ending}", *(f"tiles/{tile.name}" for tile in tiles)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert find_sources([tmp_path / f"index{ending}"]) == sorted(map(str, tiles))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_field_of_the_index_orders_the_tiles(tmp_path: Path, ending: str) -> None:
    index = write_index(tmp_path / f"i{ending}", ["a", "b", "c", "d"], year=[2020, None, 2024, 2020], by=list("zyxw"))

    def order(text: str) -> str:
        return "".join(Path(path).name for path in find_sources([index], order=text))

    assert order("name") == "abcd"
    assert order("given") == "abcd" or ending == ".fgb"  # which sorts its rows by their place
    assert order("year") == "adcb"
    assert order("-year") == "cadb"
    assert (order("by"), order("-by")) == ("dcba", "abcd")
    with pytest.raises(UsageError, match=r"--order flown: .* has no such field; it has location, year, by"):
        order("flown")


def test_a_field_needs_an_index(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(
        UsageError, match=r"--order year: .* is no tile index; wanted auto, name, newest, given or a field"
    ):
        find_sources([tmp_path], order="year")
    assert find_sources(["b.tif", "a.tif", "./b.tif"], order="given") == [
        str(Path(n).absolute()) for n in ("b.tif", "a.tif")
    ]
    numbers = write_index(tmp_path / "n.gpkg", ["a"], year=[1])
    texts = write_index(tmp_path / "t.gpkg", ["b"], year=["x"])
    with pytest.raises(UsageError, match="several types"):
        find_sources([numbers, texts], order="year")


def test_remote_tiles_need_to_be_allowed(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i.gpkg", ["http://127.0.0.1:9/a.tif"])
    with pytest.raises(InputError, match="--allow-remote"):
        run(index, tmp_path)


def test_a_row_without_a_location_is_named(tmp_path: Path) -> None:
    index = write_index(tmp_path / "i.gpkg", ["a.tif", None])
    with pytest.raises(InputError, match="row 2: no location"):
        find_sources([index])


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_a_layer_of_something_else_is_no_index(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    geopandas.GeoDataFrame({"kind": ["a"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326).to_file(path)
    with pytest.raises(InputError, match=r"no tile index: .* its fields are kind"):
        find_sources([path])


def test_a_geopackage_of_rasters_is_left_to_who_reads_rasters(tmp_path: Path) -> None:
    path = write(tmp_path / "r.gpkg", picture(60, 60), driver="GPKG")
    assert find_sources([path]) == [str(path)]


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".fgb", ".geojson", ".gpkg"])
def test_an_index_of_more_rows_than_a_mosaic_has_tiles_is_refused_before_all_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = tmp_path / f"many{ending}"
    if ending == ".geojson":
        feature = json.dumps({"type": "Feature", "properties": {"location": "a.tif"}, "geometry": None})
        path.write_text('{"type": "FeatureCollection", "features": [' + ",".join([feature] * 200_000) + "]}")
    else:
        frame = pd.DataFrame({"location": ["a.tif"] * 200_000})
        pyogrio.write_dataframe(frame, path, layer="many", **({"SPATIAL_INDEX": "NO"} if ending == ".fgb" else {}))
    rows, read = [], pyogrio.raw.read

    def counting(*arguments: Any, **options: Any) -> Any:
        found = read(*arguments, **options)
        rows.append(len(found[3][0]))
        return found

    monkeypatch.setattr(pyogrio.raw, "read", counting)
    with pytest.raises(InputError, match="100,000 tiles"):
        find_sources([path])
    assert rows == [tile_index.MAX_TILES + 1]


def test_an_index_is_no_output(tmp_path: Path) -> None:
    tiles = cut(scene(60, 60), tmp_path / "tiles", (), ())
    index = write_index(tmp_path / "map.fgb", [str(tile) for tile in tiles])
    with pytest.raises(UsageError, match="is the input itself"):
        run(index, tmp_path, overwrite=True)


def test_a_batch_job_refuses_an_index_of_which_it_would_not_see_the_changes(folder: Folder) -> None:
    write_index(folder.path / "in" / "i.geojson", ["a.tif"])
    summary = folder.run(inputs={"glob": "in/*.geojson"}, predictor=Oracle())
    assert summary.exit_code == 1
    assert "names other rasters" in next(iter(folder.entries().values())).error


def test_the_limit_counts_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_index, "MAX_TILES", 2)
    assert len(find_sources([write_index(tmp_path / "two.gpkg", ["a", "b"])])) == 2
    with pytest.raises(InputError, match="more than 2 tiles"):
        find_sources([write_index(tmp_path / "three.gpkg", ["a", "b", "c"])])

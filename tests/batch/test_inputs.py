"""Inputs are found by pattern, list, CSV and STAC; outputs have names of their own."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from aerialseg.batch.inputs import find_inputs, is_selected
from aerialseg.batch.jobfile import job_of
from aerialseg.batch.output_names import name_outputs
from aerialseg.errors import InputError, UsageError
from tests.batch.conftest import Folder


def found(folder: Path, pattern: str = "out/{folder}/{stem}.gpkg", **inputs: Any) -> dict[str, str]:
    """Name of each input -> its layer, relative to the folder."""
    job = job_of({"inputs": inputs, "outputs": {"layer": pattern}}, folder / "night.toml")
    sources = find_inputs(job)
    names = name_outputs(job, sources)
    return {source.name: str(Path(names[source.path]["layer"]).relative_to(folder)) for source in sources}


def test_a_pattern_finds_files_in_order_with_their_folders(folder: Folder) -> None:
    assert found(folder.path, glob="in/**/*.tif") == {
        "a.tif": "out/a.gpkg",
        "b.tif": "out/b.gpkg",
        "deep/c.tif": "out/deep/c.gpkg",
    }


def test_several_patterns_give_each_file_once_and_exclude_takes_some_away(folder: Folder) -> None:
    assert list(found(folder.path, glob=["in/*.tif", "in/a.tif"])) == ["a.tif", "b.tif"]
    assert list(found(folder.path, glob="in/**/*.tif", exclude=["in/deep/*", "b.*"])) == ["a.tif"]


def test_a_pattern_in_a_folder_that_is_missing_is_an_error(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"the folder .*orthos of the inputs"):
        found(folder.path, glob="orthos/*.tif")


def test_a_list_has_a_path_a_line(folder: Folder) -> None:
    (folder.path / "list.txt").write_text(f"# tonight\nin/b.tif\n\n{folder.path}/in/deep/c.tif\n  in/a.tif  \n")
    assert found(folder.path, list="list.txt") == {
        "in/b.tif": "out/in/b.gpkg",
        "in/deep/c.tif": "out/in/deep/c.gpkg",
        "in/a.tif": "out/in/a.gpkg",
    }
    with pytest.raises(InputError, match="list of inputs"):
        found(folder.path, list="none.txt")


def test_a_csv_has_fields_for_the_pattern_and_settings_for_single_inputs(folder: Folder) -> None:
    (folder.path / "list.csv").write_text("file, flight, settings.resolution\nin/a.tif, F7, 0.03\nin/b.tif, F8,\n")
    tables = {"inputs": {"csv": "list.csv", "column": "file"}, "outputs": {"layer": "{flight}-{stem}.gpkg"}}
    job = job_of(tables, folder.path / "night.toml")
    sources = find_inputs(job)
    assert [dict(source.settings) for source in sources] == [{"resolution_m": 0.03}, {}]
    assert [Path(names["layer"]).name for names in name_outputs(job, sources).values()] == ["F7-a.gpkg", "F8-b.gpkg"]


def test_slips_in_a_csv_are_named(folder: Folder) -> None:
    (folder.path / "list.csv").write_text("path,settings.resolutoin\nin/a.tif,0.03\n")
    with pytest.raises(UsageError, match=r"line 2: settings\]: did you mean 'resolution'"):
        found(folder.path, csv="list.csv")
    (folder.path / "list.csv").write_text("path,settings.device\nin/a.tif,cpu\n")
    with pytest.raises(UsageError, match="belongs to the model"):
        found(folder.path, csv="list.csv")
    with pytest.raises(InputError, match=r"lacks the column 'file'.* it has path, settings\.device"):
        found(folder.path, csv="list.csv", column="file")


def item(name: str, href: str, key: str = "visual", **more: Any) -> dict[str, Any]:
    asset = {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"], **more}
    thumbnail = {"href": "x.png", "type": "image/png", "roles": ["thumbnail"]}
    properties = {"datetime": "2026-05-01T10:00:00Z"}
    return {
        "type": "Feature",
        "id": name,
        "collection": "flights",
        "assets": {"thumbnail": thumbnail, key: asset},
        "properties": properties,
    }


def test_stac_items_give_assets_ids_and_addresses_as_gdal_takes_them(folder: Folder) -> None:
    items = [item("one", "in/a.tif"), item("two", "https://host/b.tif", "image"), item("three", "s3://bucket/c.tif")]
    (folder.path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    job = job_of(
        {"inputs": {"stac": "items.json"}, "outputs": {"layer": "{collection}/{id}.gpkg"}}, folder.path / "night.toml"
    )
    sources = find_inputs(job)
    assert [source.path for source in sources] == [
        str(folder.path / "in/a.tif"),
        "/vsicurl/https://host/b.tif",
        "/vsis3/bucket/c.tif",
    ]
    assert [source.name for source in sources] == ["one", "two", "three"]
    assert name_outputs(job, sources)[sources[1].path]["layer"].endswith("flights/two.gpkg")


def test_a_remote_item_is_another_input_when_its_item_says_so(folder: Folder) -> None:
    identities = []
    for updated in ("2026-01-01", "2026-01-01", "2026-01-02"):
        collection = {"type": "FeatureCollection", "features": [item("one", "https://host/b.tif", updated=updated)]}
        (folder.path / "items.json").write_text(json.dumps(collection))
        job = job_of({"inputs": {"stac": "items.json"}, "outputs": {"layer": "{id}.gpkg"}}, folder.path / "night.toml")
        identities.append(find_inputs(job)[0].identity())
    assert identities[0] == identities[1] != identities[2]


def test_what_is_no_stac_is_named(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    path = folder.path / "items.json"
    path.write_text("<html>")
    with pytest.raises(InputError, match="cannot read the STAC items"):
        found(folder.path, stac="items.json")
    path.write_text('{"type": "Catalog"}')
    with pytest.raises(InputError, match="its type is 'Catalog'"):
        found(folder.path, stac="items.json")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item("one", "a.tif")]}))
    with pytest.raises(UsageError, match="no asset 'visul': did you mean 'visual'"):
        found(folder.path, stac="items.json", asset="visul")
    page = {"type": "FeatureCollection", "features": [], "links": [{"rel": "next", "href": "x"}]}
    path.write_text(json.dumps(page))
    with caplog.at_level(logging.WARNING):
        assert found(folder.path, stac="items.json") == {}
    assert "one page of several" in caplog.text


def test_two_inputs_may_not_share_an_output(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"gives .*all\.gpkg to .*in/a\.tif and to .*in/b\.tif"):
        found(folder.path, pattern="out/all.gpkg", glob="in/**/*.tif")


def test_an_unknown_field_is_named(folder: Folder) -> None:
    with pytest.raises(UsageError, match=r"unknown field \{stemm\}: did you mean 'stem'"):
        found(folder.path, pattern="{stemm}.gpkg", glob="in/*.tif")


@pytest.mark.parametrize("outputs", [{"layer": "{stem}.shp"}, {"layer": "{stem}.gpkg", "raster": "{stem}.png"}])
def test_an_ending_that_nobody_writes_is_named_before_any_work(folder: Folder, outputs: dict[str, str]) -> None:
    job = job_of({"inputs": {"glob": "in/*.tif"}, "outputs": outputs}, folder.path / "night.toml")
    with pytest.raises(UsageError, match=r"\.shp|must end in \.tif"):
        name_outputs(job, find_inputs(job))


@pytest.mark.parametrize(("pattern", "hits"), [(None, 3), ("deep/*", 1), ("a.tif", 1), ("*/in/*", 3), ("x*", 0)])
def test_only_looks_at_names_and_paths(folder: Folder, pattern: str | None, hits: int) -> None:
    job = folder.job()
    assert sum(is_selected(source, pattern) for source in find_inputs(job)) == hits

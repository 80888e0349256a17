"""The STAC item is valid, can be read by pystac with its MLM extension, and says what the card says."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
import torch

from aerialseg.errors import ModelError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.stac import created, export_stac, slug
from aerialseg.model.store import load_card, save, write_history
from tests.model.nets import card, lively_network

pystac = pytest.importorskip("pystac", reason="pystac is not installed (the extra 'stac')")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stac") / "model"
    network = lively_network()
    model = card(network, void=(0,), temperature=1.5, created="2026-11-25", lineage=("ImageNet", "drawn"))
    save(folder, model, network.state_dict(), torch.float32)
    write_history(folder, {"searches": [1], "history": [2], "calibration": {}})
    return folder


def test_pystac_reads_from_it_what_the_card_says(folder: Path) -> None:
    from pystac.extensions.mlm import MLMExtension

    path = export_stac(folder, folder.parent / "item.json")
    item = pystac.Item.from_file(str(path))
    model, mlm = load_card(folder), MLMExtension.ext(item)
    assert mlm.mlm_name == "test"
    assert [str(task) for task in mlm.tasks] == ["semantic-segmentation"]
    (given,), (answer,) = mlm.input, mlm.output
    assert tuple(given.bands) == model.bands
    scaling = given.properties["value_scaling"]
    assert [band["mean"] for band in scaling] == pytest.approx([255 * mean for mean in model.mean])
    assert [band["stddev"] for band in scaling] == pytest.approx([255 * std for std in model.std])
    found = answer.properties["classification:classes"]
    assert [(entry["value"], entry["name"]) for entry in found] == [(c.id, c.name) for c in model.legend]
    assert ["#" + entry["color_hint"].lower() for entry in found] == [c.hex for c in model.legend]
    assert item.properties["mlm:hyperparameters"]["temperature"] == 1.5
    assert item.properties["mlm:hyperparameters"]["training"] == {"searches": [1]}
    assert item.properties["gsd"] == model.gsd_m
    assert item.properties["mlm:pretrained_source"] == "ImageNet; drawn"


def test_what_the_extension_demands_is_there(folder: Path) -> None:
    """Its schema is fetched by no test; these are its own conditions (json-schema/schema.json)."""
    item = json.loads(export_stac(folder, folder.parent / "item.json").read_text())
    properties = item["properties"]
    for name in ("name", "architecture", "framework", "tasks", "input", "output"):
        assert properties[f"mlm:{name}"], name
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", properties["mlm:name"])
    assert all(re.fullmatch(r"[0-9a-zA-Z_.-]+", name) for name in properties["mlm:hyperparameters"])
    classes = properties["mlm:output"][0]["classification:classes"]
    assert all(re.fullmatch("[0-9A-F]{6}", entry["color_hint"]) for entry in classes)
    models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
    assert models
    assert [band["name"] for band in models[0]["bands"]] == properties["mlm:input"][0]["bands"]
    assert all(asset["mlm:artifact_type"] for asset in models)


def test_the_models_of_the_extensions_own_package_take_it_and_refuse_a_broken_one(folder: Path) -> None:
    """stac-model is what the extension's authors publish; the schema itself (v1.4.0) is on no package index."""
    schema = pytest.importorskip("stac_model.schema", reason="stac-model is not installed (the extra 'dev')")
    properties = json.loads(export_stac(folder, folder.parent / "item.json").read_text())["properties"]
    for entry in properties["mlm:output"][0]["classification:classes"]:
        del entry["title"], entry["nodata"]  # fields of the classification extension that the package does not know
    check = schema.MLModelProperties.model_validate
    found = check(properties)
    assert (found.name, set(found.tasks), found.framework) == ("test", {"semantic-segmentation"}, "PyTorch")
    assert [scaling.type for scaling in found.input[0].value_scaling] == ["z-score"] * 3
    assert len(found.output[0].classes) == len(load_card(folder).legend)
    given = properties["mlm:input"][0]
    wrong = [
        {"mlm:tasks": ["land cover"]},
        {"mlm:accelerator": "gpu"},
        {"mlm:hyperparameters": []},
        {"mlm:input": [{**given, "resize_type": "area"}]},
        {"mlm:input": [{**given, "value_scaling": [{"type": "z-score", "mean": 0}]}]},
        {"mlm:input": [{**given, "input": {**given["input"], "shape": [-1, 3]}}]},
        {"mlm:output": [{"name": "land cover"}]},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match="validation error"):
            check(properties | change)


def test_the_assets_are_found_from_where_the_item_lies_and_are_the_ones_meant(folder: Path, tmp_path: Path) -> None:
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"not looked at")
    path = export_stac(folder, tmp_path / "item.json", onnx=onnx)
    assets = json.loads(path.read_text())["assets"]
    assert set(assets) == {"weights", "card", "onnx"}
    for asset in assets.values():
        file = path.parent / asset["href"]
        assert file.is_file()
        assert file.stat().st_size == asset["file:size"]
    weights = (path.parent / assets["weights"]["href"]).read_bytes()
    assert assets["weights"]["file:checksum"] == "1220" + hashlib.sha256(weights).hexdigest()


def test_what_is_missing_is_named_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        export_stac(tmp_path / "none", tmp_path / "item.json")
    with pytest.raises(UsageError, match=r"nothing\.onnx"):
        export_stac(folder, tmp_path / "item.json", onnx=tmp_path / "nothing.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "", "Österreich 2026", "9 cm", "drone-landcover", "x" * 80, "-..-"])
def test_any_name_becomes_one_that_the_extension_takes(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]", slug(name))


def test_a_card_without_a_date_gets_that_of_its_file(folder: Path) -> None:
    model: ModelCard = load_card(folder)
    assert created(model, folder) == "2026-11-25T00:00:00Z"
    os.utime(folder / "card.json", (1e9, 1e9))
    assert created(card(lively_network()), folder) == "2001-09-09T01:46:40Z"

"""A model of groups says for each the sum of what its classes have, on every runtime; its parent's licence holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, WEIGHTS
from aerialseg.model.groups import Groups, group_logits, regroup
from aerialseg.model.interface import Tile
from aerialseg.model.predictor import ModelPredictor, load_model, resolve
from aerialseg.model.store import load_card, load_network, save
from aerialseg.model.torch_engine import apply_temperature, decide
from aerialseg.raster.grid import Box
from tests.fakes import CARD as FAKE
from tests.fakes import LEGEND
from tests.model.nets import card as make_card
from tests.model.nets import lively_network

TABLE = """class,group,r,g,b
water,blue,0,0,250
grass,green,,,
forest,green,1,200,2
road,sealed,,,
roof,sealed,,,
bare soil,,,,
"""


def table(folder: Path, text: str = TABLE) -> Path:
    (folder / "groups.csv").write_text(text)
    return folder / "groups.csv"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    network = lively_network(classes=len(LEGEND))
    card = make_card(network, name="fake", legend=LEGEND, temperature=1.7, licence="Non-commercial.")
    save(folder, card, network.state_dict(), torch.float32)
    return folder


@pytest.fixture(scope="module")
def child(parent: Path) -> Path:
    return regroup(parent, table(parent), parent / "child")


def image(side: int = 96) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, side, side), dtype=np.uint8)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_probability_of_a_group_is_the_sum_of_its_classes(temperature: float) -> None:
    groups = (0, 1, 1, 2, 2, -1)
    legend = Groups(("a", "b", "c"), {}, {}).legend(LEGEND)
    card = replace(FAKE, legend=legend, groups=groups, temperature=temperature)
    logits = torch.randn(2, 6, 5, 4, generator=torch.Generator().manual_seed(1)) * 20
    found = apply_temperature(group_logits(logits.clone(), card), card).double()
    single = logits[:, :5].double().div(temperature).softmax(dim=1)
    wanted = torch.stack([single[:, 0], single[:, 1:3].sum(1), single[:, 3:5].sum(1)], dim=1)
    assert torch.allclose(found, wanted, atol=2e-6)
    said = decide(group_logits(logits.clone(), card), card)
    assert torch.equal(said[:, 0], wanted.argmax(1).to(torch.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_each_runtime_says_the_group_of_the_largest_sum(parent: Path, child: Path, runtime: str) -> None:
    pytest.importorskip("openvino")
    how = {"device": "cpu", "precision": "fp32", "runtime": runtime}
    pixels = image()
    one, other = (load_model(folder, tta=True, **how) for folder in (parent, child))
    box = Box(0, 0, 96, 96)
    tile = Tile(pixels, np.ones((96, 96), bool), box, box, "")
    single = probabilities(one, tile)
    sums = np.stack([single[0], single[1:3].sum(0), single[3:5].sum(0)]) / single[:5].sum(0)
    assert np.allclose(probabilities(other, tile), sums, atol=1e-4)
    said = load_model(child, **how).predict_array(pixels)
    clear = np.sort(sums, axis=0)[-1] - np.sort(sums, axis=0)[-2] > 1e-3
    assert clear.mean() > 0.9
    assert (said.classes == sums.argmax(0))[clear].all()
    assert (np.abs(said.confidence.astype(int) - 100 * sums.max(0)) <= 0.6)[clear].all()


def probabilities(predictor: ModelPredictor, tile: Tile) -> np.ndarray:
    """float (classes, h, w) of the network, looked at once."""
    engine = predictor.engine._engine  # type: ignore[attr-defined]
    box = tile.window
    found: np.ndarray = engine.probabilities(engine.place(tile), [box], box, box)[0]
    return found


def test_onnx_gives_the_sums(parent: Path, child: Path) -> None:
    from aerialseg.model.onnx_export import Answer

    pixels = torch.from_numpy(image(64))[None] / 255
    with torch.inference_mode():
        single, sums = (Answer(network, card).eval()(pixels)[0] for card, network in map(load_network, (parent, child)))
    wanted = torch.stack([single[0], single[1:3].sum(0), single[3:5].sum(0)]) / single[:5].sum(0)
    assert torch.allclose(sums, wanted, atol=1e-5)


def test_the_card_names_the_groups_and_the_parent(parent: Path, child: Path) -> None:
    card, old = load_card(child), load_card(parent)
    assert card.legend.names == ("blue", "green", "sealed")
    assert [entry.color for entry in card.legend] == [(0, 0, 250), (1, 200, 2), (120, 120, 120)]
    assert card.licence == "Non-commercial."
    assert "'fake'" in card.lineage[-1]
    assert (child / WEIGHTS).read_bytes() == (parent / WEIGHTS).read_bytes()
    assert card.digest != old.digest
    assert ModelCard.from_json(card.to_json()) == card
    assert card.scores == {}


def test_groups_of_groups_are_groups_of_classes(parent: Path, child: Path, tmp_path: Path) -> None:
    text = "class,group\nblue,open\ngreen,open\nsealed,sealed\n"
    again = load_card(regroup(child, table(tmp_path, text), tmp_path / "again"))
    assert again.groups == (0, 0, 0, 1, 1, -1)
    assert resolve(tmp_path / "again", device="cpu").card == again


WRONG = {
    "a class is missing": (TABLE.replace("roof,sealed,,,\n", ""), InputError, "has the class roof, which the groups"),
    "a group in another case": (TABLE + "wall,Sealed,,,\n", InputError, "differ in case alone: write one"),
    "a class twice": (TABLE + "water,blue,,,\n", InputError, "line 8: the class 'water' is there twice"),
    "no members": (TABLE + "tundra,cold,,,\n", ModelError, "the group 'cold' has none of the classes"),
    "half a colour": (TABLE.replace("0,0,250", "0,,250"), InputError, "line 2: a colour is"),
    "no columns": ("name,group\nwater,blue\n", InputError, "lacks the column 'class'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_table_is_said(parent: Path, tmp_path: Path, name: str) -> None:
    text, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        regroup(parent, table(tmp_path, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_there_is_not_replaced_unasked(parent: Path, child: Path) -> None:
    with pytest.raises(UsageError, match="overwrite"):
        regroup(parent, table(parent), child)
    assert regroup(parent, table(parent), child, overwrite=True) == child
    assert (child / CARD).exists()

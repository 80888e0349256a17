"""Models on disk: what does not fit is refused by name, and no pickle is ever opened."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aerialseg.errors import ModelError, ResourceError
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, NETWORK, WEIGHTS, added, model_dir, user_folder
from aerialseg.model.listing import find_models
from aerialseg.model.network import Network
from aerialseg.model.predictor import resolve
from aerialseg.model.store import HISTORY, load_card, load_network, load_whole_card, save, write_history
from tests.model.nets import card, legend, lively_network


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network()


@pytest.fixture
def folder(tmp_path: Path, network: Network) -> Path:
    save(tmp_path / "model", card(network), network.state_dict())
    return tmp_path / "model"


def rehash(folder: Path, **changes: object) -> None:
    """Make the card fit the weights as they are now, so that only the fault under test is left."""
    import hashlib

    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    replace(ModelCard.read(folder / CARD), weights_sha256=digest, **changes).write(folder / CARD)  # type: ignore[arg-type]


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    state = {**load_file(folder / WEIGHTS), **{k.replace("__", "."): v for k, v in changes.items()}}
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, folder / WEIGHTS)
    rehash(folder)


def test_what_was_saved_loads_and_answers_the_same_but_for_float16(folder: Path, network: Network) -> None:
    loaded_card, loaded = load_network(folder)
    assert loaded_card == load_card(folder)
    assert not loaded.training
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), network(x), atol=0.05, rtol=0.05)


def test_the_history_lies_beside_the_card_and_no_map_needs_it(folder: Path) -> None:
    write_history(folder, {"history": [{"epoch": 0}]})
    assert not load_card(folder).training
    assert load_whole_card(folder).training == {"history": [{"epoch": 0}]}
    (folder / HISTORY).write_text("no json")
    load_network(folder)
    with pytest.raises(ModelError, match=r"history\.json: .*; correct or delete it"):
        load_whole_card(folder)
    (folder / HISTORY).unlink()
    assert load_whole_card(folder) == load_card(folder)


def test_a_card_of_an_older_model_keeps_its_history_inside(folder: Path) -> None:
    training = {"frame_size": [64, 96], "history": [{"epoch": 0}]}
    replace(load_card(folder), training=training).write(folder / CARD)
    assert load_network(folder)[0].training == load_whole_card(folder).training == training


def test_a_float32_model_is_kept_to_the_bit(tmp_path: Path, network: Network) -> None:
    save(tmp_path, card(network), network.state_dict(), dtype=torch.float32)
    _, loaded = load_network(tmp_path)
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    )


def test_saving_leaves_nothing_else_behind(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [CARD, NETWORK, WEIGHTS]


class Bomb:
    """A pickle of this writes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["export.pkl", "model.pth", "weights.pt"])
def test_row_17_a_pickle_is_refused_and_not_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    for ref in (tmp_path / name, tmp_path):
        with pytest.raises(ModelError, match="pickle"):
            model_dir(ref)
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("kind", ["pickle", "zip"])
def test_row_17_a_pickle_under_the_name_of_the_weights_is_refused_and_not_opened(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "zip":
        torch.save({"bomb": torch.zeros(3)}, folder / WEIGHTS)
    else:
        (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    rehash(folder)
    with pytest.raises(ModelError, match="pickle"):
        load_network(folder)
    assert not (tmp_path / "boom").exists()


def test_row_18_truncated_weights_are_refused(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="SHA-256"):
        resolve(folder, device="cpu")
    rehash(folder)
    with pytest.raises(ModelError, match="damaged or cut off"):
        load_network(folder)


def test_row_18_weights_changed_by_one_byte_are_refused_before_any_work(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(content))
    with pytest.raises(ModelError, match="damaged or belongs to another model"):
        resolve(folder, device="cpu")


def test_row_18_missing_and_unexpected_tensors_are_named(folder: Path) -> None:
    rewrite(folder, layers__1__bias=None, layers__99__weight=torch.zeros(2))
    with pytest.raises(ModelError, match=r"layers\.1\.bias.*layers\.99\.weight"):
        load_network(folder)


def test_row_18_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    rewrite(folder, layers__1__bias=torch.zeros(7))
    with pytest.raises(ModelError, match=r"layers\.1\.bias has the shape \(7,\)"):
        load_network(folder)


def test_row_18_a_legend_of_another_length_is_refused(folder: Path) -> None:
    rehash(folder, legend=legend(4))
    with pytest.raises(ModelError, match="network has 5 classes, the legend of its card 4"):
        load_network(folder)


def test_row_18_weights_that_are_not_finite_are_refused(folder: Path, tmp_path: Path, network: Network) -> None:
    rewrite(folder, layers__1__bias=torch.full((32,), torch.nan))
    with pytest.raises(ModelError, match=r"layers\.1\.bias holds values that are not finite"):
        load_network(folder)
    state = network.state_dict() | {"layers.1.bias": torch.full((32,), torch.inf)}
    with pytest.raises(ModelError, match="not finite"):
        save(tmp_path / "other", card(network), state)


def test_an_unknown_encoder_is_refused(folder: Path) -> None:
    rehash(folder, architecture=replace(ModelCard.read(folder / CARD).architecture, encoder="vgg11"))
    with pytest.raises(ModelError, match="'vgg11' is not known"):
        load_network(folder)


def test_a_card_that_promises_exactness_with_too_small_a_halo_is_refused(folder: Path) -> None:
    rehash(folder, halo=64)
    with pytest.raises(ModelError, match="exact with a halo of 64 px; this network needs 256"):
        load_network(folder)
    rehash(folder, halo=64, exact=False)
    assert load_network(folder)[0].halo == 64


@pytest.mark.parametrize("claimed", [0, 64, 512])
def test_the_halo_in_the_card_is_the_one_that_was_probed(tmp_path: Path, network: Network, claimed: int) -> None:
    assert save(tmp_path, card(network, halo=claimed), network.state_dict()).halo == 256
    assert load_card(tmp_path).halo == 256


def test_an_approximate_card_keeps_its_halo(tmp_path: Path, network: Network) -> None:
    assert save(tmp_path, card(network, halo=64, exact=False), network.state_dict()).halo == 64


def test_a_lattice_finer_than_the_networks_is_refused(folder: Path) -> None:
    rehash(folder, stride=16)
    with pytest.raises(ModelError, match="on a lattice of 32 px"):
        load_network(folder)


def test_weights_that_do_not_fit_the_card_are_not_saved(tmp_path: Path, network: Network) -> None:
    with pytest.raises(ModelError, match="network has 5 classes, the legend of its card 4"):
        save(tmp_path / "model", card(network, legend=legend(4)), network.state_dict())
    assert not (tmp_path / "model").exists()


def test_a_model_that_is_not_there_lists_what_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model 'no-such-model'"):
        model_dir("no-such-model")
    with pytest.raises(ModelError, match=r"has no card\.json"):
        model_dir(tmp_path)


def test_weights_that_are_not_there_are_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        resolve(folder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_row_20_cuda_asked_for_but_not_there_is_found_before_the_weights_are_loaded(folder: Path) -> None:
    with pytest.raises(ResourceError, match="--device cpu"):
        resolve(folder, device="cuda")


def test_a_model_in_the_users_data_folder_goes_by_its_name(folder: Path) -> None:
    place = user_folder() / "mine"
    assert "mine" not in added()
    shutil.copytree(folder, place)
    try:
        assert added()["mine"] == model_dir("mine") == place
        assert load_card("mine") == load_card(folder)
        assert "mine" in [entry.ref for entry in find_models()]
    finally:
        shutil.rmtree(place)

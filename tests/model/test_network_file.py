"""network.onnx: the exact network as a graph that points into the weights, and what other runtimes say of it."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aerialseg.errors import ModelError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.device import choose
from aerialseg.model.folders import CARD, NETWORK, WEIGHTS, embedded
from aerialseg.model.network import Network
from aerialseg.model.openvino import read_network
from aerialseg.model.predictor import ModelPredictor, load_model, resolve
from aerialseg.model.store import load_card, save, update
from aerialseg.model.tile_crops import Reach, find_crops
from aerialseg.model.weights_file import read_header
from aerialseg.raster.grid import Box
from tests.model.nets import card, lively_network, stored

onnx = pytest.importorskip("onnx", reason="network.onnx is written with onnx (the extra of that name)")

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 100, 130), dtype=np.uint8)


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network()


@pytest.fixture
def folder(network: Network, tmp_path: Path) -> Path:
    save(tmp_path / "model", card(network), network.state_dict())
    return tmp_path / "model"


def test_nothing_is_stored_twice(folder: Path) -> None:
    graph = onnx.load(folder / NETWORK, load_external_data=False).graph
    kernels = [one for one in graph.initializer if one.name.endswith("weight")]
    assert len(kernels) > 20
    stored_there = read_header(folder / WEIGHTS)
    for one in kernels:
        place = {entry.key: entry.value for entry in one.external_data}
        there = stored_there[one.name]
        assert place == {"location": WEIGHTS, "offset": str(there.offset), "length": str(there.length)}
        assert not one.raw_data
    onnx.checker.check_model(folder / NETWORK, full_check=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_a_saved_model_runs_from_its_files_as_torch_runs_it(
    network: Network, tmp_path: Path, dtype: torch.dtype
) -> None:
    save(tmp_path, card(network), network.state_dict(), dtype)
    ours, theirs = (load_model(tmp_path, precision="fp32", runtime=name) for name in ("auto", "torch"))
    assert (ours.way.runtime, theirs.way.runtime) == ("openvino", "torch")
    one, other = (predictor.predict_array(PIXELS) for predictor in (ours, theirs))
    assert (one.classes == other.classes).mean() > 0.9999
    assert np.abs(one.confidence.astype(int) - other.confidence).max() <= 1


def test_onnx_runtime_reads_the_same_file_and_gives_torchs_logits(network: Network) -> None:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(stored(network) / NETWORK, providers=["CPUExecutionProvider"])
    for window, core in ((Box(0, 0, 96, 128), Box(3, 40, 90, 128)), (Box(32, 64, 224, 160), Box(64, 64, 100, 99))):
        image = torch.randn(2, 3, *window.shape, generator=torch.Generator().manual_seed(0))
        found = session.run(None, {"image": image.numpy(), "crops": find_crops(network.reach, window, core)})[0]
        with torch.inference_mode():
            wanted = network.forward_tile(image, window, core).numpy()
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


@pytest.mark.slow
@pytest.mark.parametrize(("decoder", "norm"), [("smp-unet", "batch"), ("stage-heads", "none")])
def test_every_kind_of_network_has_a_graph(decoder: str, norm: str) -> None:
    network = lively_network(decoder=decoder, norm=norm)
    known = card(network, network_sha256="ab")
    ours = ModelPredictor(stored(network), known, choose("cpu", "fp32", "openvino", known), tile=64)
    theirs = ModelPredictor(network, known, choose("cpu", "fp32", "torch"))
    one, other = (predictor.predict_array(PIXELS).classes for predictor in (ours, theirs))
    assert (one == other).mean() > 0.9999


def test_how_far_the_network_looks_travels_with_it(network: Network, folder: Path) -> None:
    assert read_network(folder)[1] == network.reach
    assert Reach.from_json(network.reach.to_json()) == network.reach


def test_a_graph_or_a_card_that_was_changed_is_refused(folder: Path) -> None:
    reference = load_card(folder)
    replace(reference, halo=reference.halo - 32).write(folder / CARD)
    with pytest.raises(ModelError, match="with a halo of"):
        resolve(folder)
    reference.write(folder / CARD)
    (folder / NETWORK).write_bytes((folder / NETWORK).read_bytes().replace(b"Relu", b"Sigm", 1))
    with pytest.raises(ModelError, match=r"network\.onnx has the SHA-256"):
        resolve(folder)
    (folder / NETWORK).unlink()
    with pytest.raises(ModelError, match=r"cannot read the network .*network\.onnx"):
        resolve(folder)


@pytest.mark.parametrize("location", ["../weights.safetensors", "/etc/hostname"])
def test_a_graph_that_points_outside_its_folder_is_refused(folder: Path, location: str) -> None:
    model = onnx.load(folder / NETWORK, load_external_data=False)
    next(one for one in model.graph.initializer if one.external_data).external_data[0].value = location
    (folder / NETWORK).write_bytes(model.SerializeToString())
    (folder.parent / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes())
    changed = hashlib.sha256((folder / NETWORK).read_bytes()).hexdigest()
    replace(load_card(folder), network_sha256=changed).write(folder / CARD)
    with pytest.raises(ModelError, match=r"cannot be used.*aerialseg model update"):
        resolve(folder)


def test_an_old_folder_runs_on_torch_until_it_is_updated(folder: Path) -> None:
    now = load_card(folder)
    replace(now, network_sha256="").write(folder / CARD)
    graph = (folder / NETWORK).read_bytes()
    (folder / NETWORK).unlink()
    assert resolve(folder).way.runtime == "torch"
    update(folder)
    assert (load_card(folder), (folder / NETWORK).read_bytes()) == (now, graph)
    assert resolve(folder).way.runtime == "openvino"


def test_a_network_that_cannot_be_exact_has_no_graph_and_an_older_one_goes(folder: Path) -> None:
    attentive = lively_network(self_attention=True)
    architecture = replace(card(attentive).architecture, self_attention=True)
    made = save(folder, card(attentive, exact=False, architecture=architecture), attentive.state_dict())
    assert made.network_sha256 == ""
    assert not (folder / NETWORK).exists()
    with pytest.raises(ModelError, match="torch runs it"):
        update(folder)


def test_without_onnx_no_model_is_saved_and_the_extra_is_named(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"aerialseg\[train\]"):
        save(tmp_path / "model", card(network), network.state_dict())


@pytest.mark.slow
def test_the_bundled_graph_is_what_this_version_writes(tmp_path: Path) -> None:
    (ours,) = embedded().values()
    for name in (CARD, WEIGHTS):
        (tmp_path / name).write_bytes((ours / name).read_bytes())
    update(tmp_path)
    assert without_version(tmp_path / NETWORK) == without_version(ours / NETWORK)
    assert ModelCard.read(ours / CARD).network_sha256 == hashlib.sha256((ours / NETWORK).read_bytes()).hexdigest()


def without_version(path: Path) -> object:
    model = onnx.load(path, load_external_data=False)
    model.producer_version = ""
    return model

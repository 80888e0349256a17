"""The ONNX file says what torch says, never a void class, and tells Deepness what it needs to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aerialseg.errors import ModelError, UsageError
from aerialseg.model.folders import embedded
from aerialseg.model.onnx_export import Answer, export_onnx, overlap_percent
from aerialseg.model.store import load_network, save
from tests.model.nets import card, lively_network

onnx = pytest.importorskip("onnx", reason="onnx is not installed (the extra of that name)")
ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with a void class and a temperature."""
    folder = tmp_path_factory.mktemp("model")
    network = lively_network()
    save(folder, card(network, void=(0, 3), temperature=1.7, licence="none"), network.state_dict(), torch.float32)
    return folder


def asked(path: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return found


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("output", ["probabilities", "logits"])
@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (2, 3, 96, 160)])
def test_it_says_what_torch_says_for_any_size(
    folder: Path, tmp_path: Path, shape: tuple[int, ...], output: str
) -> None:
    model, network = load_network(folder)
    path = export_onnx(folder, tmp_path / "model.onnx", tile=None, output=output)
    image = drawn(*shape)
    theirs = asked(path, image)
    with torch.inference_mode():
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (model.mean, model.std))
        logits = network((torch.from_numpy(image) - mean) / std)
        logits[:, [0, 3]] = -torch.inf
        ours = (logits if output == "logits" else (logits / 1.7).softmax(1)).numpy()
    known = [1, 2, 4]
    assert np.abs(theirs[:, known] - ours[:, known]).max() < 1e-4
    assert (theirs.argmax(1) == ours.argmax(1)).all()
    assert not np.isin(theirs.argmax(1), [0, 3]).any()
    if output == "probabilities":
        assert theirs.sum(1) == pytest.approx(1.0, abs=1e-5)
        assert (theirs[:, [0, 3]] == 0).all()


def test_deepness_finds_all_that_it_asks_for(folder: Path, tmp_path: Path) -> None:
    """Square and of a fixed size, one output; its keys, each of them JSON, class ids from 0 on without a gap."""
    path = export_onnx(folder, tmp_path / "model.onnx", tile=128)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert given.shape == ["batch", 3, 128, 128]
    assert answer.shape == ["batch", 5, 128, 128]
    values: dict[str, Any] = {
        name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()
    }
    assert values["model_type"] == "Segmentor"
    assert values["class_names"] == {str(number): f"class-{number}" for number in range(5)}
    assert values["resolution"] == pytest.approx(5.0)
    assert values["tile_size"] == values["tiles_size"] == 128
    assert 0 <= values["tiles_overlap"] <= 50
    assert values["standardization_mean"] == [0, 0, 0]
    assert values["standardization_std"] == [1, 1, 1]
    assert values["seg_thresh"] == values["seg_small_segment"] == 0
    assert values["licence"] == "none"


def test_the_file_is_valid_onnx_of_the_opset_that_it_names(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(export_onnx(folder, tmp_path / "model.onnx", tile=64))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version >= 17
    assert model.producer_name == "aerialseg"


@pytest.mark.slow
def test_a_network_with_instance_norm_is_exported_too(tmp_path: Path) -> None:
    network = lively_network(norm="instance")
    reference = card(network)
    reference = type(reference).from_json(
        {**reference.to_json(), "architecture": {"encoder": "resnet10-narrow", "norm": "instance"}}
    )
    save(tmp_path / "model", reference, network.state_dict(), torch.float32)
    path = export_onnx(tmp_path / "model", tmp_path / "model.onnx", tile=64)
    image = drawn(1, 3, 64, 64)
    with torch.inference_mode():
        ours = Answer(network, reference)(torch.from_numpy(image)).numpy()
    assert np.abs(asked(path, image) - ours).max() < 1e-4


def test_neighbours_share_what_an_approximation_needs_but_no_more_than_half() -> None:
    model = card(lively_network(), halo=608)
    assert overlap_percent(model, 2048) == 25
    assert overlap_percent(model, 512) == 50


@pytest.mark.parametrize("tile", [0, 100, -32])
def test_a_tile_off_the_lattice_is_refused(folder: Path, tmp_path: Path, tile: int) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        export_onnx(folder, tmp_path / "model.onnx", tile=tile)
    assert not list(tmp_path.glob("model*"))


def test_a_model_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        export_onnx(tmp_path / "none", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not embedded(), reason="no embedded model in this checkout")
def test_the_embedded_model_says_the_same(tmp_path: Path) -> None:
    model, network = load_network()
    path = export_onnx(None, tmp_path / "model.onnx", tile=256)
    image = drawn(1, 3, 256, 256)
    with torch.inference_mode():
        ours = Answer(network, model)(torch.from_numpy(image)).numpy()
    theirs = asked(path, image)
    assert np.abs(theirs - ours).max() < 1e-4
    assert (theirs.argmax(1) == ours.argmax(1)).mean() > 0.9999

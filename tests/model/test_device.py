"""What "auto" comes to, and what is said of a way that there is not."""

from __future__ import annotations

import pytest

from aerialseg.errors import ResourceError, UsageError
from aerialseg.model import device
from aerialseg.model.card import Architecture
from aerialseg.model.device import TILES, ComputeMode, choose, choose_size, free_bytes
from tests.model.nets import card, lively_network

CPU = "cpu"


def test_a_model_without_a_graph_runs_on_torch_and_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = card(lively_network()), card(lively_network(), network_sha256="ab")
    assert choose("cpu", "auto", "auto", old) == ComputeMode(CPU, "torch", "fp32")
    assert choose("cpu", "auto", "auto", new).runtime == "openvino"
    with pytest.raises(UsageError, match="aerialseg model update"):
        choose("cpu", "auto", "openvino", old)
    monkeypatch.setattr(device, "has_torch", lambda: False)
    assert choose("cpu", "auto", "auto", new).runtime == "openvino"
    with pytest.raises(ResourceError, match=r"aerialseg\[gpu\].*aerialseg model update"):
        choose("cpu", "auto", "auto", old)
    with pytest.raises(ResourceError, match="torch is not installed"):
        choose("cuda", "auto", "auto", new)


def test_an_openvino_that_cannot_be_loaded_leaves_the_work_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_openvino", lambda: False)
    assert choose("cpu", "auto", "auto") == ComputeMode(CPU, "torch", "fp32")
    with pytest.raises(ResourceError, match="pip install"):
        choose("cpu", "auto", "openvino")


def test_a_model_that_is_not_exact_runs_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    attentive = card(lively_network(), exact=False, architecture=Architecture("resnet10-narrow", self_attention=True))
    assert choose("cpu", "auto", "auto", attentive).runtime == "torch"
    with pytest.raises(UsageError, match="exact models only"):
        choose("cpu", "auto", "openvino", attentive)
    monkeypatch.setattr(device, "has_torch", lambda: False)
    with pytest.raises(ResourceError, match="on torch only"):
        choose("cpu", "auto", "auto", attentive)


def test_without_a_driver_nobody_is_asked_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(device, "may_have_gpu", lambda: False)
    monkeypatch.setattr(device, "_cuda", lambda: asked.append("cuda"))
    assert (choose("auto", "auto", "auto").device, asked) == ("cpu", [])


@pytest.mark.parametrize(("lost", "wanted"), [(0.0019, "int8"), (0.0021, "bf16")])
def test_int8_is_the_default_where_it_was_measured_to_lose_next_to_nothing(
    monkeypatch: pytest.MonkeyPatch, lost: float, wanted: str
) -> None:
    for name in ("has_openvino", "has_bf16", "multiplies_int8"):
        monkeypatch.setattr(device, name, lambda: True)
    scores = {"fp32": 0.5, "int8": 0.5 - lost}
    ranges = {"layers.0.0": [-2.0, 2.0]}
    quantized = card(lively_network(), network_sha256="ab", quantization={"ranges": ranges, "mean_iou": scores})
    assert choose("cpu", "auto", "auto", quantized).precision == wanted
    monkeypatch.setattr(device, "multiplies_int8", lambda: False)
    assert choose("cpu", "auto", "auto", quantized).precision == "bf16"


def test_int8_of_a_model_that_was_not_quantized_is_refused() -> None:
    with pytest.raises(UsageError, match="aerialseg quantize"):
        choose("cpu", "int8", "openvino", card(lively_network(), network_sha256="ab"))
    with pytest.raises(UsageError, match="int8 runs on OpenVINO"):
        choose("cpu", "int8", "torch")


@pytest.mark.parametrize(("precision", "runtime"), [("fp8", "auto"), ("auto", "tensorrt")])
def test_unknown_words_are_refused_with_those_that_are_known(precision: str, runtime: str) -> None:
    with pytest.raises(UsageError, match="wanted one of auto"):
        choose("cpu", precision, runtime)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("gib", "side"), [(0.5, 256), (5, 1024), (64, 2048)])
def test_the_tile_fits_into_the_memory_that_is_free(
    monkeypatch: pytest.MonkeyPatch, precision: str, gib: float, side: int
) -> None:
    monkeypatch.setattr(device, "free_bytes", lambda _: gib * 2**30)
    tile, batch = choose_size(ComputeMode(CPU, "torch", precision))
    assert batch == 1
    assert tile in TILES
    assert tile <= side
    assert (tile == side) or precision == "fp32"


def test_the_free_memory_of_this_machine_is_known() -> None:
    assert 1e8 < free_bytes(CPU) < 64e12

"""A temperature changes how sure the model says it is, by softmax(logits / T), and never what it says."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from aerialseg.model.device import choose
from aerialseg.model.interface import Prediction, Tile
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.torch_engine import decide
from aerialseg.raster.grid import Box
from tests.model.nets import card, for_runtime, lively_network

PIXELS: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (3, 96, 128), dtype=np.uint8)
TEMPERATURES = (0.5, 1.0, 2.0)


@functools.cache
def predicted(runtime: str, temperature: float, precision: str = "fp32") -> Prediction:
    network = lively_network()
    model = card(network, void=(1,), temperature=temperature)
    window = Box(0, 0, 96, 128)
    answering = ModelPredictor(for_runtime(network, runtime), model, choose("cpu", precision, runtime))
    return answering.predict(Tile(PIXELS, np.ones((96, 128), bool), window, window))


def test_the_confidence_is_the_softmax_of_logits_over_the_temperature() -> None:
    logits = torch.randn(2, 5, 8, 9, generator=torch.Generator().manual_seed(0)) * 3
    network = lively_network()
    for temperature in TEMPERATURES:
        by_hand = logits.clone()
        by_hand[:, 2] = -torch.inf
        best, classes = (by_hand / temperature).softmax(1).max(1)
        said = decide(logits.clone(), card(network, void=(2,), temperature=temperature))
        assert (said[:, 0] == classes).all()
        assert (said[:, 1].int() - best * 100).abs().max() <= 0.5 + 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_labels_are_the_same_whatever_the_temperature(runtime: str) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino")
    cold, plain, warm = (predicted(runtime, temperature) for temperature in TEMPERATURES)
    assert (cold.classes == plain.classes).all()
    assert (warm.classes == plain.classes).all()
    assert (cold.confidence >= plain.confidence).all()
    assert (plain.confidence >= warm.confidence).all()
    assert cold.confidence.mean() > plain.confidence.mean() + 5 > warm.confidence.mean() + 10


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_torch_and_openvino_are_as_sure_as_each_other(temperature: float) -> None:
    pytest.importorskip("openvino")
    theirs, ours = (predicted(runtime, temperature).confidence.astype(int) for runtime in ("torch", "openvino"))
    assert np.abs(theirs - ours).max() <= 1

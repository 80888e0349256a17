"""Fault 36: NaN, infinity and deviations too small for 32 bits inside the network are errors, never classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from aerialseg.cli import cli
from aerialseg.errors import ModelError
from aerialseg.model.device import choose
from aerialseg.model.interface import Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.store import save
from aerialseg.raster.grid import Box
from tests.model.nets import card, for_runtime, lively_network
from tests.raster.drawing import picture, write

RUNTIMES = ("torch", "openvino")


def convolutions(network: Network) -> list[torch.nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


def spoiled(value: float, which: int) -> Network:
    """A network with one weight of that value in the convolution of that number."""
    network = lively_network()
    convolutions(network)[which].weight.data[0] = value
    return network


def answer(network: Network, runtime: str, *, tta: bool = False) -> object:
    predictor = ModelPredictor(for_runtime(network, runtime), card(network), choose("cpu", "fp32", runtime), tta=tta)
    core = Box(0, 0, 64, 96)
    return predictor.predict(Tile(picture(64, 96), np.ones(core.shape, bool), core, core))


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("tta", [False, True])
def test_row_36_logits_that_are_not_finite_are_an_error_that_names_the_block(
    monkeypatch: pytest.MonkeyPatch, runtime: str, value: float, tta: bool
) -> None:
    monkeypatch.setattr("aerialseg.model.openvino._check_finite", lambda *_: None)  # so that the graph has to see it
    with pytest.raises(ModelError, match="NaN or infinity in the block of rows 0 to 63, columns 0 to 95"):
        answer(spoiled(value, -1), runtime, tta=tta)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("which", [0, 3, 8, -2])
@pytest.mark.parametrize("value", [float("nan"), 3e38])
def test_row_36_numbers_that_overflow_inside_never_become_classes(runtime: str, which: int, value: float) -> None:
    with pytest.raises(ModelError, match="NaN or infinity"):
        answer(spoiled(value, which), runtime)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_row_36_a_sound_network_answers(runtime: str) -> None:
    assert answer(lively_network(), runtime).confidence.max() <= 100


@pytest.mark.parametrize("std", [0.0, 1e-320, 1e-40])
def test_row_36_a_deviation_too_small_for_32_bits_is_refused_with_the_card(std: float) -> None:
    with pytest.raises(ModelError, match="std at least"):
        replace(card(lively_network()), std=(0.2, std, 0.2))


def test_row_36_a_run_ends_with_exit_code_4_and_no_output(tmp_path: Path) -> None:
    source = write(tmp_path / "ortho.tif", picture(96, 96))
    network = lively_network()
    convolutions(network)[-1].weight.data *= 3e38 / 2
    save(tmp_path / "model", card(network), network.state_dict(), torch.float32)
    options = ["--model", tmp_path / "model", "--resolution", "native", "--runtime", "torch", "--precision", "fp32"]
    done = CliRunner().invoke(cli, ["segment", str(source), str(tmp_path / "map.gpkg"), *map(str, options)])
    assert done.exit_code == 4, done.stderr
    assert "NaN or infinity in the block of rows 0 to 95" in done.stderr
    assert not (tmp_path / "map.gpkg").exists()

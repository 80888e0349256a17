"""What int8 costs each layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aerialseg.model.cpu import has_openvino
from aerialseg.model.int8_ranges import find_ranges
from aerialseg.model.store import save
from aerialseg.training.quantize import LOSSY, find_losses
from tests.model.nets import card, lively_network, smooth_noise

pytestmark = pytest.mark.skipif(not has_openvino(), reason="needs openvino")


@pytest.mark.long
@pytest.mark.slow
def test_the_layer_that_loses_most_in_int8_is_found(tmp_path: Path) -> None:
    """One whose range is a thousand times as wide as its values has a handful of steps left."""
    network = lively_network("resnet10-narrow")
    images = [smooth_noise(1, 3, 96, 96, seed=seed) for seed in range(2)]
    ranges = find_ranges(network, images)
    unlucky = "layers.4.conv1.0"
    ranges[unlucky] = (0.0, 1000 * ranges[unlucky][1])
    known = replace(card(network), quantization={"ranges": ranges})
    save(tmp_path / "model", known, network.state_dict())
    mean, std = known.mean[0], known.std[0]
    pixels = [((image * std + mean) * 255).clamp(0, 255).byte().numpy() for image in images]
    losses = find_losses(tmp_path / "model", known, pixels)
    assert set(losses) == set(ranges)
    assert max(losses, key=lambda name: losses[name]) == unlucky
    assert [name for name, loss in losses.items() if loss > LOSSY * sum(losses.values())] == [unlucky]

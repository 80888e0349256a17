"""A network made ready for inference says the same as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aerialseg.model.card import Architecture
from aerialseg.model.encoders import ENCODERS, EncoderShape
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.unet import UNet
from aerialseg.raster.grid import Box
from tests.model.nets import lively_network, smooth_noise

WINDOW, CORE = Box(0, 0, 160, 192), Box(32, 0, 100, 150)


@pytest.mark.slow
@pytest.mark.parametrize(("bottleneck", "blur", "channels"), [(False, False, 1), (True, True, 16), (False, True, 16)])
def test_the_logits_stay_the_same(monkeypatch: pytest.MonkeyPatch, bottleneck: bool, blur: bool, channels: int) -> None:
    monkeypatch.setitem(ENCODERS, "tiny", EncoderShape((1, 2, 1, 1), (8, 16, 24, 32), bottleneck=bottleneck))
    network = lively_network("tiny", blur=blur).double()  # so that rounding does not hide a mistake
    image = smooth_noise(2, 3, *WINDOW.shape).double()
    with torch.inference_mode():
        before = network.forward_tile(image, WINDOW, CORE)
        after = fold_for_inference(network, channels=channels).forward_tile(image, WINDOW, CORE)
    assert after.shape == before.shape
    assert (after - before).abs().max() < 1e-10 * before.abs().max()


def test_no_norm_follows_a_convolution_any_more_and_the_original_is_left_alone() -> None:
    network = lively_network()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    folded = fold_for_inference(network)
    # One before the bridge and one in each decoder block follow no convolution.
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == 5 < norms
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms


def test_the_last_layers_have_a_multiple_of_the_channels() -> None:
    network = lively_network()
    wide = fold_for_inference(network, channels=16)
    odd = network.layers[11].convpath[0][0].in_channels  # type: ignore[union-attr, index]
    even = wide.layers[11].convpath[0][0].in_channels  # type: ignore[union-attr, index]
    assert odd % 16
    assert even % 16 == 0
    assert 0 < even - odd < 16


def test_a_network_with_attention_keeps_its_channels_and_its_answer() -> None:
    torch.manual_seed(0)
    network = UNet(ENCODERS["resnet10-narrow"], 4, options=Architecture(self_attention=True)).eval()
    image = smooth_noise(1, 3, 128, 128)
    with torch.inference_mode():
        before, after = network(image), fold_for_inference(network, channels=16)(image)
    assert torch.allclose(before, after, atol=1e-4)

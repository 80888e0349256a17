"""What exactness costs: operations per pixel of the answer, as torch counts them."""

from __future__ import annotations

import pytest
import torch

from aerialseg.model.folders import embedded
from aerialseg.model.network import Network
from aerialseg.model.networks import build, build_for
from aerialseg.model.store import load_card
from aerialseg.seams.operations import operations_per_pixel, work_per_pixel

LARGE_CORE, SMALL_CORE = 2048, 1024


@pytest.fixture(scope="module")
def fastais() -> Network:
    """fastai's U-Net over a ResNet-34, without numbers."""
    with torch.device("meta"):
        return build("resnet34", 24)


@pytest.fixture(scope="module")
def bundled() -> Network:
    """The bundled model's network, without numbers. Its encoder has a larger share in less work."""
    with torch.device("meta"):
        return build_for(load_card()) if embedded() else build("resnet34", 24, decoder="light-unet", norm="batch")


@pytest.mark.slow
def test_a_large_core_costs_at_most_a_quarter_more_than_the_whole_image(fastais: Network) -> None:
    assert 1 < work_per_pixel(fastais, LARGE_CORE) <= 1.25


def test_a_small_core_costs_at_most_half_more(fastais: Network) -> None:
    assert 1 < work_per_pixel(fastais, SMALL_CORE) <= 1.55


@pytest.mark.slow
def test_the_bundled_network_costs_less_in_tiles_than_fastais_at_once(fastais: Network, bundled: Network) -> None:
    ratio = operations_per_pixel(bundled) / operations_per_pixel(fastais)
    assert ratio * work_per_pixel(bundled, LARGE_CORE) < 0.6


@pytest.mark.slow
def test_the_work_is_what_was_prototyped(fastais: Network) -> None:
    """ALGORITHMS.md, 1: the prototype's table."""
    prototyped = {512: 2.33, 1024: 1.51, 2048: 1.21, 4096: 1.09}
    assert all(work_per_pixel(fastais, core) <= most + 0.01 for core, most in prototyped.items())


@pytest.mark.slow
def test_an_approximate_halo_costs_less_and_none_costs_nothing(bundled: Network) -> None:
    factors = [work_per_pixel(bundled, 1024, halo) for halo in (0, 64, 256, 608)]
    assert factors[0] == pytest.approx(1.0)
    assert factors == sorted(factors)


def test_counting_leaves_the_network_as_it_is() -> None:
    network = build("resnet10-narrow", 3)
    before = network.layers[3][0][0].weight.clone()
    assert work_per_pixel(network, 64) > 1
    assert torch.equal(network.layers[3][0][0].weight, before)

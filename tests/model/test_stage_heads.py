"""Linear classifiers on the stages are a network like any other: exact in tiles, and bilinear between its cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aerialseg.errors import ModelError
from aerialseg.model.networks import build
from aerialseg.model.probe import probe
from aerialseg.model.stage_heads import StageHeads, enlarging, stage_features
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import NARROW, card, lively_network, smooth_noise


def heads(seed: int = 0) -> StageHeads:
    network = lively_network(decoder="stage-heads", seed=seed)
    assert isinstance(network, StageHeads)
    network.enlarge = enlarging(network.classes)  # which the scaling to unit size has changed
    return network


def test_tiles_of_any_size_equal_the_whole_image() -> None:
    network = heads()
    image = smooth_noise(1, 3, 416, 352)
    whole = network(image)
    halo = card(network).halo
    for core in Grid(416, 352, block=96, halo=halo):
        window = core.align(32).grow(halo) & Box(0, 0, 416, 352)
        tile = network.forward_tile(image[..., *window.slices], window, core)
        assert torch.allclose(tile, whole[..., *core.slices], atol=1e-5)


def test_the_derived_reach_is_what_the_network_depends_on() -> None:
    found = probe(heads())
    assert found.tight
    assert found.halo == heads().reach.halo


def test_enlarging_is_bilinear_interpolation() -> None:
    cells = torch.randn(2, 3, 5, 7)
    wanted = F.interpolate(cells, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(enlarging(3)(cells), wanted, atol=1e-6)


def test_a_flat_image_gets_logits_without_a_pattern() -> None:
    """What one sees in a map of the confidence, such as dots, is of the image: the network adds none of its own."""
    network = heads()
    halo = network.reach.halo
    logits = network(torch.full((1, 3, 2 * halo + 64, 2 * halo + 64), 0.7))[..., halo:-halo, halo:-halo]
    assert logits.abs().max() > 0.1
    assert (logits.amax((2, 3)) - logits.amin((2, 3))).max() < 1e-4


def test_logits_are_those_of_the_interpolated_features() -> None:
    network = heads()
    image = smooth_noise(1, 3, 64, 96)
    wanted = torch.zeros(1, network.classes, 2, 3)
    for head, features in zip(network.readers, stage_features(network, image), strict=True):
        wanted = head(features) + (enlarging(network.classes)(wanted) if features.shape[-1] > 3 else 0)
    assert torch.allclose(network(image), enlarging(network.classes)(wanted), atol=1e-4)


@pytest.mark.parametrize("options", [{"norm": "batch"}, {"blur": True}, {"self_attention": True}])
def test_what_the_heads_do_not_have_is_an_error(options: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="stage-heads have no"):
        build(NARROW, 4, decoder="stage-heads", **options)

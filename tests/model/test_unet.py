"""A tile computed alone equals the same pixels of the whole image."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from aerialseg.errors import ModelError
from aerialseg.model import global_layers as layers
from aerialseg.model.network import Network
from aerialseg.model.networks import build
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import NARROW, lively_network, smooth_noise

# What ALGORITHMS.md measured and prototyped for ResNet-34: cells around the core that may be fed to each stage.
PROTOTYPED = {"layers": (148, 140, 64, 20), "halo": 608}


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network()


@pytest.fixture(scope="module")
def grid(network: Network) -> Grid:
    halo = network.reach.halo
    return Grid(2 * halo + 165, 2 * halo + 300, block=96, halo=halo)


@pytest.fixture(scope="module")
def image(grid: Grid) -> torch.Tensor:
    return smooth_noise(1, 3, *grid.canvas.shape)


@pytest.fixture(scope="module")
def whole(network: Network, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(image)


def largest_difference(network: Network, image: torch.Tensor, whole: torch.Tensor, window: Box, core: Box) -> float:
    with torch.inference_mode():
        part = network.forward_tile(image[..., *window.slices], window, core)
    assert part.shape[-2:] == core.shape
    return float((part - whole[..., *core.slices]).abs().max())


def some_blocks(grid: Grid) -> list[int]:
    """Corners, the middle of each edge, the centre."""
    rows, cols = (0, grid.rows // 2, grid.rows - 1), (0, grid.cols // 2, grid.cols - 1)
    return [row * grid.cols + col for row in rows for col in cols]


@pytest.mark.slow
def test_every_kind_of_tile_equals_the_whole_image(
    network: Network, grid: Grid, image: torch.Tensor, whole: torch.Tensor
) -> None:
    for index in some_blocks(grid):
        core = grid.core(index)
        assert largest_difference(network, image, whole, grid.window(core), core) < 1e-4, core


def test_a_core_may_have_edges_anywhere(network: Network, grid: Grid, image: torch.Tensor, whole: torch.Tensor) -> None:
    core = Box(261, 307, 290, 308)
    assert largest_difference(network, image, whole, grid.window(core), core) < 1e-4


def test_a_window_larger_than_needed_changes_nothing(
    network: Network, grid: Grid, image: torch.Tensor, whole: torch.Tensor
) -> None:
    assert largest_difference(network, image, whole, grid.canvas, grid.core(len(grid) // 2)) < 1e-4


def test_too_small_a_halo_shows(network: Network, grid: Grid, image: torch.Tensor, whole: torch.Tensor) -> None:
    core = grid.core(some_blocks(grid)[4])
    window = core.align(32).grow(32) & grid.canvas
    assert largest_difference(network, image, whole, window, core) > 1e-2


def test_a_window_off_the_lattice_shows(network: Network, grid: Grid, image: torch.Tensor, whole: torch.Tensor) -> None:
    core = grid.core(some_blocks(grid)[4])
    window = grid.window(core)
    shifted = image[..., window.top - 1 : window.bottom - 1, window.left - 1 : window.right - 1]
    with torch.inference_mode():
        part = network.forward_tile(shifted, window, core)
    same_ground = whole[..., core.top - 1 : core.bottom - 1, core.left - 1 : core.right - 1]
    assert float((part - same_ground).abs().max()) > 1e-2


def test_blurred_tiles_equal_the_whole_image() -> None:
    """With ``blur`` the reach is longer up and left than down and right."""
    network = lively_network(blur=True)
    halo = network.reach.halo
    grid = Grid(2 * halo + 101, 2 * halo + 70, block=64, halo=halo)
    image = smooth_noise(1, 3, *grid.canvas.shape)
    with torch.inference_mode():
        whole = network(image)
    for index in (0, some_blocks(grid)[4], len(grid) - 1):
        core = grid.core(index)
        assert largest_difference(network, image, whole, grid.window(core), core) < 1e-4, core


def test_resnet34_needs_what_was_measured() -> None:
    with torch.device("meta"):
        reach = build("resnet34", 24).reach
    assert reach.halo == PROTOTYPED["halo"]
    derived = tuple(-(-margin // 4) * 4 for margin in reach.layers)
    assert all(ours <= theirs for ours, theirs in zip(derived, PROTOTYPED["layers"], strict=True))
    assert reach.joins == (4, 4, 4, 3)
    assert reach.middle == 4


@pytest.mark.slow
def test_resnet34_tiles_equal_the_whole_image() -> None:
    network = lively_network("resnet34", 7)
    grid = Grid(2 * 608 + 70, 2 * 608 + 130, block=64, halo=608)
    image = smooth_noise(1, 3, *grid.canvas.shape)
    with torch.inference_mode():
        whole = network(image)
    for index in (0, len(grid) - 1, some_blocks(grid)[4]):
        core = grid.core(index)
        assert largest_difference(network, image, whole, grid.window(core), core) < 1e-4, core


INEXACT = [
    ({"self_attention": True}, r"layers\.5\.conv2\.2 \(SelfAttention\)"),
    ({"norm": "instance"}, r"layers\.3\.0\.1 \(InstanceNorm\)"),
    ({"norm": "group"}, r"layers\.3\.0\.1 \(GroupNorm\)"),
    ({"encoder_norm": "group"}, r"layers\.0\.1 \(GroupNorm\)"),
]


@pytest.mark.parametrize(("options", "layer"), INEXACT)
def test_a_network_that_looks_at_everything_names_the_layer_and_has_no_reach(
    options: dict[str, Any], layer: str
) -> None:
    network = lively_network(**options)
    assert re.search(layer, network.inexact[0])
    with pytest.raises(ModelError, match=f"no bounded receptive field: its layer {layer}"):
        _ = network.reach


@pytest.mark.parametrize("options", [options for options, _ in INEXACT])
def test_a_tile_of_a_network_that_looks_at_everything_is_an_image_of_its_own(options: dict[str, Any]) -> None:
    network = lively_network(**options)
    image = smooth_noise(1, 3, 128, 160)
    window, core = Box(32, 32, 128, 160), Box(50, 64, 90, 101)
    with torch.inference_mode():
        part = network.forward_tile(image[..., *window.slices], window, core)
        alone, whole = network(image[..., *window.slices]), network(image)
    assert torch.equal(part, alone[..., *core.within(window)])
    assert float((part - whole[..., *core.slices]).abs().max()) > 1e-2
    with torch.inference_mode():
        assert torch.isfinite(network(torch.zeros(1, 3, 32, 32))).all()


def test_attention_in_parts_is_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    attention = layers.SelfAttention(16)
    attention.gamma.data.fill_(0.5)
    x = torch.randn(2, 16, 9, 7)
    at_once = attention(x)
    monkeypatch.setattr(layers, "_AT_ONCE", 5 * 63)
    torch.testing.assert_close(attention(x), at_once)


@pytest.mark.parametrize("name", ["norm", "encoder_norm", "decoder", "encoder"])
def test_an_unknown_part_of_an_architecture_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="'no-such' is not known: wanted"):
        build(**{"encoder": NARROW, "classes": 3, name: "no-such"})


def test_a_core_outside_its_window_is_refused(network: Network) -> None:
    with pytest.raises(ValueError, match="core inside the window"):
        network.forward_tile(torch.zeros(1, 3, 64, 64), Box(0, 0, 64, 64), Box(0, 0, 65, 10))

"""Blocks computed alone have the labels of the whole image, however the raster is cut and whoever computes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.datasets.demo import CLASSES, draw_scene
from aerialseg.model.card import ModelCard
from aerialseg.model.device import choose
from aerialseg.model.folders import embedded
from aerialseg.model.interface import Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.store import load_network
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import card, lively_network

TIE = 1e-4
"""Where the two best logits are closer than this, either label is right."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A raster and what the network says of all of it at once; pixels and valid are padded to the lattice."""

    network: Network
    card: ModelCard
    pixels: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    raster: Box
    logits: Tensor

    @property
    def labels(self) -> NDArray[np.uint8]:
        return self.logits.argmax(0).numpy().astype(np.uint8)

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Where there is no tie."""
        best = self.logits.topk(2, dim=0).values
        return np.asarray((best[0] - best[1] > TIE).numpy())

    def grid(self, block: int) -> Grid:
        return Grid(*self.raster.shape, block=block, halo=self.card.halo)

    def tile(self, core: Box, halo: int | None = None) -> Tile:
        window = core.align(32).grow(self.card.halo if halo is None else halo) & self.raster.align(32)
        return Tile(
            np.ascontiguousarray(self.pixels[:, *window.slices]), self.valid[window.slices].copy(), window, core
        )

    def normalised(self) -> Tensor:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.card.mean, self.card.std))
        image = (torch.from_numpy(self.pixels).float() / 255 - mean) / std
        return image.masked_fill(~torch.from_numpy(self.valid), 0.0)[None]


def ground(network: Network, described: ModelCard, pixels: NDArray[np.uint8], valid: NDArray[np.bool_]) -> Ground:
    """The whole image is what FAULTS and the plan define: padded to the lattice, nodata at the mean."""
    raster = Box(0, 0, *valid.shape)
    padding = [(0, raster.align(32).height - raster.height), (0, raster.align(32).width - raster.width)]
    padded = Ground(
        network, described, np.pad(pixels, [(0, 0), *padding]), np.pad(valid, padding), raster, torch.empty(0)
    )
    with torch.inference_mode():
        logits = network(padded.normalised())[0, :, *raster.slices].clone()
        logits[list(described.void)] = -torch.inf
    return Ground(network, described, padded.pixels, padded.valid, raster, logits)


def textured(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng(4)
    coarse = np.kron(rng.integers(0, 200, (3, -(-height // 24), -(-width // 24))), np.ones((24, 24), int))
    pixels = (coarse[:, :height, :width] + rng.integers(0, 56, (3, height, width))).astype(np.uint8)
    valid = np.ones((height, width), bool)
    valid[100:140, 50:400] = False
    return pixels, valid


@pytest.fixture(scope="module")
def narrow() -> Ground:
    """Wider than a core of 2048 px and twice the reach; the sizes are no multiples of anything."""
    network = lively_network()
    return ground(network, card(network), *textured(571, 2 * network.reach.halo + 2048 + 77))


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tiled(
    ground: Ground,
    block: int,
    *,
    tile: int | None = None,
    batch: int = 1,
    halo: int | None = None,
    shuffle: int = 0,
    blocks: int | None = None,
) -> NDArray[np.uint8]:
    """Labels of the raster, block by block, through the predictor. blocks: only so many, the rest as they are."""
    way = choose("cpu", "fp32", "torch")
    predictor = ModelPredictor(ground.network, ground.card, way, tile=tile or block, batch=batch)
    out = np.full(ground.raster.shape, 255, np.uint8) if blocks is None else ground.labels
    cores = list(ground.grid(block))
    random.Random(shuffle).shuffle(cores)
    for core in cores[:blocks]:
        out[core.slices] = predictor.predict(ground.tile(core, halo)).classes
    return out


def assert_same_labels(ground: Ground, labels: NDArray[np.uint8]) -> None:
    different = (labels != ground.labels) & ground.clear
    assert not different.any(), f"{different.sum()} pixels, first at {np.argwhere(different)[0]}"


@pytest.mark.slow
def test_ties_are_few_and_there_is_something_to_tell_apart(narrow: Ground) -> None:
    assert narrow.clear.mean() > 0.999
    assert np.unique(narrow.labels).size >= 3


@pytest.mark.parametrize(
    "core", [pytest.param(512, marks=pytest.mark.slow), 1024, pytest.param(2048, marks=pytest.mark.slow)]
)
def test_labels_are_the_whole_images_for_every_core_size(narrow: Ground, core: int) -> None:
    assert_same_labels(narrow, tiled(narrow, core))


@pytest.mark.slow
@pytest.mark.parametrize(("block", "tile", "batch"), [(2048, 256, 5), (1024, 512, 2), (160, 160, 1)])
def test_labels_are_the_whole_images_for_any_batch(narrow: Ground, block: int, tile: int, batch: int) -> None:
    assert_same_labels(narrow, tiled(narrow, block, tile=tile, batch=batch))


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3])
def test_labels_are_the_whole_images_for_any_order_of_blocks_and_number_of_threads(narrow: Ground, number: int) -> None:
    with threads(number):
        assert_same_labels(narrow, tiled(narrow, 512, shuffle=number))


@pytest.mark.slow
def test_a_halo_that_is_too_small_changes_labels(narrow: Ground) -> None:
    """A control: the tests above would notice."""
    different = (tiled(narrow, 512, halo=32) != narrow.labels) & narrow.clear
    assert different.mean() > 1e-3


@pytest.mark.slow
def test_windows_one_pixel_off_the_lattice_change_labels(narrow: Ground) -> None:
    """Another control: the whole halo, but counted from the second row and column."""
    inner = np.s_[1 : narrow.raster.height, 1 : narrow.raster.width]
    moved = ground(narrow.network, narrow.card, narrow.pixels[:, *inner], narrow.valid[inner])
    middle = np.s_[280:290, narrow.card.halo : -narrow.card.halo]
    different = (moved.labels != narrow.labels[inner])[middle]
    assert different.mean() > 1e-2


@pytest.fixture(scope="module")
def shipped() -> Ground:
    """The shipped weights over the drawn scene, wider than a core of 2048 px and twice the reach."""
    if not embedded():
        pytest.skip("no model is embedded in this checkout")
    described, network = load_network()
    ids = {entry.name: entry.id for entry in described.legend}
    scene = draw_scene(2 * described.halo + 2048 + 37, 701, {name: ids[name] for name in CLASSES})
    return ground(network, described, scene.pixels, scene.valid)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("core", "blocks"), [(512, 3), (1024, 2), (2048, 1)])
def test_the_shipped_weights_give_the_labels_of_the_whole_image(shipped: Ground, core: int, blocks: int) -> None:
    """Some blocks of each size: all of them, which take minutes, are the narrow network's business."""
    assert_same_labels(shipped, tiled(shipped, core, blocks=blocks))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_weights_give_the_logits_of_the_whole_image_to_1e_4(shipped: Ground) -> None:
    """A corner, both ends, the middle of a long edge, and a block with the whole reach on both sides of it."""
    image = shipped.normalised()
    void = list(shipped.card.void)
    for core in (Box(0, 0, 96, 96), Box(480, 3210, 701, 3301), Box(0, 1600, 64, 1700), Box(288, 1301, 500, 1537)):
        window = core.align(32).grow(shipped.card.halo) & shipped.raster.align(32)
        with torch.inference_mode():
            part = shipped.network.forward_tile(image[..., *window.slices], window, core)[0]
        kept = [number for number in range(len(part)) if number not in void]
        difference = (part - shipped.logits[:, *core.slices])[kept].abs().max()
        assert float(difference) < 1e-4, core


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_weights_change_labels_with_a_halo_of_32(shipped: Ground) -> None:
    different = (tiled(shipped, 512, halo=32, blocks=4) != shipped.labels) & shipped.clear
    assert different.sum() > 500

"""Averaging over flips and turns: what eight looks say on average, tile by tile as of the whole image."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aerialseg.model.card import ModelCard
from aerialseg.model.device import choose, choose_size
from aerialseg.model.interface import Prediction, Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.tta import TURNS, Turn
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import card, for_runtime, lively_network


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network()


@pytest.fixture(scope="module")
def known(network: Network) -> ModelCard:
    return card(network, void=(0,), temperature=1.7)


def averaging(network: Network, known: ModelCard, runtime: str = "torch", tile: int | None = None) -> ModelPredictor:
    way = choose("cpu", "fp32", runtime)
    return ModelPredictor(for_runtime(copy.deepcopy(network), runtime), known, way, tile=tile, batch=2, tta=True)


def drawn(grid: Grid, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and what of them is valid, over the grid's whole canvas."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, *grid.canvas.shape), dtype=np.uint8)
    valid = np.zeros(grid.canvas.shape, dtype=bool)
    valid[: grid.height, : grid.width] = True
    valid[20:50, 30:70] = False
    return pixels, valid


def ask(predictor: ModelPredictor, grid: Grid, core: Box, window: Box | None = None, seed: int = 0) -> Prediction:
    pixels, valid = drawn(grid, seed)
    window = window or grid.window(core)
    return predictor.predict(Tile(pixels[:, *window.slices], valid[window.slices], window, core))


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    corners=st.tuples(*[st.integers(0, 9)] * 4),
    turn=st.sampled_from(TURNS),
)
def test_a_turned_box_holds_the_same_pixels(height: int, width: int, corners: tuple[int, ...], turn: Turn) -> None:
    top, bottom = sorted(min(end, height) for end in corners[:2])
    left, right = sorted(min(end, width) for end in corners[2:])
    box, numbers = Box(top, left, bottom, right), np.arange(height * width).reshape(height, width)
    there = turn.pixels(numbers)[turn.box(box, (height, width)).slices]
    assert np.array_equal(there, turn.pixels(numbers[box.slices]))
    assert np.array_equal(turn.back(torch.from_numpy(turn.pixels(numbers).copy())).numpy(), numbers)
    assert np.array_equal(turn.upright(turn.pixels(numbers)), numbers)
    assert np.array_equal(turn.ahead(torch.from_numpy(numbers)).numpy(), turn.pixels(numbers))


def test_the_eight_turns_are_all_that_there_are() -> None:
    corner = np.arange(4).reshape(2, 2)
    assert len({turn.pixels(corner).tobytes() for turn in TURNS}) == len(TURNS) == 8


def test_it_says_the_mean_of_what_the_network_says_of_eight_turned_images(network: Network, known: ModelCard) -> None:
    """Against plain torch on the whole image, without any of the code of tiles."""
    grid = Grid(96, 128, block=128, halo=known.halo)
    pixels, valid = drawn(grid)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (known.mean, known.std))
    image = ((torch.from_numpy(pixels).float() / 255 - mean) / std).masked_fill(~torch.from_numpy(valid), 0.0)[None]
    looks = []
    for mirrored in (False, True):
        for quarters in range(4):
            turned = torch.rot90(image.flip(-1) if mirrored else image, quarters, (-2, -1))
            logits = network(turned)
            logits[:, 0] = -torch.inf
            back = torch.rot90((logits / 1.7).softmax(1), -quarters, (-2, -1))
            looks.append(back.flip(-1) if mirrored else back)
    wanted = torch.stack(looks).mean(0)[0]
    said = ask(averaging(network, known), grid, grid.raster, grid.canvas)
    best, classes = wanted.max(0)
    assert (said.classes == classes.numpy()).mean() > 0.9999
    assert np.abs(said.confidence - best.numpy() * 100).max() <= 0.6
    once = ModelPredictor(network, known, choose("cpu", "fp32", "torch"), batch=2)
    assert (ask(once, grid, grid.raster, grid.canvas).classes != said.classes).mean() > 0.01


@pytest.fixture(scope="module")
def tiled(network: Network, known: ModelCard) -> ModelPredictor:
    return averaging(network, known, tile=96)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(height=st.integers(33, 200), width=st.integers(33, 200), seed=st.integers(0, 1000))
def test_tiles_equal_the_whole_image(tiled: ModelPredictor, height: int, width: int, seed: int) -> None:
    grid = Grid(height, width, block=96, halo=tiled.card.halo)
    tiled.tile = 1024
    whole = ask(tiled, grid, grid.raster, grid.canvas, seed)
    tiled.tile, differing, steps = 96, 0, 0
    for core in grid:
        said = ask(tiled, grid, core, seed=seed)
        differing += int((said.classes != whole.classes[core.slices]).sum())
        steps = max(steps, int(np.abs(said.confidence.astype(int) - whole.confidence[core.slices]).max()))
    assert differing <= 1e-3 * height * width, "ties alone may go either way"
    assert steps <= 1


@pytest.mark.slow
def test_openvino_says_what_torch_says(network: Network, known: ModelCard, tiled: ModelPredictor) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (the extra 'fast')")
    grid, there = Grid(100, 170, block=96, halo=known.halo), averaging(network, known, "openvino", tile=96)
    for core in list(grid)[:3]:
        one, two = (ask(predictor, grid, core) for predictor in (tiled, there))
        assert (one.classes == two.classes).mean() > 0.999
        assert np.abs(one.confidence.astype(int) - two.confidence).max() <= 1


def test_how_a_frame_lies_does_not_matter(tiled: ModelPredictor) -> None:
    predictor, box = tiled, Box(0, 0, 64, 96)
    pixels, valid = np.random.default_rng(0).integers(0, 255, (3, 64, 96), dtype=np.uint8), np.ones((64, 96), bool)
    straight = predictor.predict(Tile(pixels, valid, box, box))
    for turn in TURNS[1::3]:
        shape = turn.pixels(valid).shape
        window = Box(0, 0, *shape)
        turned = predictor.predict(Tile(turn.pixels(pixels), turn.pixels(valid), window, window))
        assert (turned.classes == turn.pixels(straight.classes)).mean() > 0.999


def test_more_memory_for_probabilities_means_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    way = choose("cpu", "fp32", "torch")
    monkeypatch.setattr("aerialseg.model.device.free_bytes", lambda device: (2048**2 * 2500 + 1.5e9) / 0.6)
    assert choose_size(way)[0] == 2048
    assert choose_size(way, 400)[0] == 1024

"""How long the network will take, told before the work begins."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from aerialseg.mapping.block import BlockTask
from aerialseg.mapping.plan import Plan
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import PredictorSpec, Tile
from aerialseg.raster.grid import Box, Grid

PROBE_PX = 512
"""Side of the tile that is timed: large enough for the speed of a real one, small enough to cost a second."""

WINDOW_SHARES = {"fastai-dynamic-unet": 0.14, "light-unet": 0.36, "smp-unet": 0.46, "stage-heads": 0.74}
"""Of a network's work, by its decoder, what is done on the whole window: most of the encoder. The rest is cropped to
the core and a few cells more. For a ResNet-34, as counted (tests/mapping/test_network_time.py); deeper ones need less.
"""


def network_seconds(plan: Plan, predictor: PredictorSpec, todo: Sequence[BlockTask]) -> float:
    """Seconds that the network will take for the blocks ``todo``; those that see no source need none.

    Raises what `seconds_per_px` raises.
    """
    tile = predictor.load().tile or plan.grid.block
    pixels = sum(task.core.area for task in todo if plan.view.meeting(task.window).size)
    share = pixels / plan.grid.raster.area
    return seconds_per_px(predictor) * work_px(plan.grid, predictor.card, tile) * share


def seconds_per_px(predictor: PredictorSpec) -> float:
    """Seconds that a pixel takes, measured on one tile of `PROBE_PX` without a halo. The first of two calls warms up.

    Raises ModelError, ResourceError.
    """
    loaded, card = predictor.load(), predictor.card
    box = Box(0, 0, PROBE_PX, PROBE_PX).align(card.stride)
    pixels = np.full((len(card.bands), *box.shape), 128, np.uint8)
    tile = Tile(pixels, np.ones(box.shape, bool), box, box)
    with loaded.gate:
        loaded.predict(tile)
        start = time.perf_counter()
        loaded.predict(tile)
        return (time.perf_counter() - start) / box.area


def work_px(grid: Grid, card: ModelCard, tile: int) -> float:
    """Pixels' worth of work for the whole grid, when ``tile`` px a side go through the network at once.

    A pixel of the whole image, computed at once, is worth one.
    """
    tiles = Grid(*grid.answered.shape, min(tile, grid.block), card.halo, card.stride)
    windows = _windows(tiles.height, tiles) * _windows(tiles.width, tiles)
    share = WINDOW_SHARES.get(card.architecture.decoder, 1.0) if card.exact else 1.0
    return share * windows + (1 - share) * grid.answered.area


def _windows(length: int, tiles: Grid) -> int:
    """Sum of the lengths of all windows along one axis; an area is the product of both axes'."""
    cores = (Box(0, start, 1, min(start + tiles.block, length)) for start in range(0, length, tiles.block))
    canvas = Box(0, 0, 1, length).align(tiles.stride)
    return sum((core.align(tiles.stride).grow(tiles.halo) & canvas).width for core in cores)

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aerialseg.mapping.network_time import WINDOW_SHARES, network_seconds, work_px
from aerialseg.mapping.plan import make_plan
from aerialseg.mapping.settings import MapSettings
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.interface import Prediction, Tile
from aerialseg.model.networks import NETWORKS, build_for
from aerialseg.raster.describe import describe
from aerialseg.raster.grid import Grid
from aerialseg.seams.operations import work_per_pixel
from tests.conftest import WriteRaster, land_cover
from tests.fakes import Fake, with_halo


@dataclass(frozen=True)
class Steady(Fake):
    """Takes the same time for each pixel, and longer at its first call."""

    card: ModelCard
    begun: list[int]

    def predict(self, tile: Tile) -> Prediction:
        time.sleep(tile.window.area * 1e-6 + (0 if self.begun else 0.3))
        self.begun.append(1)
        return Prediction(*np.zeros((2, *tile.core.shape), np.uint8))


@pytest.mark.slow
def test_the_first_call_of_a_network_is_not_taken_for_its_speed(tmp_path: Path, write_raster: WriteRaster) -> None:
    spec = Steady(with_halo(0), [])
    info = describe(write_raster(land_cover(700, 900)))
    plan = make_plan([info], spec, MapSettings(block_px=2048))
    assert network_seconds(plan, spec, list(plan.tasks(spec, tmp_path))) == pytest.approx(700 * 900 * 1e-6, rel=0.25)


def test_an_approximate_tile_costs_its_window() -> None:
    card = replace(with_halo(32), exact=False)
    assert work_px(Grid(96, 96, 32, 32), card, 32) == (64 + 96 + 64) ** 2
    assert work_px(Grid(96, 96, 96, 0), replace(card, halo=0), 96) == 96 * 96


@pytest.mark.slow
@pytest.mark.parametrize("decoder", WINDOW_SHARES)
@pytest.mark.parametrize("tile", [512, 1024, 2048])
def test_the_work_of_an_exact_tile_is_about_what_is_counted(tile: int, decoder: str) -> None:
    """In the middle of a large raster, over a ResNet-34."""
    architecture = Architecture("resnet34", decoder, norm="none" if decoder == "stage-heads" else "batch")
    with torch.device("meta"):
        network = build_for(replace(with_halo(0), architecture=architecture))
    card = replace(with_halo(network.reach.halo), architecture=architecture, stride=32)
    side = 20 * tile
    estimate = work_px(Grid(side, side, tile, card.halo), card, tile) / side**2
    assert estimate == pytest.approx(work_per_pixel(network, tile), rel=0.1)


def test_the_share_of_every_decoder_is_known() -> None:
    assert set(WINDOW_SHARES) == set(NETWORKS)

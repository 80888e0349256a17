"""Models of more bands than three: what a network begins with, and two scenes from chips to map."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine
from rasterio.enums import ColorInterp

from aerialseg.datasets.chips import make_chips
from aerialseg.datasets.layout import Normalisation
from aerialseg.errors import InputError, MisfitError, ModelError, UsageError
from aerialseg.legend import LandClass, Legend
from aerialseg.mapping.segment import segment
from aerialseg.model.networks import build
from aerialseg.model.store import load_card, load_network
from aerialseg.training import train
from aerialseg.training.config import TrainingConfig
from aerialseg.training.export import make_card
from aerialseg.training.more_bands import fit_bands, grow_kernels
from tests.drawn_frames import CONFIG, write_drawn_data
from tests.model.nets import NARROW, lively_network, smooth_noise
from tests.raster.drawing import write
from tests.training.test_train import write_config

RGB, NIR = ("red", "green", "blue"), ("red", "green", "blue", "nir")
AT = Affine(0.2, 0, 500_000, 0, -0.2, 5_000_000)
SIDE = 320


def test_a_convolution_grows_by_the_mean_of_its_kernels() -> None:
    kernels = torch.randn(8, 3, 7, 7)
    grown = grow_kernels(kernels, RGB, ("nir", "red", "green", "blue"))
    torch.testing.assert_close(grown[:, 1:], kernels)
    torch.testing.assert_close(grown[:, 0], kernels.mean(dim=1))
    assert grow_kernels(kernels, RGB, RGB).equal(kernels)


@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"decoder": "smp-unet", "norm": "batch"}])
def test_a_grown_network_begins_with_what_the_given_one_says_of_the_same_image(options: dict[str, str]) -> None:
    """Of a fourth band whose kernels are taken away again: nothing else of it has a say."""
    given, wanted = lively_network(**options), build(NARROW, 5, bands=4, **options).eval()
    shapes = {name: tensor.shape for name, tensor in wanted.state_dict().items()}
    state = fit_bands(given.state_dict(), shapes, RGB, NIR)
    first = next(name for name, tensor in state.items() if tensor.ndim == 4)
    assert state[first].shape[1] == 4
    state[first][:, 3] = 0
    wanted.load_state_dict(state)
    x = smooth_noise(1, 4, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(wanted(x), given(x[:, :3]), atol=1e-4, rtol=1e-4)


def test_bands_in_another_order_cannot_start_the_layers_that_see_the_image() -> None:
    given, wanted = lively_network(), build(NARROW, 5, bands=4)
    shapes = {name: tensor.shape for name, tensor in wanted.state_dict().items()}
    with pytest.raises(ModelError, match="the same bands first"):
        fit_bands(given.state_dict(), shapes, RGB, ("nir", *RGB))


def test_a_teacher_of_more_bands_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_drawn_data(tmp_path / "data", learn=2, held_out=1)
    text = CONFIG.replace("[data]", '[data]\nbands = ["red", "green", "blue", "nir"]')
    config = TrainingConfig.read(write_config(data, tmp_path, text))
    assert make_card(config, Normalisation(NIR, (0.5,) * 4, (0.2,) * 4)).bands == NIR
    with pytest.raises(UsageError, match="use red, green, blue"):
        TrainingConfig.read(write_config(data, tmp_path, text + "\n[follow]\nweight = 1.0\n"))
    with pytest.raises(InputError, match="wanted a GeoTIFF of 4 bands"):
        train(write_config(data, tmp_path, text), data, tmp_path / "model")


def scene(folder: Path, fourth: str, dtype: type, low: float, high: float) -> tuple[Path, np.ndarray]:
    """An orthophoto in which only the fourth band, low or high, tells the two classes apart; and the classes."""
    rng = np.random.default_rng(5)
    patches = np.kron(rng.integers(0, 2, (10, 10), dtype=np.uint8), np.ones((32, 32), np.uint8))
    colours = rng.integers(60, 190, (3, SIDE, SIDE))
    telling = np.where(patches == 1, high, low) + rng.normal(0, (high - low) / 20, patches.shape)
    ortho = write(
        folder / "ortho.tif", np.concatenate([colours, telling[None]]).astype(dtype), transform=AT, photometric="RGB"
    )
    with rasterio.open(ortho, "r+") as file:
        colour = getattr(ColorInterp, fourth, ColorInterp.undefined)
        file.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, colour]
        if colour == ColorInterp.undefined:
            file.set_band_description(4, fourth)
    write(folder / "labels.tif", patches[None], transform=AT, nodata=255)
    return ortho, patches


def learned(folder: Path, bands: tuple[str, ...], kind: str, arch: str, **options: object) -> Path:
    """The model of chips of the scene, learned for a moment."""
    legend = Legend((LandClass(0, "low", (120, 90, 60)), LandClass(1, "high", (30, 160, 40))))
    made = make_chips(
        [folder / "ortho.tif"],
        folder / "labels.tif",
        folder / "chips",
        legend=legend,
        resolution_m="native",
        size=(64, 64),
        band_names=bands,
        **options,  # type: ignore[arg-type]
    )
    path = made.folder / "train.toml"
    text = re.sub(r'arch = ".*"', f'arch = "{arch}"', path.read_text())
    if arch != "resnet34":  # the bundled model's, from which the starter file goes on
        text = re.sub(r'start = "[a-z]*"', 'start = "scratch"', text)
    text = text.split("[[steps]]")[0].split("[decoder]")[0] + f'[decoder]\nkind = "{kind}"\nnorm = "batch"\n'
    path.write_text(text + "[[steps]]\nsize = [64, 64]\nepochs = 6\nbatch = 4\nlr = 3e-3\n")
    return train(path, made.folder, folder / "model")


def agreement(ortho: Path, model: Path, truth: np.ndarray, **settings: object) -> float:
    """Share of the pixels whose class is the truth's, where the map sees both."""
    out = ortho.parent / "map.gpkg"
    segment(ortho, out, model=model, raster=ortho.parent / "classes.tif", overwrite=True, **settings)
    with rasterio.open(ortho.parent / "classes.tif") as file:
        return float((file.read(1) == truth).mean())


@pytest.mark.long
@pytest.mark.slow
def test_classes_that_only_infrared_tells_apart_from_chips_to_map(tmp_path: Path) -> None:
    ortho, truth = scene(tmp_path, "nir", np.uint8, 60, 180)
    model = learned(tmp_path, NIR, "unet", "resnet18")
    card = load_card(model)
    assert (card.bands, card.scale, card.architecture.decoder) == (NIR, (), "fastai-dynamic-unet")
    assert card.mean[:3] == (0.485, 0.456, 0.406)
    assert 60 < card.mean[3] * 255 < 180
    assert load_network(model)[1].bands == 4
    assert card.scores["held_out"]["pixel_accuracy"] > 0.9
    assert agreement(ortho, model, truth) > 0.9
    rgb = write(tmp_path / "rgb.tif", rasterio.open(ortho).read([1, 2, 3]), transform=AT, photometric="RGB")
    with pytest.raises(MisfitError, match="the model wants 4 "):
        segment(rgb, tmp_path / "none.gpkg", model=model)


@pytest.mark.long
@pytest.mark.slow
def test_classes_that_only_height_tells_apart_with_a_scale_for_each_band(tmp_path: Path) -> None:
    ortho, truth = scene(tmp_path, "nDSM", np.float32, 1.0, 9.0)
    scale = (0, 255, 0, 255, 0, 255, 0, 20)
    model = learned(tmp_path, (*RGB, "height"), "smp-unet", "resnet18", scale=scale)
    card = load_card(model)
    assert (card.bands[3], card.scale, card.architecture.decoder) == ("height", scale, "smp-unet")
    assert 1 < card.mean[3] * 20 < 9
    assert agreement(ortho, model, truth) > 0.9
    assert agreement(ortho, model, truth, bands=(1, 2, 3, 1), scale=(0, 255)) < 0.7, "colours say nothing"

"""smp's Unet says what the package says, to the bit; it and the light U-Net are exact in tiles, on every runtime."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aerialseg.errors import ModelError
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.device import choose
from aerialseg.model.encoders import ENCODERS
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.int8_ranges import find_ranges
from aerialseg.model.network import Network
from aerialseg.model.networks import build
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.probe import probe
from aerialseg.model.smp_unet import SmpUNet
from aerialseg.model.store import load_network, save
from aerialseg.raster.grid import Box, Grid
from aerialseg.training.torchvision_compat import patch_torchvision
from tests.model.nets import NARROW, card, lively_network, smooth_noise, stored
from tests.model.test_onnx_export import asked

HALOS = {
    "resnet18": 288,
    "resnet34": 544,
    "resnet50": 288,
    "resnet101": 576,
    "resnet152": 800,
    "resnext50_32x4d": 288,
    "resnext101_32x8d": 576,
    "resnext101_64x4d": 576,
    "wide_resnet50_2": 288,
    "wide_resnet101_2": 576,
    NARROW: 192,
}
QUICK = ("resnet34", NARROW)


@pytest.fixture(scope="module", params=["smp-unet", "light-unet"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(kind: str) -> Network:
    return lively_network(decoder=kind, norm="batch")


@pytest.fixture(scope="module")
def described(network: Network, kind: str) -> ModelCard:
    return card(network, architecture=Architecture(NARROW, decoder=kind, norm="batch"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "bands"),
    [("resnet18", 3), ("resnet34", 5), ("resnet50", 3), ("resnet101", 3), ("resnet152", 3), ("resnext50_32x4d", 3)],
)
def test_it_says_what_the_package_says_to_the_bit(encoder: str, bands: int) -> None:
    patch_torchvision()
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    theirs = smp.Unet(encoder, encoder_weights=None, in_channels=bands, classes=19)
    with torch.no_grad():
        theirs.train()(torch.randn(2, bands, 64, 64))  # BatchNorm has statistics
    ours = build(encoder, 19, bands=bands, decoder="smp-unet", norm="batch")
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, bands, 96, 64)
    with torch.inference_mode():
        assert torch.equal(ours.eval()(image), theirs.eval()(image))


@pytest.mark.parametrize("encoder", [pytest.param(e, marks=() if e in QUICK else pytest.mark.slow) for e in HALOS])
def test_the_probe_finds_what_was_derived_and_not_a_cell_less(encoder: str) -> None:
    shape = replace(ENCODERS[encoder], widths=(4, 4, 4, 4), groups=1, group_width=64)
    network = SmpUNet(shape, 2).eval()
    found = probe(network)
    assert found.halo == network.reach.halo == HALOS[encoder]
    assert found.tight
    assert found.image == network.reach.image


def test_every_encoder_has_been_probed() -> None:
    assert set(HALOS) == set(ENCODERS)


def test_tiles_equal_the_whole_image_and_a_small_halo_does_not(network: Network) -> None:
    halo = network.reach.halo
    grid = Grid(2 * halo + 101, 2 * halo + 70, block=64, halo=halo)
    image = smooth_noise(1, 3, *grid.canvas.shape)
    middle = grid.core(len(grid) // 2)
    cores = [grid.core(0), middle, grid.core(len(grid) - 1), Box(133, 97, 150, 98)]
    with torch.inference_mode():
        whole = network(image)
        for core in cores:
            window = core.align(32).grow(halo) & grid.canvas
            part = network.forward_tile(image[..., *window.slices], window, core)
            assert float((part - whole[..., *core.slices]).abs().max()) < 1e-4, core
        window = middle.align(32).grow(32) & grid.canvas
        cut = network.forward_tile(image[..., *window.slices], window, middle)
    assert float((cut - whole[..., *middle.slices]).abs().max()) > 1e-2


def test_an_image_of_any_size_has_an_answer_of_its_size(network: Network) -> None:
    with torch.inference_mode():
        assert network(smooth_noise(1, 3, 50, 77)).shape == (1, 5, 50, 77)


def test_no_norm_after_a_convolution_is_left_when_it_is_folded_and_the_logits_stay(network: Network) -> None:
    network = copy.deepcopy(network).double()  # so that rounding does not hide a mistake
    folded = fold_for_inference(network, channels=16)
    left = [name for name, module in folded.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert set(left) <= {"layers.1", *(f"layers.{block}.bn" for block in range(4, 8))}  # no convolution before them
    image = smooth_noise(1, 3, 128, 96).double()
    with torch.inference_mode():
        before, after = network(image), folded(image)
    assert float((after - before).abs().max()) < 1e-10 * float(before.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_openvino_says_what_torch_says(network: Network, described: ModelCard, precision: str) -> None:
    pytest.importorskip("openvino")
    ranges = find_ranges(network, [smooth_noise(1, 3, 128, 128, seed=seed) for seed in range(3)])
    known = replace(described, network_sha256="ab", quantization={"ranges": ranges})
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (known.mean, known.std))
    pixels = ((smooth_noise(1, 3, 160, 224, seed=9)[0] * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    ours = ModelPredictor(stored(network), known, choose("cpu", precision, "openvino", known), tile=96)
    theirs = ModelPredictor(network, known, choose("cpu", "fp32", "torch"), tile=256)
    labels = [one.predict_array(pixels.numpy()).classes for one in (ours, theirs)]
    assert (labels[0] == labels[1]).mean() > {"fp32": 0.9999, "bf16": 0.9, "int8": 0.65}[precision]


@pytest.mark.slow
def test_a_saved_model_loads_and_its_onnx_file_says_the_same(
    network: Network, described: ModelCard, tmp_path: Path
) -> None:
    from aerialseg.model.onnx_export import export_onnx

    kept = save(tmp_path / "model", replace(described, halo=0), network.state_dict(), torch.float32)
    assert kept.halo == network.reach.halo
    _, loaded = load_network(tmp_path / "model")
    image = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    said = asked(export_onnx(tmp_path / "model", tmp_path / "model.onnx", tile=None, output="logits"), image)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (kept.mean, kept.std))
    with torch.inference_mode():
        ours = loaded((torch.from_numpy(image) - mean) / std).numpy()
    assert np.abs(said - ours).max() < 1e-5 * np.abs(ours).max()


@pytest.mark.parametrize("option", ["blur", "self_attention"])
def test_what_the_package_has_not_is_refused(option: str) -> None:
    with pytest.raises(ModelError, match="neither blur nor self_attention"):
        build(NARROW, 3, decoder="smp-unet", **{option: True})

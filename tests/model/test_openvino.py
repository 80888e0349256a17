"""OpenVINO says what torch says, tile by tile, and its tiles too equal the whole image."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.errors import ModelError
from aerialseg.model.card import ModelCard
from aerialseg.model.cpu import multiplies_int8
from aerialseg.model.device import choose
from aerialseg.model.encoders import ENCODERS, EncoderShape
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.int8_ranges import find_ranges
from aerialseg.model.interface import Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor
from aerialseg.model.tile_crops import find_crops
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import card, lively_network, smooth_noise, stored

ROOT = Path(__file__).resolve().parents[2]
ov = pytest.importorskip("openvino", reason="openvino is not installed")

from aerialseg.model.openvino import LOGITS, build_graph, read_network  # noqa: E402

Logits = Callable[[NDArray[np.uint8], NDArray[np.bool_], Box, Box], NDArray[np.float32]]


def on_openvino(network: Network, reference: ModelCard) -> Logits:
    """Its logits in fp32, from one compiled graph."""
    graph = build_graph(read_network(stored(network))[0], reference, output=LOGITS)
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box) -> NDArray[np.float32]:
        found: NDArray[np.float32] = compiled(
            [pixels, valid[:, None].view(np.uint8), find_crops(network.reach, window, core)]
        )[0]
        return found.copy()

    return run


def on_torch(network: Network, reference: ModelCard) -> Logits:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (reference.mean, reference.std))

    def run(pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box) -> NDArray[np.float32]:
        image: Tensor = (torch.from_numpy(pixels).float() / 255 - mean) / std
        image = image.masked_fill(~torch.from_numpy(valid)[:, None], 0.0)
        with torch.inference_mode():
            return network.forward_tile(image, window, core).numpy()

    return run


def drawn(shape: tuple[int, int], *, batch: int = 1, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    valid = np.ones((batch, *shape), bool)
    valid[:, shape[0] // 3 : shape[0] // 2, 10:40] = False
    return rng.integers(0, 256, (batch, 3, *shape), dtype=np.uint8), valid


@pytest.fixture(scope="module")
def narrow() -> tuple[Logits, Logits]:
    network = lively_network()
    return on_torch(network, card(network)), on_openvino(network, card(network))


def apart(one: NDArray[np.float32], two: NDArray[np.float32]) -> float:
    assert one.shape == two.shape
    return float(np.abs(one - two).max() / np.abs(one).max())


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(1, 7),
    cols=st.integers(1, 7),
    cut=st.tuples(st.integers(0, 90), st.integers(0, 90)),
    batch=st.integers(1, 3),
)
def test_one_graph_gives_the_logits_of_torch_for_any_shape_and_batch(
    narrow: tuple[Logits, Logits], rows: int, cols: int, cut: tuple[int, int], batch: int
) -> None:
    window = Box(0, 0, 32 * rows, 32 * cols)
    core = Box(min(cut[0], 32 * rows - 1), min(cut[1], 32 * cols - 1), 32 * rows, 32 * cols)
    pixels, valid = drawn(window.shape, batch=batch)
    theirs, ours = (run(pixels, valid, window, core) for run in narrow)
    assert apart(theirs, ours) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(("bottleneck", "groups", "blur"), [(False, 1, True), (True, 1, False), (True, 4, True)])
def test_every_kind_of_layer_is_translated(
    monkeypatch: pytest.MonkeyPatch, bottleneck: bool, groups: int, blur: bool
) -> None:
    shape = EncoderShape((1, 2, 1, 1), (8, 16, 24, 32), bottleneck=bottleneck, groups=groups)
    monkeypatch.setitem(ENCODERS, "tiny", shape)
    network = lively_network("tiny", blur=blur)
    reference = card(network, encoder="tiny", blur=blur)
    window, core = Box(0, 0, 128, 96), Box(32, 10, 90, 96)
    pixels, valid = drawn(window.shape)
    theirs, ours = (make(network, reference)(pixels, valid, window, core) for make in (on_torch, on_openvino))
    assert apart(theirs, ours) < 1e-4


def predictor(network: Network, precision: str, **options: int) -> ModelPredictor:
    return ModelPredictor(stored(network), card(network), choose("cpu", precision, "openvino"), **options)


def in_blocks(answering: ModelPredictor, pixels: NDArray[np.uint8], block: int, halo: int) -> NDArray[np.uint8]:
    grid = Grid(*pixels.shape[1:], block, halo, 32)
    out = np.zeros((2, *grid.raster.shape), np.uint8)
    padded = np.zeros((3, *grid.canvas.shape), np.uint8)
    padded[:, *grid.raster.slices] = pixels
    valid = np.zeros(grid.canvas.shape, bool)
    valid[grid.raster.slices] = True
    for core in grid:
        window = grid.window(core)
        answer = answering.predict(Tile(padded[:, *window.slices], valid[window.slices], window, core))
        out[:, *core.slices] = answer.classes, answer.confidence
    return out


def test_its_tiles_equal_the_whole_image_and_a_small_halo_does_not() -> None:
    network = lively_network()
    halo = network.reach.halo
    pixels = drawn((700, 611))[0][0]
    answering = predictor(network, "fp32", tile=1024, batch=1)
    whole = in_blocks(answering, pixels, 1024, halo)
    cut = in_blocks(answering, pixels, 160, halo)
    assert (cut[0] == whole[0]).all()
    assert np.abs(cut[1].astype(int) - whole[1]).max() <= 1
    assert (in_blocks(answering, pixels, 160, 32)[0] != whole[0]).any()


@pytest.mark.slow
@pytest.mark.skipif("BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16 here")
def test_bf16_is_the_default_where_the_processor_has_it_and_mostly_agrees() -> None:
    assert choose("cpu", "auto", "auto").numerics == "cpu openvino bf16"
    network = lively_network()
    pixels = drawn((200, 180))[0][0]
    fp32, bf16 = (in_blocks(predictor(network, name), pixels, 96, network.reach.halo) for name in ("fp32", "bf16"))
    assert (fp32[0] == bf16[0]).mean() > 0.9


@pytest.mark.slow
def test_torch_and_openvino_agree_on_labels_and_confidence() -> None:
    network = lively_network()
    pixels = drawn((130, 200))[0][0]
    torches = ModelPredictor(network, card(network), choose("cpu", "fp32", "torch"))
    theirs, ours = (in_blocks(one, pixels, 96, network.reach.halo) for one in (torches, predictor(network, "fp32")))
    assert (theirs[0] == ours[0]).mean() > 0.9999  # but for ties
    assert np.abs(theirs[1].astype(int) - ours[1]).max() <= 1


@pytest.mark.slow
def test_int8_mostly_agrees_and_its_tiles_equal_the_whole_image() -> None:
    network = lively_network()
    images = [smooth_noise(1, 3, 128, 128, seed=seed) for seed in range(4)]
    quantized = card(network, network_sha256="ab", quantization={"ranges": find_ranges(network, images)})
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (quantized.mean, quantized.std))
    drawn_like = ((smooth_noise(1, 3, 520, 360, seed=9)[0] * std + mean) * 255).round().clamp(0, 255)
    pixels = drawn_like.to(torch.uint8).numpy()
    folder, names = stored(network), ("fp32", "int8")
    fp32, int8 = (ModelPredictor(folder, quantized, choose("cpu", p, "openvino", quantized)) for p in names)
    whole, cut = (in_blocks(int8, pixels, block, quantized.halo)[0] for block in (544, 160))
    assert (cut == whole).mean() > 0.999  # what rounds to another step does so by a difference of 1e-6
    assert (in_blocks(fp32, pixels, 544, quantized.halo)[0] == whole).mean() > 0.85


def rounding(network: Network, reference: ModelCard) -> Network:
    """The network in torch, its kernels and what they are fed with rounded as the card's ranges say."""
    folded = fold_for_inference(network)
    for name, module in folded.named_modules():
        if isinstance(module, torch.nn.Conv2d) and name in reference.ranges:
            low, high = reference.ranges[name]
            step, most = (high - low) / 255, module.weight.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-8)
            module.weight.data = (module.weight / most * 127).round() * most / 127
            module.register_forward_pre_hook(
                lambda _, x, low=low, high=high, step=step: ((x[0] / step).round() * step).clamp(low, high)
            )
    return folded


@pytest.mark.slow
@pytest.mark.parametrize("multiplies", [True, False])
@pytest.mark.parametrize("kind", ["fastai-dynamic-unet", "smp-unet"])
def test_int8_is_torchs_own_rounding_whether_the_processor_has_the_integers_or_not(
    monkeypatch: pytest.MonkeyPatch, multiplies: bool, kind: str
) -> None:
    if multiplies and not multiplies_int8():
        pytest.skip("no 8-bit products on this processor: they overflow")
    monkeypatch.setattr("aerialseg.model.openvino.multiplies_int8", lambda: multiplies)
    network = lively_network(decoder=kind)
    images = [smooth_noise(1, 3, 128, 128, seed=seed) for seed in range(4)]
    ranges = find_ranges(network, images)
    left_out = list(ranges)[-1:] if kind == "smp-unet" else []
    quantized = card(network, network_sha256="ab", quantization={"ranges": ranges, "not_int8": left_out})
    (pixels, valid), box = drawn((160, 128)), Box(0, 0, 160, 128)
    graph = build_graph(read_network(stored(network))[0], quantized, int8=True, output=LOGITS)
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ours = compiled([pixels, valid[:, None].view(np.uint8), find_crops(network.reach, box, box)])[0]
    wanted = on_torch(rounding(network, quantized), quantized)(pixels, valid, box, box)
    unrounded = on_torch(network, quantized)(pixels, valid, box, box)
    agree, otherwise = ((one.argmax(1) == wanted.argmax(1)).mean() for one in (ours, unrounded))
    assert agree > 0.95
    assert agree > otherwise  # so it is the rounding that is shared, and not only the network


def test_a_card_without_a_range_is_refused_by_the_name_of_the_layer() -> None:
    network = lively_network()
    quantized = card(network, network_sha256="ab", quantization={"ranges": {"layers.0.0": [-2.0, 2.0]}})
    with pytest.raises(ModelError, match=r"no int8 range for layers\.0\.4"):
        ModelPredictor(stored(network), quantized, choose("cpu", "int8", "openvino", quantized))


@pytest.mark.slow
def test_void_classes_are_never_predicted() -> None:
    network = lively_network()
    reference = card(network, void=(0, 2, 3))
    answering = ModelPredictor(stored(network), reference, choose("cpu", "fp32", "openvino"))
    answer = in_blocks(answering, drawn((96, 96))[0][0], 96, reference.halo)
    assert set(np.unique(answer[0])) <= {1, 4}


@pytest.mark.slow
def test_memory_can_be_given_back_between_tiles() -> None:
    network = lively_network()
    answering = predictor(network, "fp32")
    pixels = drawn((64, 64))[0][0]
    before = in_blocks(answering, pixels, 64, network.reach.halo)
    answering.release()
    assert (in_blocks(answering, pixels, 64, network.reach.halo) == before).all()


NO_MEMORY = """
import resource
from aerialseg.errors import ResourceError
from aerialseg.model import openvino
from tests.model.nets import card, lively_network, stored
network, build = lively_network("resnet34"), openvino.build_graph
def build_with_the_last_memory(*arguments, **options):
    graph = build(*arguments, **options)
    size_kb = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (1024 * size_kb,) * 2)
    return graph
openvino.build_graph = build_with_the_last_memory
try:
    openvino.OpenVinoNetwork(stored(network), card(network), "fp32")
except ResourceError as error:
    print(error)
"""


@pytest.mark.slow
def test_row_20_a_runtime_that_cannot_compile_is_a_resource_error() -> None:
    done = subprocess.run([sys.executable, "-c", NO_MEMORY], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.startswith("OpenVINO cannot compile the model here: "), done.stderr
    assert done.stdout.endswith("; free memory, or say --runtime torch\n")

"""The predictor: the same labels whatever the tile, the batch and the memory."""

from __future__ import annotations

import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from aerialseg.errors import ResourceError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.device import check_device, choose
from aerialseg.model.folders import embedded
from aerialseg.model.interface import Prediction, Tile
from aerialseg.model.network import Network
from aerialseg.model.predictor import ModelPredictor, ModelSpec, resolve, split_tile
from aerialseg.model.store import load_network, save
from aerialseg.model.torch_engine import decide
from aerialseg.raster.grid import Box, Grid
from tests.model.nets import card, legend, lively_network


@pytest.fixture(scope="module")
def network() -> Network:
    return lively_network()


def drawn_tile(core: Box | None = None, *, seed: int = 3) -> Tile:
    """A tile of 320 x 384 px at the corner of a larger raster, some of it nodata."""
    grid = Grid(400, 500, block=160, halo=224)
    core = core or Box(0, 0, 130, 160)
    window = grid.window(core)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, *window.shape), dtype=np.uint8)
    pixels[:, 40:90, 30:120] = 200
    valid = np.ones(window.shape, dtype=bool)
    valid[100:120, 60:200] = False
    return Tile(pixels, valid, window, core)


def same(one: Prediction, two: Prediction, *, confidence_steps: int = 1) -> bool:
    gap = np.abs(one.confidence.astype(int) - two.confidence.astype(int)).max()
    return bool((one.classes == two.classes).all() and gap <= confidence_steps)


def predictor(
    network: object,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    runtime: str = "torch",
    tile: int | None = None,
    batch: int | None = None,
) -> ModelPredictor:
    reference = network if isinstance(network, Network) else lively_network()
    return ModelPredictor(network, card(reference), choose(device, precision, runtime), tile=tile, batch=batch)


def test_answers_cover_the_core_and_are_uint8(network: Network) -> None:
    answer = predictor(network).predict(drawn_tile())
    assert answer.classes.shape == answer.confidence.shape == (130, 160)
    assert answer.classes.dtype == answer.confidence.dtype == np.uint8
    assert answer.classes.max() < network.classes
    assert len(np.unique(answer.classes)) > 1
    assert answer.confidence.min() >= 100 // network.classes
    assert answer.confidence.max() <= 100


@pytest.mark.parametrize(("tile", "batch"), [(32, 1), (32, 5), (64, 2), (96, 3), (1024, 1)])
def test_labels_do_not_depend_on_tile_and_batch(network: Network, tile: int, batch: int) -> None:
    drawn = drawn_tile(Box(32, 64, 102, 170))
    reference = predictor(network, tile=256, batch=1).predict(drawn)
    assert same(predictor(network, tile=tile, batch=batch).predict(drawn), reference)


def test_what_invalid_pixels_hold_means_nothing(network: Network) -> None:
    tile = drawn_tile()
    other = tile.pixels.copy()
    other[:, ~tile.valid] = 77
    changed = Tile(other, tile.valid, tile.window, tile.core)
    one, two = (predictor(network).predict(t) for t in (tile, changed))
    assert (one.classes == two.classes).all()
    assert (one.confidence == two.confidence).all()


def test_nodata_is_the_same_as_the_padding_beyond_the_raster(network: Network) -> None:
    """A raster of 100 rows padded to 128 is answered as the network answers for zeros there."""
    grid = Grid(100, 128, block=128, halo=224)
    pixels = np.random.default_rng(5).integers(0, 256, (3, 128, 128), dtype=np.uint8)
    valid = np.zeros((128, 128), dtype=bool)
    valid[:100] = True
    answer = predictor(network).predict(Tile(pixels, valid, grid.canvas, grid.raster))
    described = card(network)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (described.mean, described.std))
    image = (torch.from_numpy(pixels).float() / 255 - mean) / std
    image[:, 100:] = 0
    with torch.inference_mode():
        whole = network(image[None])[0]
    assert (answer.classes == whole[:, :100].argmax(0).numpy()).all()


def test_void_classes_are_never_predicted() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[:, 1] = 50.0
    logits[:, 2] = 1.0
    answer = decide(logits, ModelCard("drawn", legend(3), gsd_m=0.1, void=(1,)))
    assert (answer[0, 0] == 2).all()
    assert (answer[0, 1] == 73).all()  # e / (1 + e)


class Cramped:
    """A network that runs out of memory above so many pixels a call, and counts its calls."""

    def __init__(self, network: Network, most_px: int) -> None:
        self.network, self.most_px, self.calls, self.busy, self.clash = network, most_px, 0, False, False

    def forward_tile(self, x: Tensor, window: Box, core: Box) -> Tensor:
        self.clash |= self.busy
        self.busy = True
        try:
            self.calls += 1
            if x.shape[0] * core.area > self.most_px:
                raise torch.OutOfMemoryError("pretend")
            return self.network.forward_tile(x, window, core)
        finally:
            self.busy = False


@pytest.mark.slow
@pytest.mark.parametrize("most_px", [32 * 32, 64 * 64, 3 * 64 * 64])
def test_row_20_labels_stay_the_same_when_memory_runs_out(
    network: Network, most_px: int, caplog: pytest.LogCaptureFixture
) -> None:
    reference = predictor(network, tile=1024, batch=1).predict(drawn_tile())
    cramped = predictor(Cramped(network, most_px), tile=128, batch=4)
    assert same(cramped.predict(drawn_tile()), reference)
    assert "out of memory" in caplog.text
    assert cramped.batch * cramped.tile**2 <= 4 * most_px


def test_the_smaller_size_is_kept_for_the_next_tile(network: Network) -> None:
    cramped = Cramped(network, 64 * 64)
    answering = predictor(cramped, tile=128, batch=1)
    answering.predict(drawn_tile())
    calls = cramped.calls
    answering.predict(drawn_tile(seed=4))
    assert cramped.calls - calls == len(list(split_tile(drawn_tile().core, 64, 32)))


@pytest.mark.slow
def test_row_20_no_memory_at_all_is_a_resource_error(network: Network) -> None:
    with pytest.raises(ResourceError, match="too little memory even for a tile of 32 px"):
        predictor(Cramped(network, 0), tile=128, batch=2).predict(drawn_tile())


def test_other_errors_are_not_swallowed(network: Network) -> None:
    class Broken(Cramped):
        def forward_tile(self, x: Tensor, window: Box, core: Box) -> Tensor:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        predictor(Broken(network, 0)).predict(drawn_tile())


@pytest.mark.slow
def test_threads_get_the_same_answers_one_call_at_a_time(network: Network) -> None:
    cramped = Cramped(network, 10**9)
    answering = predictor(cramped, tile=64)
    tiles = [drawn_tile(seed=seed) for seed in range(3)]
    alone = [predictor(Cramped(network, 10**9), tile=64).predict(tile) for tile in tiles]
    answers: dict[int, Prediction] = {}

    def ask(number: int) -> None:
        with answering.gate:
            answers[number] = answering.predict(tiles[number])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not cramped.clash
    assert all(same(answers[i], alone[i], confidence_steps=0) for i in range(3))


def test_bf16_labels_mostly_agree(network: Network) -> None:
    fp32, bf16 = (predictor(network, precision=p).predict(drawn_tile()).classes for p in ("fp32", "bf16"))
    assert (fp32 == bf16).mean() > 0.9


def test_parts_cover_a_core_once_and_lie_on_the_lattice() -> None:
    core = Box(37, 50, 301, 222)
    count = np.zeros((400, 400), dtype=int)
    for part in split_tile(core, 64, 32):
        count[part.slices] += 1
        assert part.align(32).shape <= (64, 64)
    assert (count[core.slices] == 1).all()
    assert count.sum() == core.area


def test_a_spec_is_picklable_and_loads_once(tmp_path: object, network: Network) -> None:
    save(tmp_path, card(network), network.state_dict())  # type: ignore[arg-type]
    spec = resolve(str(tmp_path), device="cpu", precision="fp32", runtime="torch", tile=64)
    again = pickle.loads(pickle.dumps(spec))
    assert isinstance(again, ModelSpec)
    assert again == spec
    assert again.load() is spec.load()
    stored = load_network(str(tmp_path))[1]
    assert same(again.load().predict(drawn_tile()), predictor(stored).predict(drawn_tile()))


def test_a_model_of_the_package_goes_to_workers_by_its_name_and_another_by_its_folder(network: Network) -> None:
    folder = next(iter(embedded().values())).resolve()
    spec = ModelSpec(str(folder), card(network), tile=64)
    assert spec.on_workers() == replace(spec, path="drone-landcover")
    elsewhere = replace(spec, path="/models/mine")
    assert elsewhere.on_workers() == elsewhere


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_row_20_a_missing_gpu_is_a_resource_error_and_auto_takes_the_cpu() -> None:
    with pytest.raises(ResourceError, match="CUDA asked for but"):
        check_device("cuda")
    assert check_device("auto") == "cpu"


@pytest.mark.parametrize("device", ["gpu", "meta", ""])
def test_unknown_devices_are_refused(device: str) -> None:
    with pytest.raises(UsageError, match="wanted auto, cpu, cuda"):
        check_device(device)


def test_torch_on_a_cpu_computes_in_fp32_unless_told() -> None:
    assert choose("cpu", "auto", "torch").numerics == "cpu torch fp32"
    assert choose("cpu", "bf16", "torch").numerics == "cpu torch bf16"
    with pytest.raises(UsageError, match="fp16"):
        choose("cpu", "fp16", "torch")


def test_a_tile_off_the_lattice_is_refused(network: Network) -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        predictor(network, tile=100)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_says_what_the_cpu_says(network: Network) -> None:
    answers = [predictor(network, device=d, precision="fp32").predict(drawn_tile()).classes for d in ("cpu", "cuda")]
    assert (answers[0] == answers[1]).mean() > 0.999

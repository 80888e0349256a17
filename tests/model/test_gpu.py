"""The GPU path as far as a CPU can test it: streams, flags, memory, what is said when there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from aerialseg.errors import ModelError, ResourceError, UsageError
from aerialseg.mapping.settings import MapSettings
from aerialseg.model import device
from aerialseg.model.card import ModelCard
from aerialseg.model.device import ComputeMode, check_device, choose, choose_size
from aerialseg.model.gpu import Lanes, compute_fp32_exactly
from aerialseg.model.interface import Tile
from aerialseg.model.predictor import _OUT_OF_MEMORY, ModelPredictor
from aerialseg.model.unet import UNet
from aerialseg.raster.grid import Box
from tests.model.nets import card, lively_network


def test_a_thread_keeps_its_stream_and_two_threads_have_two() -> None:
    lanes = Lanes(["first", "second"])
    both = threading.Barrier(2)

    def ask() -> list[str]:
        both.wait(10)
        return [lanes.of_this_thread() for _ in range(50)]

    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(ask) for _ in range(2)]
        found = [set(one.result()) for one in asked]
    assert sorted(map(sorted, found)) == [["first"], ["second"]]
    assert lanes.of_this_thread() == "first", "a third thread shares one: there are no more than lanes"


@pytest.fixture
def rounding() -> Iterator[None]:
    """TF32 as torch allows it unless told, which comes back afterwards."""
    flags = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [flag.allow_tf32 for flag in flags]
    for flag in flags:
        flag.allow_tf32 = True
    yield
    for flag, value in zip(flags, before, strict=True):
        flag.allow_tf32 = value


@pytest.mark.usefixtures("rounding")
def test_fp32_is_exact_whatever_other_threads_do() -> None:
    """A flag that each call set for a while, and back, was wrong while two did, and stayed wrong afterwards."""
    compute_fp32_exactly()

    def compute(_: int) -> bool:
        compute_fp32_exactly()
        return not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(compute, range(400)))
    assert not torch.backends.cudnn.allow_tf32


def test_lanes_share_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "free_bytes", lambda _: 24e9)
    way = ComputeMode("cuda", "torch", "fp32")
    for lanes in (1, 2, 4):
        tile, batch = choose_size(way, lanes=lanes)
        used = lanes * tile * tile * batch * device._BYTES_PER_PIXEL["fp32"] + device._BASE_BYTES
        assert used <= 24e9 * device._SHARE, lanes
    assert choose_size(way, lanes=4) < choose_size(way, lanes=1)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "GET was unable to find an engine to execute this computation",
        "std::bad_alloc",
    ],
)
def test_what_libraries_say_when_memory_runs_out_is_known(said: str) -> None:
    assert any(words in said.lower() for words in _OUT_OF_MEMORY)


def test_the_second_gpu_can_be_asked_for() -> None:
    assert MapSettings(device="cuda:1").device == "cuda:1"
    with pytest.raises(UsageError, match=r"cuda:N"):
        MapSettings(device="cuda:first")
    if not torch.cuda.is_available():
        with pytest.raises(ResourceError, match="CUDA asked for but"):
            check_device("cuda:1")


def test_fp16_says_what_fp32_says_and_a_number_that_it_cannot_hold_is_no_class() -> None:
    """On a CPU, which computes it slowly; it is offered on a GPU alone."""
    with pytest.raises(UsageError, match="for GPUs without bf16"):
        choose("cpu", "fp16", "torch")
    network = lively_network()
    tile = noise(128)
    found = [half(network, card(network), name).predict(tile).classes for name in ("fp32", "fp16")]
    assert (found[0] == found[1]).mean() > 0.98
    huge = card(network, std=(1e-4,) * 3)
    assert half(network, huge, "fp32").predict(tile).classes.shape == (128, 128)
    with pytest.raises(ModelError, match="beyond fp16"):
        half(network, huge, "fp16").predict(tile)


def half(network: UNet, about: ModelCard, precision: str) -> ModelPredictor:
    return ModelPredictor(network, about, ComputeMode("cpu", "torch", precision), tile=128)


def noise(side: int) -> Tile:
    box = Box(0, 0, side, side)
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side), np.uint8)
    return Tile(pixels, np.ones((side, side), np.bool_), box, box)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_two_lanes_at_once_say_what_one_says() -> None:
    network = lively_network()
    one = ModelPredictor(network, card(network), ComputeMode("cuda", "torch", "fp32"))
    tiles = [noise(32 * (number + 4)) for number in range(8)]
    alone = [one.predict(tile).classes for tile in tiles]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda tile: one.predict(tile).classes, tiles))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))

"""The network on torch: on a GPU, and on a CPU for what has no ``network.onnx``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aerialseg.model.card import ModelCard
from aerialseg.model.device import ComputeMode, kind_of
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.gpu import Lanes, compute_fp32_exactly, cuda_streams
from aerialseg.model.groups import group_logits
from aerialseg.model.interface import NOT_FINITE, Tile
from aerialseg.model.network import Network
from aerialseg.raster.grid import Box

_Placed = tuple[Any, Tensor, Tensor]
"""(stream, pixels, valid) on the device."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_CHANNELS = 16
"""Tensor cores take channels by so many; on a CPU the padding costs more than it gains (3 % and more, measured)."""


class Tileable(Protocol):
    """Logits (B, classes, h, w) of ``core``, from normalised pixels of ``window``."""

    def forward_tile(self, x: Tensor, window: Box, core: Box) -> Tensor: ...


class TorchEngine:
    """Torch on a CPU or a GPU.

    On a GPU each lane, of as many as there are calls at a time, has a stream for good and copies through pinned memory,
    so that one tile travels while the other is computed. What the allocator has for a stream serves its next tile.
    """

    def __init__(self, network: Any, card: ModelCard, way: ComputeMode) -> None:
        self._way, self._card = way, card
        self._cuda = kind_of(way.device) == "cuda"
        self.concurrent_calls = 2 if self._cuda else 1
        self._dtype = _DTYPES.get(way.precision, torch.float32) if isinstance(network, Network) else torch.float32
        self._network: Tileable = self._placed(network)
        mean, std = (torch.tensor(values, device=way.device).view(-1, 1, 1) for values in (card.mean, card.std))
        self._scale, self._shift = 1 / (255 * std), mean / std
        self._lanes = Lanes(cuda_streams(torch.device(way.device), self.concurrent_calls)) if self._cuda else None
        if self._cuda and self._dtype == torch.float32:
            compute_fp32_exactly()

    def _placed(self, network: Any) -> Tileable:
        if isinstance(network, Network):
            network = fold_for_inference(network, channels=_CUDA_CHANNELS if self._cuda else 1).to(
                self._way.device, self._dtype
            )
            network = network.to(memory_format=torch.channels_last)
        placed: Tileable = network
        return placed

    @torch.inference_mode()
    def place(self, tile: Tile) -> _Placed:
        stream = self._lanes.of_this_thread() if self._lanes else None
        with _on(stream):
            pixels, valid = (self._on_device(array) for array in (tile.pixels, tile.valid))
        return stream, pixels, valid

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        there = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # torch warns of what is read-only
        return there.pin_memory().to(self._way.device, non_blocking=True) if self._cuda else there

    @torch.inference_mode()
    def answer(self, placed: _Placed, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.uint8]:
        with _on(placed[0]):
            found: NDArray[np.uint8] = decide(self._logits(placed, windows, window, core), self._card).cpu().numpy()
        return found

    @torch.inference_mode()
    def probabilities(self, placed: _Placed, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.float32]:
        with _on(placed[0]):
            found = apply_temperature(self._logits(placed, windows, window, core), self._card).cpu()
        return np.asarray(found.numpy())

    def _logits(self, placed: _Placed, windows: Sequence[Box], window: Box, core: Box) -> Tensor:
        _, pixels, valid = placed
        images = torch.stack([self._normalised(pixels, valid, box) for box in windows])
        images = images.to(self._dtype, memory_format=torch.channels_last)
        return group_logits(self._network.forward_tile(images, window, core).float(), self._card)

    def _normalised(self, pixels: Tensor, valid: Tensor, box: Box) -> Tensor:
        rows, cols = box.slices
        image = pixels[:, rows, cols].float() * self._scale - self._shift
        return image.masked_fill_(~valid[rows, cols], 0.0)

    def release(self) -> None:
        if self._cuda:
            torch.cuda.empty_cache()


def _on(stream: Any) -> Any:
    """A block whose work goes to a stream; None where there are none."""
    return nullcontext() if stream is None else torch.cuda.stream(stream)


def decide(logits: Tensor, card: ModelCard) -> Tensor:
    """uint8 (B, 2, h, w) of logits (B, classes, h, w): the best class that is not void, its probability per cent.

    The probability is that of softmax(logits / temperature) over the classes that are not void. It is `NOT_FINITE`
    where a logit is NaN or infinite.
    """
    total = logits.sum(dim=1)
    if card.void:
        logits[:, list(card.void)] = -torch.inf
    best, classes = logits.max(dim=1)
    below = logits - best.unsqueeze(1)
    if card.temperature != 1.0:
        below.div_(card.temperature)
    probability = below.exp_().sum(dim=1).reciprocal_()
    percent = (probability * 100).round_().masked_fill_(~total.isfinite(), NOT_FINITE)
    return torch.stack([classes.to(torch.uint8), percent.to(torch.uint8)], dim=1)


def apply_temperature(logits: Tensor, card: ModelCard) -> Tensor:
    """Probabilities (B, classes, h, w) of float32 logits, which change: softmax(logits / temperature), of void 0."""
    if card.void:
        logits[:, list(card.void)] = -torch.inf
    return (logits if card.temperature == 1.0 else logits.div_(card.temperature)).softmax(dim=1)

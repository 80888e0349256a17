"""The network at work: uint8 pixels in, uint8 classes and confidence out; everything between stays on the device."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from aerialseg.errors import ModelError, ResourceError, UsageError
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import Prediction, Tile
from aerialseg.raster.grid import Box

logger = logging.getLogger(__name__)
SMALLEST_TILE = 32
PRECISIONS = ("auto", "fp32", "bf16")
_CPU_TILE, _CUDA_TILES = 1024, ((40, 2048, 2), (16, 2048, 1), (6, 1024, 1), (0, 512, 1))
"""Pixels along the side of a tile, and tiles in a batch; on CUDA by the GiB of memory that are free."""


class Network(Protocol):
    """What a predictor needs: logits (B, classes, h, w) of ``core``, from normalised pixels of ``window``."""

    def forward_tile(self, x: Tensor, window: Box, core: Box) -> Tensor: ...


@dataclass(frozen=True)
class TorchSpec:
    """A predictor as data: where the model lies and how to run it.

    device: "auto", "cpu", "cuda" or "cuda:N". precision: "auto" (fp32 on CPU, bf16 on CUDA where it has it), "fp32",
    "bf16". tile: pixels along the side of what goes through the network at once, a multiple of 32; batch: how many.
    """

    path: str
    card: ModelCard
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    batch: int | None = None

    @property
    def numerics(self) -> str:
        """What it computes in, such as "cpu fp32": blocks of two kinds are never mixed in one result."""
        device = check_device(self.device)
        return f"{device.type} {'bf16' if wants_bf16(self.precision, device) else 'fp32'}"

    def load(self) -> TorchPredictor:
        """The predictor, made once per process. Raises ModelError, ResourceError."""
        key = (self.path, self.card.digest, self.device, self.precision, self.tile, self.batch)
        with _LOADING:
            if key not in _LOADED:
                _LOADED[key] = self._load()
            return _LOADED[key]

    def _load(self) -> TorchPredictor:
        from aerialseg.model.store import load_network

        card, network = load_network(self.path)
        if card.digest != self.card.digest:
            raise ModelError(f"the model in {self.path} has changed since the plan was made: start the run anew")
        return TorchPredictor(
            network, card, device=self.device, precision=self.precision, tile=self.tile, batch=self.batch
        )


_LOADED: dict[tuple[object, ...], TorchPredictor] = {}
_LOADING = threading.Lock()


class TorchPredictor:
    """Answers for tiles with a torch network. Several threads may call it; the network runs one call at a time."""

    def __init__(
        self,
        network: Any,
        card: ModelCard,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        batch: int | None = None,
    ) -> None:
        self.card, self.device = card, check_device(device)
        self.bf16 = wants_bf16(precision, self.device)
        default_tile, default_batch = _default_size(self.device)
        self.tile, self.batch = tile or default_tile, batch or default_batch
        if self.tile % card.stride or self.batch < 1:
            raise UsageError(
                f"tile {self.tile} px, batch {self.batch}: wanted a multiple of {card.stride} and at least 1"
            )
        self.network: Network = _placed(network, self.device)
        self._lock = threading.Lock()
        shape = (-1, 1, 1)
        self._mean, self._std = (torch.tensor(v, device=self.device).view(shape) for v in (card.mean, card.std))

    def predict(self, tile: Tile) -> Prediction:
        """Classes and confidence of the tile's core, whatever the size of what goes through the network at once.

        When memory runs out the batch is halved, then the tile, and the labels stay the same. Raises ResourceError
        when not even the smallest tile fits.
        """
        with self._lock:
            while True:
                done = self._try(tile)
                if done is not None:
                    return done
                self._release_and_shrink()

    def _try(self, tile: Tile) -> Prediction | None:
        try:
            return self._predict(tile)
        except (torch.OutOfMemoryError, MemoryError):
            return None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            return None

    def _release_and_shrink(self) -> None:
        """Called outside the except block, where the failed call's tensors are no longer referenced."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        met = f"tile {self.tile} px, batch {self.batch}"
        if self.batch > 1:
            self.batch //= 2
        elif self.tile > SMALLEST_TILE:
            self.tile = max(SMALLEST_TILE, self.tile // 2 // SMALLEST_TILE * SMALLEST_TILE)
        else:
            raise ResourceError(
                f"{self.device} has too little memory even for a tile of {self.tile} px: close other programs, "
                "or use --device cpu on a machine with more memory"
            )
        logger.warning("out of memory with %s: going on with tile %d px, batch %d", met, self.tile, self.batch)

    @torch.inference_mode()
    def _predict(self, tile: Tile) -> Prediction:
        out = np.zeros((2, *tile.core.shape), dtype=np.uint8)
        pixels, valid = (torch.from_numpy(_writable(a)).to(self.device) for a in (tile.pixels, tile.valid))
        for cores, window, core in self._batches(tile):
            images = torch.stack([self._normalised(pixels, valid, tile, win) for _, win in cores])
            answer = self._answer(images, window, core)
            for (box, _), values in zip(cores, answer, strict=True):
                out[:, *box.within(tile.core)] = values
        return Prediction(classes=out[0], confidence=out[1])

    def _batches(self, tile: Tile) -> Iterator[tuple[list[tuple[Box, Box]], Box, Box]]:
        """((core, window) of each, window, core): parts of equal shape; the last two count from the window's corner."""
        groups: dict[tuple[Box, Box], list[tuple[Box, Box]]] = {}
        for core in split(tile.core, self.tile, self.card.stride):
            window = core.align(self.card.stride).grow(self.card.halo) & tile.window
            groups.setdefault((window.relative_to(window), core.relative_to(window)), []).append((core, window))
        for (window, core), members in groups.items():
            for start in range(0, len(members), self.batch):
                yield members[start : start + self.batch], window, core

    def _normalised(self, pixels: Tensor, valid: Tensor, tile: Tile, window: Box) -> Tensor:
        rows, cols = window.within(tile.window)
        image = (pixels[:, rows, cols].float() / 255 - self._mean) / self._std
        return image.masked_fill_(~valid[rows, cols], 0.0)

    def _answer(self, images: Tensor, window: Box, core: Box) -> Any:
        """uint8 (B, 2, h, w): class and confidence per cent."""
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            logits = self.network.forward_tile(images, window, core)
        return decide(logits.float(), self.card.void).cpu().numpy()


def decide(logits: Tensor, void: Iterable[int]) -> Tensor:
    """uint8 (B, 2, h, w) of logits (B, classes, h, w): the best class that is not void, its probability per cent."""
    void = list(void)
    if void:
        logits[:, void] = -torch.inf
    best, classes = logits.max(dim=1)
    probability = (logits - best.unsqueeze(1)).exp_().sum(dim=1).reciprocal_()
    percent = (probability * 100).round_().clamp_(0, 100)
    return torch.stack([classes.to(torch.uint8), percent.to(torch.uint8)], dim=1)


def split(core: Box, tile: int, stride: int) -> Iterator[Box]:
    """Parts of ``core`` of at most ``tile`` px a side, cut on the lattice of ``stride``, row by row."""
    start = core.align(stride)
    for top in range(start.top, core.bottom, tile):
        for left in range(start.left, core.right, tile):
            yield Box(top, left, top + tile, left + tile) & core


def check_device(device: str) -> torch.device:
    """The torch device of "auto", "cpu", "cuda" or "cuda:N". Raises UsageError, ResourceError if it is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device {device!r}: wanted auto, cpu, cuda or cuda:N") from error
    if wanted.type not in ("cpu", "cuda"):
        raise UsageError(f"device {device!r}: wanted auto, cpu, cuda or cuda:N")
    if wanted.type == "cuda" and not torch.cuda.is_available():
        why = (
            "this torch is a build without CUDA"
            if torch.version.cuda is None
            else "no usable NVIDIA GPU or driver was found"
        )
        raise ResourceError(f"CUDA asked for but {why}: use --device cpu, or install torch with CUDA")
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise ResourceError(f"{device} asked for but there are {torch.cuda.device_count()} GPUs: use cuda:0 or auto")
    return wanted


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: wanted one of {', '.join(PRECISIONS)}")


def wants_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bf16. "auto" is fp32 on a CPU, where labels are to be the same on every machine."""
    check_precision(precision)
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def _default_size(device: torch.device) -> tuple[int, int]:
    if device.type != "cuda":
        return _CPU_TILE, 1
    free_gib = torch.cuda.mem_get_info(device)[0] / 2**30
    return next((tile, batch) for enough, tile, batch in _CUDA_TILES if free_gib >= enough)


def _placed(network: Any, device: torch.device) -> Network:
    """The network on the device, in eval mode and channels_last; what is not a module stays as it is (tests)."""
    if isinstance(network, torch.nn.Module):
        network = network.eval().requires_grad_(False).to(device)
        network = network.to(memory_format=torch.channels_last)
    placed: Network = network
    return placed


def _writable(array: Any) -> Any:
    """The array, or a copy if torch would warn that it is read-only."""
    return np.require(array, requirements=["C", "W"])

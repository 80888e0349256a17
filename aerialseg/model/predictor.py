"""The predictor: tiles of any size through the network, in parts that fit into memory."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import ModelError, ResourceError, UsageError
from aerialseg.model.card import ModelCard, split_tiling
from aerialseg.model.device import ComputeMode, choose, choose_size
from aerialseg.model.engine import Engine, make_engine
from aerialseg.model.folders import CARD, embedded, model_dir
from aerialseg.model.interface import NOT_FINITE, Prediction, Predictor, PredictorSpec, Tile
from aerialseg.model.store import check_files, check_halo, load_inexact
from aerialseg.model.tta import BYTES_PER_CLASS, TURNS, AveragingEngine
from aerialseg.raster.grid import Box

logger = logging.getLogger(__name__)
SMALLEST_TILE = 32
APPROXIMATE_TILE = 1024
"""Pixels along the side of an approximate tile: its answer depends on that, so free memory must not decide it."""


@dataclass(frozen=True)
class ModelSpec(PredictorSpec):
    """A predictor as data: where the model lies and how to run it.

    device: "auto", "cpu", "cuda" or "cuda:N". precision: "auto", "fp32", "bf16", "fp16" or "int8". runtime: "auto",
    "torch" or "openvino" (see device.py for what "auto" comes to). tile: pixels along the side of what goes through the
    network at once, a multiple of 32; batch: how many at once; both chosen by the memory that is free, unless given.
    tta: average over flips and turns (tta.py).
    """

    path: str
    card: ModelCard
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    tile: int | None = None
    batch: int | None = None
    tta: bool = False

    @property
    def numerics(self) -> str:
        """What it computes in, once "auto" is decided, such as "cpu torch fp32". Raises UsageError, ResourceError."""
        return self.way.numerics + (f", mean of {len(TURNS)} turns" if self.tta else "")

    @property
    def way(self) -> ComputeMode:
        """Device, runtime and precision, once "auto" is decided. Raises UsageError, ResourceError."""
        return choose(self.device, self.precision, self.runtime, self.card)

    def on_workers(self) -> ModelSpec:
        """The same; a model that comes with the package goes by its name, for it may lie elsewhere there."""
        names = {str(folder.resolve()): name for name, folder in embedded().items()}
        return replace(self, path=names.get(self.path, self.path))

    def load(self) -> ModelPredictor:
        """The predictor, made once per process. Raises ModelError, ResourceError."""
        with _LOADING:
            if self not in _LOADED:
                _LOADED[self] = self._load()
            return _LOADED[self]

    def __hash__(self) -> int:
        ways = self.device, self.precision, self.runtime, self.tile, self.batch, self.tta
        return hash((self.path, self.card.digest, *ways))

    def _load(self) -> ModelPredictor:
        folder = model_dir(self.path)
        card = ModelCard.read(folder / CARD)
        check_files(folder, card)
        # The spec's card may have another halo than the one on disk (ModelCard.tiled); nothing else may differ.
        if replace(card, halo=self.card.halo, exact=self.card.exact).digest != self.card.digest:
            raise ModelError(f"the model in {self.path} has changed since the plan was made: run the command again")
        return ModelPredictor(folder, self.card, self.way, tile=self.tile, batch=self.batch, tta=self.tta)


_LOADED: dict[ModelSpec, ModelPredictor] = {}
_LOADING = threading.Lock()
_GATES: dict[str, threading.Semaphore] = {}
"""The gate to each device of this process, whichever models are to pass it."""


class ModelPredictor(Predictor):
    """Answers for tiles with the network of a folder; on torch also with a network itself."""

    card: ModelCard
    tile: int

    def __init__(
        self,
        model: Path | Any,
        card: ModelCard,
        way: ComputeMode,
        *,
        tile: int | None = None,
        batch: int | None = None,
        tta: bool = False,
    ) -> None:
        self.card, self.way = card, way
        engine = make_engine(model, card, way, probabilities=tta)
        self.engine: Engine = AveragingEngine(engine) if tta else engine
        beside = BYTES_PER_CLASS * len(card.legend) if tta else 0.0
        fitting = choose_size(way, beside, self.engine.concurrent_calls)
        usual = fitting[0] if card.exact else APPROXIMATE_TILE
        self.tile, self.batch = tile or usual, batch or fitting[1]
        if self.tile % card.stride or self.batch < 1:
            raise UsageError(
                f"tile {self.tile} px, batch {self.batch}: wanted a multiple of {card.stride} and at least 1"
            )
        self.concurrent_calls = self.engine.concurrent_calls
        self._gate = _GATES.setdefault(way.device, threading.Semaphore(self.concurrent_calls))
        self._shrinking = threading.Lock()

    def predict(self, tile: Tile) -> Prediction:
        """Classes and confidence of the tile's core, whatever the size of what goes through the network at once.

        When memory runs out the batch is halved, then the tile, and the labels stay the same. Raises ResourceError
        when not even the smallest tile fits, ModelError when the network computes NaN or infinity.
        """
        while True:
            met = self.tile, self.batch
            done = self._try(tile, *met)
            if done is not None:
                return done
            self._release_and_shrink(*met)

    def release(self) -> None:
        """Give back memory that is held between tiles; the next tile takes it again."""
        self.engine.release()

    def _try(self, tile: Tile, side: int, batch: int) -> Prediction | None:
        try:
            return self._predict(tile, side, batch)
        except MemoryError:
            return None
        except RuntimeError as error:
            said = f"{type(error).__name__}: {error}".lower()
            if not any(words in said for words in _OUT_OF_MEMORY):
                raise
            return None

    def _release_and_shrink(self, side: int, batch: int) -> None:
        """Called outside the except block, where the failed call's tensors are no longer referenced."""
        gc.collect()
        self.engine.release()
        with self._shrinking:
            if (self.tile, self.batch) != (side, batch):
                return  # another call has done it
            if batch > 1:
                self.batch = batch // 2
            elif side > SMALLEST_TILE:
                self.tile = max(SMALLEST_TILE, side // 2 // SMALLEST_TILE * SMALLEST_TILE)
            else:
                raise ResourceError(
                    f"{self.way.device} has too little memory even for a tile of {side} px: close other programs, "
                    "or use --device cpu on a machine with more memory"
                )
            logger.warning(
                "out of memory with tile %d px, batch %d: going on with tile %d px, batch %d",
                *(side, batch, self.tile, self.batch),
            )

    def _predict(self, tile: Tile, side: int, batch: int) -> Prediction:
        out: NDArray[np.uint8] = np.zeros((2, *tile.core.shape), dtype=np.uint8)
        placed = self.engine.place(tile)
        for parts, window, core in self._batches(tile, side, batch):
            windows = [box.relative_to(tile.window) for _, box in parts]
            answer = self.engine.answer(placed, windows, window, core)
            for (box, _), values in zip(parts, answer, strict=True):
                out[:, *box.within(tile.core)] = values
        if (out[1] == NOT_FINITE).any():
            place = tile.place or f"the block of {tile.core.spoken}"
            if self.way.precision == "fp16":
                raise ModelError(
                    f"the model {self.card.name!r} computes numbers beyond fp16 (65,504) in {place}: "
                    "use --precision fp32"
                )
            raise ModelError(
                f"the model {self.card.name!r} computes NaN or infinity in {place} ({self.way.numerics}), which is no "
                "class: its weights, or mean and std in its card, are not those it was trained with; fetch or export "
                "it again"
            )
        return Prediction(classes=out[0], confidence=out[1])

    def _batches(self, tile: Tile, side: int, batch: int) -> Iterator[tuple[list[tuple[Box, Box]], Box, Box]]:
        """((core, window) of each, window, core): parts of equal shape; the last two count from the window's corner."""
        groups: dict[tuple[Box, Box], list[tuple[Box, Box]]] = {}
        for core in split_tile(tile.core, side, self.card.stride):
            window = core.align(self.card.stride).grow(self.card.halo) & tile.window
            groups.setdefault((window.relative_to(window), core.relative_to(window)), []).append((core, window))
        for (window, core), members in groups.items():
            for start in range(0, len(members), batch):
                yield members[start : start + batch], window, core


_OUT_OF_MEMORY = (
    *("can't allocate memory", "out of memory", "out_of_memory", "bad_alloc", "not enough memory", "alloc_failed"),
    *("outofmemoryerror", "allocation_failed", "unable to find an engine to execute this computation"),
)
"""What torch, OpenVINO, CUDA, cuBLAS and cuDNN say, in lower case. The last one: cuDNN finds no room to work in."""


def split_tile(core: Box, tile: int, stride: int) -> Iterator[Box]:
    """Parts of ``core`` of at most ``tile`` px a side, cut on the lattice of ``stride``, row by row."""
    start = core.align(stride)
    for top in range(start.top, core.bottom, tile):
        for left in range(start.left, core.right, tile):
            yield Box(top, left, top + tile, left + tile) & core


def resolve(
    ref: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    tile: int | None = None,
    batch: int | None = None,
    tiling: str = "exact",
    tta: bool = False,
) -> ModelSpec:
    """A model as data, once everything about it is known to be right: card, device, weights (hash, names, values).

    tiling: "exact", which is refused where it cannot be, "approximate", or "approximate:PX" with so many pixels around
    a tile. The card is the one on disk as that uses it (ModelCard.tiled).
    Raises ModelError, ResourceError, UsageError.
    """
    folder = model_dir(ref)
    card = ModelCard.read(folder / CARD)
    way = choose(device, precision, runtime, card)
    card = card.tiled(*split_tiling(tiling), _check(folder, card, way))
    return ModelSpec(str(folder.resolve()), card, device, precision, runtime, tile, batch, tta)


def _check(folder: Path, card: ModelCard, way: ComputeMode) -> Sequence[str]:
    """The layers that keep a network from being exact, once all is known to fit together. Raises ModelError."""
    if way.runtime == "torch":
        return load_inexact(folder)
    from aerialseg.model.openvino import read_network

    check_files(folder, card)
    network, reach = read_network(folder)
    check_halo(card, reach, folder)
    met = network.input("image").get_partial_shape()[1], network.output(0).get_partial_shape()[1]
    wanted = len(card.bands), len(card.groups or card.legend)
    if met != wanted:
        raise ModelError(
            f"{folder}: the network has {met[0]} bands and {met[1]} classes, its card {wanted[0]} and {wanted[1]}"
        )
    return ()


def load_model(model: str | Path | None = None, **how: Any) -> ModelPredictor:
    """A model that is ready to predict: the default one, or a name or folder as of ``segment-raster --model``.

    >>> predictor = aerialseg.load_model()
    >>> pixels = rasterio.open("ortho.tif").read([1, 2, 3])  # uint8 (C, h, w)
    >>> found = predictor.predict_array(pixels)
    >>> found.classes, found.confidence  # both uint8 (h, w): class ids, per cent
    >>> predictor.card.legend.names  # of the class ids
    >>> predictor.card.gsd_m  # metres per pixel that it was trained at: resample imagery that differs

    how: keywords of `resolve`: device, precision, runtime, tile, batch, tiling ("approximate:64"), tta. A model is
    loaded once per process for each set of them. Raises ModelError, ResourceError, UsageError.
    """
    return resolve(model, **how).load()

"""One block of the output: read, predict, write. The only step that is done many times, anywhere, in any order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aerialseg.files import write_atomically
from aerialseg.legend import NODATA
from aerialseg.mapping.timeline import Span
from aerialseg.model.interface import PredictorSpec, Tile
from aerialseg.raster.blocks import write_block
from aerialseg.raster.decode import Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Source
from aerialseg.raster.view import View

Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

PARTS = "parts-"
"""So begin the names of folders, among the blocks, in which workers make their files."""

LOADED_S = 0.001
"""A predictor that comes faster than this was there already."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """Paths and numbers, no open dataset and no tensor: it travels to any worker and may be done twice.

    core: pixels of the working raster to answer for. window: pixels to read for it (Grid.window).
    path: where the block's file belongs. allow_remote: whether the view's path may be an address.
    """

    index: int
    core: Box
    window: Box
    view: View
    predictor: PredictorSpec
    path: Path
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What one block took: pixels of the core, how many of them are valid, and when each of its stages was at work.

    Stages are "load" (the model, where that takes time), "read", "queue" (wait for the device), "predict", "write".
    """

    index: int
    core_px: int
    valid_px: int
    spans: tuple[Span, ...] = ()


class Windows(Protocol):
    """Reads windows: pixels, which of them are valid, and the tiles of the source that could not be read for them."""

    def read(self, window: Box, /) -> tuple[Pixels, Valid, frozenset[Box]]: ...


@dataclass(frozen=True)
class Shared:
    """What the threads of one run have in common: decoded pages, and the raster of all blocks.

    join: is handed index, classes and confidence of each block whose file is there.
    """

    pages: Windows
    join: Callable[[int, Labels], None]


def run_block(task: BlockTask, shared: Shared | None = None) -> BlockReport:
    """Write ``task.path`` and report; a file that stands there is whole. Safe to repeat.

    Raises InputError when the window cannot be read, OutputError when the file cannot be written, ResourceError when
    the device has too little memory even for the smallest tile, ModelError when the network computes NaN or infinity.
    """
    clock = _Clock()
    with clock.stage("read"):
        pixels, valid, lost = _read(task, shared)
    inside = valid[task.core.within(task.window)]
    labels = _predict(task, Tile(pixels, valid, task.window, task.core), inside, clock)
    with clock.stage("write"):
        if lost:
            _note_lost(task.path.with_suffix(".json"), lost)
        write_block(task.path, *labels)
    if shared is not None:
        shared.join(task.index, labels)
    return BlockReport(task.index, task.core.area, int(np.count_nonzero(inside)), tuple(clock.spans))


def _read(task: BlockTask, shared: Shared | None) -> tuple[Pixels, Valid, frozenset[Box]]:
    if shared is not None:
        return shared.pages.read(task.window)
    with Source(task.view, allow_remote=task.allow_remote) as source:
        return *source.read(task.window), source.lost_blocks


def _predict(task: BlockTask, tile: Tile, inside: Valid, clock: _Clock) -> Labels:
    """Classes and confidence of the core, nodata where it is not valid; nothing is computed for no valid pixel."""
    if not inside.any():
        empty = np.full(task.core.shape, NODATA, np.uint8)
        return empty, empty
    with clock.stage("load", unless_below=LOADED_S):
        predictor = task.predictor.load()
    with ExitStack() as device:
        with clock.stage("queue"):
            device.enter_context(predictor.gate)
        with clock.stage("predict"):
            prediction = predictor.predict(tile)
    prediction = prediction.masked(inside)
    return prediction.classes, prediction.confidence


def _note_lost(path: Path, lost: Iterable[Box]) -> None:
    """Write down, before the block is there, which tiles of the source (in its pixels) it had to do without."""
    boxes = [[box.top, box.left, box.bottom, box.right] for box in sorted(lost)]
    with write_atomically(path) as part:
        part.write_text(json.dumps({"lost": boxes}), encoding="utf-8")


class _Clock:
    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def stage(self, name: str, unless_below: float = 0.0) -> Iterator[None]:
        start = time.time()
        try:
            yield
        finally:
            end = time.time()
            if end - start >= unless_below:
                self.spans.append((name, start, end))

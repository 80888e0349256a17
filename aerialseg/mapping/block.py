"""One block of the output: read, predict, write. The only step that is done many times, anywhere, in any order."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aerialseg.files import remove_if_there, write_atomically
from aerialseg.legend import NODATA
from aerialseg.mapping.timeline import Span
from aerialseg.model.interface import PredictorSpec, Tile
from aerialseg.raster.blocks import write_block
from aerialseg.raster.decode import Pixels, Valid
from aerialseg.raster.grid import Box
from aerialseg.raster.source import Lost, Source
from aerialseg.raster.view import View

Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]

PARTS = "parts-"
"""So begin the names of folders, among the blocks, in which workers make their files."""

LOADED_S = 0.001
"""A predictor that comes faster than this was there already."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """Paths and numbers, no open dataset and no tensor: it travels to any worker and may be done twice.

    core: pixels to answer for. window: pixels to read for it (Grid.window); both count from the lattice's origin.
    path: where the block's file belongs. key: what its result depends on (Plan.key). allow_remote: whether the view's
    paths may be addresses.
    """

    index: int
    core: Box
    window: Box
    view: View
    predictor: PredictorSpec
    path: Path
    key: str = ""
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

    def read(self, window: Box, /) -> tuple[Pixels, Valid, frozenset[Lost]]: ...


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
    place = f"the block of {task.view.local(task.core).spoken}"
    labels = _predict(task, Tile(pixels, valid, task.window, task.core, place), inside, clock)
    with clock.stage("write"):
        note_lost(task.path.with_suffix(".json"), lost)
        write_block(task.path, *labels, key=task.key)
    if shared is not None:
        shared.join(task.index, labels)
    return BlockReport(task.index, task.core.area, int(np.count_nonzero(inside)), tuple(clock.spans))


def _read(task: BlockTask, shared: Shared | None) -> tuple[Pixels, Valid, frozenset[Lost]]:
    window = task.view.local(task.window)
    if shared is not None:
        return shared.pages.read(window)
    with Source(task.view, allow_remote=task.allow_remote) as source:
        return *source.read(window), source.lost_blocks


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


def note_lost(path: Path, lost: Collection[Lost]) -> None:
    """Write down, before a block is there, which tiles of which files (in their pixels) it has to do without."""
    if not lost:
        remove_if_there(path)
        return
    boxes = [[file, box.top, box.left, box.bottom, box.right] for file, box in sorted(lost)]
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

"""One block of the output: read, predict, write. The only step that is done many times, anywhere, in any order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.legend import NODATA
from aerialseg.model.interface import PredictorSpec, Tile
from aerialseg.raster.grid import Box
from aerialseg.raster.view import View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]


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
    """What one block took: pixels of the core, how many of them are valid, and seconds to read and to write."""

    index: int
    core_px: int
    valid_px: int
    seconds: dict[str, float] = field(default_factory=dict)


def run_block(task: BlockTask) -> BlockReport:
    """Write ``task.path`` and report; a file that stands there is whole. Safe to repeat.

    Raises InputError when the window cannot be read, OutputError when the file cannot be written, ResourceError when
    the device has too little memory even for the smallest tile.
    """
    from aerialseg.raster.sink import write_block
    from aerialseg.raster.source import Source

    clock = _Clock()
    with clock.stage("read"), Source(task.view, allow_remote=task.allow_remote) as source:
        pixels, valid = source.read(task.window)
        lost = source.lost_blocks
    inside = valid[task.core.within(task.window)]
    labels = _predict(task, Tile(pixels, valid, task.window, task.core), inside)
    with clock.stage("write"):
        if lost:
            _note_lost(task.path.with_suffix(".json"), lost)
        write_block(task.path, *labels)
    return BlockReport(task.index, task.core.area, int(inside.sum()), clock.seconds)


def _predict(task: BlockTask, tile: Tile, inside: NDArray[np.bool_]) -> Labels:
    """Classes and confidence of the core, nodata where it is not valid; nothing is computed for no valid pixel."""
    import numpy as np

    if not inside.any():
        empty = np.full(task.core.shape, NODATA, np.uint8)
        return empty, empty
    prediction = task.predictor.load().predict(tile)
    nodata = np.uint8(NODATA)
    return np.where(inside, prediction.classes, nodata), np.where(inside, prediction.confidence, nodata)


def _note_lost(path: Path, lost: Iterable[Box]) -> None:
    """Write down, before the block is there, which tiles of the source (in its pixels) it had to do without."""
    from aerialseg.raster.sink import writing

    boxes = [[box.top, box.left, box.bottom, box.right] for box in sorted(lost)]
    with writing(path) as part:
        part.write_text(json.dumps({"lost": boxes}), encoding="utf-8")


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

"""What answers for tiles: the network on a device, with everything between uint8 and uint8 done there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aerialseg.model.card import ModelCard
from aerialseg.model.device import ComputeMode
from aerialseg.model.interface import Tile
from aerialseg.raster.grid import Box

if TYPE_CHECKING:
    from aerialseg.model.openvino import OpenVinoNetwork


class Engine(Protocol):
    """Answers for equal windows of one tile at a time. ``concurrent_calls``: calls at once that pay."""

    concurrent_calls: int

    def place(self, tile: Tile) -> Any:
        """The tile's pixels where the device sees them: to be handed to ``answer``."""
        ...

    def answer(self, placed: Any, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.uint8]:
        """uint8 (B, 2, h', w'): class and confidence per cent of ``core``, `NOT_FINITE` where a number was not.

        windows: what to cut out of the tile, counted from the tile's window. window, core: the shape of them all and
        the part to answer for, both counted from their upper left corner.
        """
        ...

    def probabilities(self, placed: Any, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.float32]:
        """float32 (B, classes, h', w') of ``core``; of classes that are never said 0."""
        ...

    def release(self) -> None:
        """Give back memory that is held between tiles."""
        ...


def make_engine(model: Path | Any, card: ModelCard, way: ComputeMode, *, probabilities: bool = False) -> Engine:
    """The model of a folder at work in that way; on torch also a network itself, taken as it is.

    probabilities: it will be asked for these, and not for answers. Raises ModelError, ResourceError.
    """
    if way.runtime == "openvino":
        from aerialseg.model.openvino import PROBABILITIES, OpenVinoNetwork

        options = {"output": PROBABILITIES} if probabilities else {}
        return OpenVinoEngine(OpenVinoNetwork(model, card, way.precision, **options))
    from aerialseg.model.store import load_network
    from aerialseg.model.torch_engine import TorchEngine

    return TorchEngine(load_network(model)[1] if isinstance(model, Path) else model, card, way)


class OpenVinoEngine:
    """OpenVINO on a CPU."""

    concurrent_calls = 1

    def __init__(self, network: OpenVinoNetwork) -> None:
        self._network = network

    def place(self, tile: Tile) -> Tile:
        return tile

    def answer(self, placed: Tile, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.uint8]:
        return self._network.answer(*_cut(placed, windows), window, core)

    def probabilities(self, placed: Tile, windows: Sequence[Box], window: Box, core: Box) -> NDArray[np.float32]:
        return self._network.answer(*_cut(placed, windows), window, core)

    def release(self) -> None:
        self._network.release()


def _cut(tile: Tile, windows: Sequence[Box]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    pixels = np.stack([tile.pixels[:, *box.slices] for box in windows])
    return pixels, np.stack([tile.valid[box.slices] for box in windows])

"""Where a tile's pass crops its feature maps: numbers alone, the same for every runtime.

Between the parts of a network every feature map is cropped to the cells that the rest of it still needs. Which these
are follows from the network's reach (reach.py), the tile's window and its core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.raster.grid import Box
from aerialseg.toml import convert

STRIDE = 32
ENCODED = 6
"""Stages of an encoder: stem, pooling, four stages. Each halves the resolution but the third."""
POOLING, UNHALVED = 1, 2
"""The stage whose output is not joined again, and the one that keeps the resolution."""
DECODED = (16, 8, 4, 2, 1)
"""Strides of what the decoder's steps give."""

Crops = NDArray[np.int64]
"""(crops, 2, 2): first (row, col) and end (row, col) of each crop, in the order of the pass."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Cells needed around the core, at the stride of what they are needed of.

    final: of the full-resolution features and of the image beside them. joins: of the joined features of each decoder
    block, coarse to fine. middle: of the encoder's output. layers: of the input of each encoder stage, fine to coarse.
    pool: of the input of the pooling. image: of the image; ``halo`` is that, rounded up to the stride. skips: whether
    the decoder's steps, coarse to fine, look at what the encoder saw at their stride.
    """

    final: int
    joins: tuple[int, ...]
    middle: int
    layers: tuple[int, ...]
    pool: int
    image: int
    skips: tuple[bool, ...] = (True,) * len(DECODED)
    stride: int = STRIDE

    @property
    def halo(self) -> int:
        """Pixels around the core that make a tile equal the whole image."""
        return round_up(self.image, self.stride)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Any) -> Reach:
        """The inverse of ``to_json``. Raises UsageError where a value is not a number of cells."""
        known = convert(values, dict[str, Any], "reach")
        hints = {"joins": tuple[int, ...], "layers": tuple[int, ...], "skips": tuple[bool, ...]}
        return cls(**{name: convert(known[name], hints.get(name, int), name) for name in cls.__dataclass_fields__})


def find_crops(reach: Reach, window: Box, core: Box) -> Crops:
    """The crops of a tile's pass: of the image, before each stage, in the middle, twice before a join, at the end."""
    pairs = [want.within(have) for have, want in _boxes(reach, window, core)]
    return np.array([[[rows.start, cols.start], [rows.stop, cols.stop]] for rows, cols in pairs], np.int64)


def _boxes(reach: Reach, window: Box, core: Box) -> Iterator[tuple[Box, Box]]:
    """(what a feature map covers, what is needed of it) of each crop, in cells of its stride."""
    centre = core.align(STRIDE)

    def cells(stride: int, margin: int) -> Box:
        return centre.scale_down(stride).grow(margin) & window.scale_down(stride)

    have, stride, kept = window, 1, [window]
    for number, margin in enumerate((reach.image, reach.pool, *reach.layers)):
        step = 1 if number == UNHALVED else 2
        want = cells(stride, round_up(margin, step))
        yield have, want
        have, stride = want.scale_down(step), stride * step
        if number != POOLING:
            kept.append(have)
    want = cells(STRIDE, reach.middle)
    yield kept.pop(), want
    for stride, margin, joined in zip(DECODED, (*reach.joins, reach.final), reach.skips, strict=True):
        have, want, skip = _finer(want), cells(stride, margin), kept.pop()
        yield have, want
        if joined:
            yield skip, want
    yield want, core


def _finer(box: Box) -> Box:
    return Box(box.top * 2, box.left * 2, box.bottom * 2, box.right * 2)


def round_up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` that is not less."""
    return -(-value // step) * step

"""Pixel rectangles and the grid of blocks: integers only.

A raster is cut into blocks whose corners lie on one global lattice (multiples of ``stride``), because the network is
shift-equivariant only modulo its stride (Majurski & Bajcsy 2021, 10.6028/jres.126.009). Windows around blocks grow by a
halo and are clipped to the canvas, the raster padded to whole strides: they are never pulled back, so a window's origin
never leaves the lattice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

MAX_PIXELS = 10_000_000_000
"""Pixels of a working raster, beyond which somebody has to say that they are meant: 100,000 px square."""


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """A half-open pixel rectangle: rows ``top <= row < bottom``, columns ``left <= col < right``."""

    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        if self.bottom < self.top or self.right < self.left:
            raise ValueError(f"{self} ends before it starts")

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)"""
        return self.height, self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def spoken(self) -> str:
        """Its rows and columns, for people."""
        return f"rows {self.top} to {self.bottom - 1}, columns {self.left} to {self.right - 1}"

    def __bool__(self) -> bool:
        return self.area > 0

    def __and__(self, other: Box) -> Box:
        """What both cover; an empty box at the nearer corner where they do not meet."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        return Box(top, left, max(top, min(self.bottom, other.bottom)), max(left, min(self.right, other.right)))

    def __contains__(self, other: Box) -> bool:
        rows = self.top <= other.top and other.bottom <= self.bottom
        return rows and self.left <= other.left and other.right <= self.right

    def grow(self, margin: int) -> Box:
        """The box with ``margin`` pixels more on each side."""
        return Box(self.top - margin, self.left - margin, self.bottom + margin, self.right + margin)

    def align(self, step: int) -> Box:
        """The smallest box around this one whose edges are multiples of ``step``."""
        return Box(
            self.top // step * step,
            self.left // step * step,
            -(-self.bottom // step) * step,
            -(-self.right // step) * step,
        )

    def scale_down(self, step: int) -> Box:
        """The box in cells of ``step`` pixels; its edges must be multiples of it."""
        if self != self.align(step):
            raise ValueError(f"{self} does not lie on multiples of {step}")
        return Box(self.top // step, self.left // step, self.bottom // step, self.right // step)

    def relative_to(self, origin: Box) -> Box:
        """The same pixels counted from the upper left corner of ``origin``."""
        return Box(self.top - origin.top, self.left - origin.left, self.bottom - origin.top, self.right - origin.left)

    def placed_in(self, origin: Box) -> Box:
        """The inverse of `relative_to`: pixels counted from the corner of ``origin``, counted as ``origin`` is."""
        return Box(self.top + origin.top, self.left + origin.left, self.bottom + origin.top, self.right + origin.left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns), to index an array that starts at the origin."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, origin: Box) -> tuple[slice, slice]:
        """(rows, columns) of this box in an array that covers ``origin``."""
        return self.relative_to(origin).slices


@dataclass(frozen=True, slots=True)
class Grid:
    """Blocks of ``block`` pixels over a raster of ``height`` x ``width``, read with a ``halo``.

    ``block`` and ``halo`` are multiples of ``stride``, so every window starts on the lattice. Rows and columns count
    from the lattice's origin, where the raster's first pixel has row ``top`` and column ``left``: rasters of one
    lattice are cut alike wherever they begin. An axis that fits into a block is not cut. ``part``: the box to answer
    for, if not the whole raster; windows reach beyond it.
    """

    height: int
    width: int
    block: int
    halo: int
    stride: int = 32
    top: int = 0
    left: int = 0
    part: Box | None = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a raster of {self.height} x {self.width} px has no pixels")
        if self.stride < 1 or self.block < 1 or self.halo < 0:
            raise ValueError(f"block {self.block}, halo {self.halo}, stride {self.stride}: wanted 1, 0, 1 or more")
        for name, value in (("block", self.block), ("halo", self.halo)):
            if value % self.stride:
                raise ValueError(f"{name} {value} px is not a multiple of the stride, {self.stride} px")

    @property
    def raster(self) -> Box:
        return Box(self.top, self.left, self.top + self.height, self.left + self.width)

    @property
    def answered(self) -> Box:
        """What all blocks together answer for: ``part``, or the whole raster."""
        return self.part or self.raster

    @property
    def canvas(self) -> Box:
        """The raster padded to whole strides."""
        return self.raster.align(self.stride)

    @property
    def rows(self) -> int:
        return len(_cut(self.answered.top, self.answered.bottom, self.block))

    @property
    def cols(self) -> int:
        return len(_cut(self.answered.left, self.answered.right, self.block))

    def __len__(self) -> int:
        return self.rows * self.cols

    def __iter__(self) -> Iterator[Box]:
        return (self.core(index) for index in range(len(self)))

    def core(self, index: int) -> Box:
        """Block ``index`` (row-major): the pixels that it answers for."""
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        row, col = divmod(index, self.cols)
        box = self.answered
        top, bottom = _cut(box.top, box.bottom, self.block)[row]
        left, right = _cut(box.left, box.right, self.block)[col]
        return Box(top, left, bottom, right)

    def window(self, core: Box) -> Box:
        """What is read for ``core``: grown by the halo, on the lattice, clipped to the canvas."""
        return core.align(self.stride).grow(self.halo) & self.canvas


@lru_cache(maxsize=64)
def _cut(start: int, end: int, block: int) -> tuple[tuple[int, int], ...]:
    """Where the blocks of one axis begin and end: at multiples of ``block``, and not at all where one holds it."""
    edges = range((start // block + 1) * block, end, block) if end - start > block else ()
    return tuple(pairwise((start, *edges, end)))

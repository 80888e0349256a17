"""Pixel rectangles and the grid of blocks: integers only.

A raster is cut into blocks whose corners lie on one global lattice (multiples of ``stride``), because the network is
shift-equivariant only modulo its stride (Majurski & Bajcsy 2021, 10.6028/jres.126.009). Windows around blocks grow by a
halo and are clipped to the canvas, the raster padded at its right and bottom to whole strides: they are never pulled
back, so a window's origin never leaves the lattice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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

    ``block`` and ``halo`` are multiples of ``stride``, so every window starts on the lattice.
    """

    height: int
    width: int
    block: int
    halo: int
    stride: int = 32

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
        return Box(0, 0, self.height, self.width)

    @property
    def canvas(self) -> Box:
        """The raster padded at its right and bottom to whole strides."""
        return self.raster.align(self.stride)

    @property
    def rows(self) -> int:
        return -(-self.height // self.block)

    @property
    def cols(self) -> int:
        return -(-self.width // self.block)

    def __len__(self) -> int:
        return self.rows * self.cols

    def __iter__(self) -> Iterator[Box]:
        return (self.core(index) for index in range(len(self)))

    def core(self, index: int) -> Box:
        """Block ``index`` (row-major): the pixels of the raster that it answers for."""
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        row, col = divmod(index, self.cols)
        top, left = row * self.block, col * self.block
        return Box(top, left, top + self.block, left + self.block) & self.raster

    def window(self, core: Box) -> Box:
        """What is read for ``core``: grown by the halo, on the lattice, clipped to the canvas."""
        return core.align(self.stride).grow(self.halo) & self.canvas

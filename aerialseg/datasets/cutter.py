"""Cutting chips: image and mask of each box of a ground block that has enough labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.datasets.band_image import SUFFIX
from aerialseg.datasets.chipset import Chip
from aerialseg.datasets.ground_blocks import GroundBlock, GroundLattice, cut_blocks
from aerialseg.errors import InputError
from aerialseg.legend import NODATA
from aerialseg.progress import Progress
from aerialseg.raster.bands import RGB
from aerialseg.raster.georef import Bounds
from aerialseg.raster.grid import Box
from aerialseg.raster.image import write_bands, write_png
from aerialseg.raster.labels import Labels
from aerialseg.raster.source import Source
from aerialseg.raster.view import View


@dataclass(frozen=True, slots=True)
class Ground:
    """What is cut: the views and where the labels lie, in the CRS that all views have."""

    views: tuple[View, ...]
    lattice: GroundLattice
    labelled: Bounds


class Cutter:
    """Writes the image and the mask of each chip that has enough labels into a folder; counts the others."""

    def __init__(
        self, labels: Labels, folder: Path, min_labelled: float, classes: int, bands: Sequence[str] = RGB
    ) -> None:
        self.labels, self.folder, self.min_labelled, self.classes = labels, folder, min_labelled, classes
        self.bands, self.left_out = bands, 0

    def cut_all(self, ground: Ground, size: tuple[int, int], listener: Progress) -> list[Chip]:
        """The chips of all orthophotos. Raises InputError where there are none."""
        chips: list[Chip] = []
        places = [cut_blocks(view, ground.lattice, size, ground.labelled) for view in ground.views]
        listener.stage("Cutting chips", sum(len(boxes) for place in places for _, boxes in place))
        for number, view in enumerate(ground.views, start=1):
            with Source(view) as source:
                for block, boxes in cut_blocks(view, ground.lattice, size, ground.labelled):
                    self.labels.gather(view.geo.part(_around(boxes)))
                    for box in boxes:
                        chips += self.cut(source, block, box, number)
                        listener.advance(1)
        if not chips:
            raise InputError(
                f"none of {self.left_out} chips has labels on {self.min_labelled:.0%} of its pixels: give more labels, "
                "smaller chips (--size), or --min-labelled"
            )
        return chips

    def cut(self, source: Source, block: GroundBlock, box: Box, number: int) -> Iterator[Chip]:
        """The chip, unless it has too few labels."""
        geo = source.view.geo.part(box)
        mask = self.labels.burn(geo)
        if self._enough(mask):  # most of a large orthophoto may have no labels, and reading it is what takes time
            pixels, valid = source.read(box)
            mask[~valid] = NODATA
        if not self._enough(mask):
            self.left_out += 1
            return
        frame = f"{block.name}-{number}-y{box.top}x{box.left}"
        if len(self.bands) == len(RGB):
            write_png(self.folder / "images" / f"{frame}.png", pixels)
        else:
            write_bands(self.folder / "images" / f"{frame}{SUFFIX}", pixels, self.bands)
        write_png(self.folder / "masks" / f"{frame}.png", mask)
        counts = np.bincount(mask[mask != NODATA], minlength=self.classes)
        yield Chip(frame, number, block, box, geo.corners, tuple(int(count) for count in counts))

    def _enough(self, mask: NDArray[np.uint8]) -> bool:
        return bool((mask != NODATA).sum() >= max(1, self.min_labelled * mask.size))


def _around(boxes: Sequence[Box]) -> Box:
    return Box(
        min(box.top for box in boxes),
        min(box.left for box in boxes),
        max(box.bottom for box in boxes),
        max(box.right for box in boxes),
    )

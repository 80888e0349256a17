"""Corrections: polygons that a person has checked keep their class on the next map, pixel for pixel.

They are laid over the class raster when blocks are joined: neither the network nor a kept block depends on them.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.legend import NODATA, Legend
from aerialseg.mapping.aoi import on_raster
from aerialseg.mapping.kinds import split_layer
from aerialseg.progress import counted
from aerialseg.raster.blocks import Bands
from aerialseg.raster.checked import open_checked
from aerialseg.raster.feature_opening import is_layer
from aerialseg.raster.grid import Box
from aerialseg.raster.polygon_mask import PolygonMask
from aerialseg.raster.view import View
from aerialseg.vector.regions import Fixed

CERTAIN = 100
"""Confidence, in per cent, of what a person has said."""


@dataclass(frozen=True, slots=True)
class Corrections:
    """Classes with the polygons, on the working grid, that have them; of two at one place the later one counts."""

    names: tuple[str, ...]
    polygons: int
    shapes: tuple[tuple[int, PolygonMask], ...]

    @property
    def digest(self) -> str:
        """Of classes and polygons, in pixels; "" where there are none on the raster."""
        if not self.shapes:
            return ""
        return hashlib.sha256(repr([(one, mask.digest) for one, mask in self.shapes]).encode()).hexdigest()

    @property
    def note(self) -> str:
        """For people."""
        names = ", ".join(self.names)
        if not self.shapes:
            return f"no checked polygon of {names} lies on it"
        verb = "keeps" if self.polygons == 1 else "keep"
        return f"{counted(self.polygons, 'checked polygon')} of {names} {verb} the class"

    def lay_over(self, box: Box, bands: Bands) -> Bands:
        """Both bands of ``box`` with the checked classes where there is any class."""
        classes, confidence = bands
        for number, mask in self._meeting(box):
            inside = mask.burn(box) & (classes != NODATA)
            classes = np.where(inside, np.uint8(number), classes)
            confidence = np.where(inside, np.uint8(CERTAIN), confidence)
        return classes, confidence

    def fixed(self, raster: Box) -> Fixed | None:
        """Which pixels of a box, counted from the corner of ``raster``, keep their class however small a region is."""

        def inside(box: Box) -> NDArray[np.bool_] | None:
            box = box.placed_in(raster)
            masks = [mask.burn(box) for _, mask in self._meeting(box)]
            return np.logical_or.reduce(masks) if masks else None

        return inside if self.shapes else None

    def _meeting(self, box: Box) -> Iterator[tuple[int, PolygonMask]]:
        return ((number, mask) for number, mask in self.shapes if mask.box & box)


def read_corrections(texts: Sequence[str], view: View, raster: Box, legend: Legend) -> Corrections:
    """The checked polygons of the files (FILE or FILE:LAYER) on the raster.

    raster: the box of its pixels, counted from the lattice's origin. Raises InputError.
    """
    found = [_of_file(text, view, raster, legend) for text in texts]
    polygons, shapes = sum(count for count, _ in found), [shape for _, some in found for shape in some]
    return Corrections(tuple(map(printable, texts)), polygons, tuple(shapes))


def _of_file(text: str, view: View, raster: Box, legend: Legend) -> tuple[int, list[tuple[int, PolygonMask]]]:
    path, layer = split_layer(text)
    name = printable(path)
    if not is_layer(path):
        raise InputError(f"--corrections {name} is no file of polygons: wanted a layer 'landcover' that was corrected")
    file, classes = open_checked(Path(path), layer or None, legend)
    places, geometries = on_raster(file, view, f"the corrections {name}")
    numbers = classes[places]
    shapes = []
    for number in np.unique(numbers[(numbers != NODATA) & ~shapely.is_empty(geometries)]).tolist():
        mask = PolygonMask.on(name, geometries[numbers == number], view.geo, raster)
        if mask is not None:
            shapes.append((number, mask))
    _check_alone(shapes, view, raster, legend)
    return int(np.isin(numbers, [number for number, _ in shapes]).sum()), shapes


def _check_alone(shapes: Sequence[tuple[int, PolygonMask]], view: View, raster: Box, legend: Legend) -> None:
    """Raise InputError where a pixel lies in checked polygons of two classes."""
    for (one, first), (other, second) in itertools.combinations(shapes, 2):
        both = first.shared(second)
        inside = both.burn(both.box) if both else np.zeros((1, 1), bool)
        if both and inside.any():
            row, col = np.argwhere(inside)[0] + (both.box.top - raster.top, both.box.left - raster.left)
            x, y = view.geo.at(col + 0.5, row + 0.5)
            raise InputError(
                f"{first.name}: checked polygons of {legend[one].spoken} and {legend[other].spoken} overlap on "
                f"{int(inside.sum()):,} px, such as at {x:.10g}, {y:.10g}: correct or untick one of them"
            )

"""Which pixels of a working grid have their centres inside polygons: an area of interest, or what a person checked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from aerialseg.legend import NODATA
from aerialseg.raster.blocks import Bands
from aerialseg.raster.features import Geometries
from aerialseg.raster.georef import GeoGrid
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import without_georef_warnings

GRID_PX = 2.0**-16
"""Corners lie on multiples of this: what a transform's digits lose never decides on which side of an edge a centre
lies."""
_POLYGON = 3


@dataclass(frozen=True, slots=True)
class PolygonMask:
    """Polygons on a raster. ``shape``: in pixels (column, row), counted from the lattice's origin. ``name`` for people.

    ``box``: the pixels that may have their centres inside.
    """

    name: str
    shape: Any
    box: Box

    @classmethod
    def on(cls, name: str, geometries: Geometries, geo: GeoGrid, raster: Box) -> PolygonMask | None:
        """The polygons, in the CRS of ``geo``, on the raster of this grid; None where none of its pixels is inside.

        raster: the box of its pixels, counted from the lattice's origin.
        """

        def to_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            col, row = geo.to_pixels(xy[:, 0], xy[:, 1])
            return np.stack([col + raster.left, row + raster.top], axis=1)

        moved = shapely.make_valid(shapely.transform(geometries, to_pixels))
        whole = shapely.union_all(moved, grid_size=GRID_PX)
        return cls._of(name, _polygons(shapely.intersection(whole, _rectangle(raster), grid_size=GRID_PX)))

    @classmethod
    def _of(cls, name: str, shape: Any) -> PolygonMask | None:
        if shape.is_empty:
            return None
        left, top, right, bottom = shape.bounds
        # Of centres on an edge, `burn` takes those on the upper and on the right one.
        box = Box(
            math.ceil(top - 0.5), math.floor(left - 0.5) + 1, math.ceil(bottom - 0.5), math.floor(right - 0.5) + 1
        )
        if not box:
            return None
        shapely.prepare(shape)
        return cls(name, shape, box)

    @property
    def digest(self) -> str:
        """Of the polygons, in pixels."""
        return hashlib.sha256(shapely.to_wkb(self.shape)).hexdigest()

    @property
    def area_px(self) -> int:
        """About how many pixels are inside."""
        return round(float(self.shape.area))

    def meeting(self, boxes: Sequence[Box]) -> list[int]:
        """Which of the boxes, by their numbers, meet the polygons."""
        rectangles = np.array([_rectangle(box) for box in boxes])
        return np.flatnonzero(shapely.intersects(self.shape, rectangles)).tolist()

    def shared(self, other: PolygonMask) -> PolygonMask | None:
        """Where both are; None where no pixel has its centre in both."""
        shape = _polygons(shapely.intersection(self.shape, other.shape, grid_size=GRID_PX))
        return self._of(self.name, shape)

    def cut(self, box: Box, bands: Bands) -> Bands:
        """Both bands of ``box`` with nodata (255) outside of the polygons."""
        if shapely.covers(self.shape, _rectangle(box)):
            return bands
        inside, (classes, confidence) = self.burn(box), bands
        return np.where(inside, classes, np.uint8(NODATA)), np.where(inside, confidence, np.uint8(NODATA))

    def burn(self, box: Box) -> NDArray[np.bool_]:
        """Where centres are inside. Of one that lies on a slanted edge, to the last digit, rounding decides."""
        around = box.grow(1)
        near = _polygons(shapely.clip_by_rect(self.shape, around.left, around.top, around.right, around.bottom))
        if near.is_empty:
            return np.zeros(box.shape, np.bool_)
        local = shapely.transform(near, lambda xy: xy - (box.left, box.top))
        with without_georef_warnings():  # other threads have Python's filters, too
            inside: NDArray[np.bool_] = rasterize([local], box.shape, dtype=np.uint8) == 1
        return inside


def _polygons(shape: Any) -> Any:
    """Those of a geometry's parts that have an area."""
    parts = shapely.get_parts(shape)
    return shapely.multipolygons(parts[shapely.get_type_id(parts) == _POLYGON])


def _rectangle(box: Box) -> Any:
    return shapely.box(box.left, box.top, box.right, box.bottom)

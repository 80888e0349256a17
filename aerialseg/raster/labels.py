"""Labels onto pixels: polygons burned, class rasters warped, into ids of one legend on any grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.legend import MAX_ID, NO_CLASS, NODATA, Legend
from aerialseg.raster.bounds import check_comparable, overlap, reproject_bounds, same_crs
from aerialseg.raster.class_fields import check_class_fields
from aerialseg.raster.classes import ClassFile, ClassIds
from aerialseg.raster.feature_opening import ENDINGS, is_layer
from aerialseg.raster.features import FeatureFile, Geometries, open_features, polygonal
from aerialseg.raster.georef import Bounds, GeoGrid
from aerialseg.raster.opening import without_georef_warnings
from aerialseg.raster.palette import read_palette

Ids = NDArray[np.uint8]

_UNKNOWN = -1
_SPARE = 0.02
"""Polygons are cut a little outside of the ground that is asked for, so that no cut edge is ever burned."""
_PIECES = 32
"""Lines are straight in their own CRS: pieces of this part of the ground's side are, to a pixel, in any other one."""
_MOST_SIDES = 10_000
"""How long an outline may be, in sides of the ground, that cannot be cut first."""


class Labels(Protocol):
    """Class ids wherever they are asked for. ``path`` and ``crs`` as in the file; ``bounds`` in that CRS.

    ``ignored``: pixels that were met of each class that the legend does not know, where that is allowed.
    """

    path: Path
    crs: str | None
    bounds: Bounds
    ignored: Counter[str]

    def close(self) -> None:
        """Let go of the file."""

    def gather(self, geo: GeoGrid) -> None:
        """Fetch at once what several grids inside this one will ask for."""

    def burn(self, geo: GeoGrid) -> Ids:
        """Class ids, uint8 (h, w), on the pixels of ``geo``, 255 where there is no label. Raises InputError."""


class Known:
    """What a label means: its name or its id in ``legend``. Without a legend, ids are taken as they are.

    numbered: labels become their class's place in the legend (0, 1, 2 ...) instead of its id.
    """

    def __init__(self, legend: Legend | None, *, ignore_unknown: bool = False, numbered: bool = False) -> None:
        self.legend, self.ignore_unknown = legend, ignore_unknown
        entries = [] if legend is None else [(n if numbered else c.id, c) for n, c in enumerate(legend)]
        entries = [(number, entry) for number, entry in entries if number < NODATA]
        self.numbers = {entry.id: number for number, entry in entries} or {number: number for number in range(NODATA)}
        # Maps show titles; a name counts before another class's title.
        titles = {entry.title.strip(): number for number, entry in entries if entry.title}
        self.by_name = titles | {entry.name.strip(): number for number, entry in entries}

    def of(self, value: Any) -> int | None:
        """The number of a class by its name or id; None for one that is unknown."""
        if isinstance(value, str):
            text = value.strip()
            if text in self.by_name:
                return self.by_name[text]
            value = int(text) if text.isdecimal() else None
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
            return None
        return self.numbers.get(int(value)) if value == value // 1 else None

    @property
    def text(self) -> str:
        """What there is, in words."""
        if self.legend is None:
            return "ids 0 to 254, for the map's classes have no names (a legend gives them)"
        return ", ".join(f"{entry.id} {entry.spoken}" for entry in self.legend)


def open_labels(
    path: str | Path,
    legend: Legend | None,
    *,
    field: str = "class",
    layer: str | None = None,
    by_name: bool = False,
    ignore_unknown: bool = False,
    numbered: bool = False,
) -> Labels:
    """Labels of a class raster (.tif) or of polygons (the other endings), as ids of ``legend``.

    field, layer: of polygons; the field holds names or ids of the legend. by_name: values of a raster that has names
    are told by these; otherwise they are ids. numbered: as places in the legend, not as its ids. Raises InputError
    where the file cannot be used and where a class is not in the legend (unless ``ignore_unknown``): of polygons at
    once, of a raster when it is met.
    """
    known = Known(legend, ignore_unknown=ignore_unknown, numbered=numbered)
    if is_layer(path):
        check_class_fields(path, field, layer)
        return PolygonLabels(open_features(path, field, layer), known)
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{printable(path)}: wanted polygons ({', '.join(ENDINGS)}) or a class raster (.tif)")
    if layer is not None:
        raise UsageError(
            f"--layer {layer!r} with {printable(path)}: only files of polygons ({', '.join(ENDINGS)}) have layers"
        )
    return RasterLabels(ClassFile(path), known, read_palette(path).names if by_name and legend else {})


class RasterLabels:
    """Labels of a class raster of any grid and CRS: the nearest pixel counts."""

    def __init__(self, file: ClassFile, known: Known, names: Mapping[int, str]) -> None:
        self.file, self.known, self.names = file, known, names
        self.path, self.crs, self.bounds = file.path, file.geo.crs, file.geo.bounds
        self.ignored: Counter[str] = Counter()
        found = {value: known.of(names.get(value, value)) for value in {*names, *known.numbers}}
        self._ids = np.full(MAX_ID + 2, _UNKNOWN, np.int16)
        self._ids[NO_CLASS] = NODATA  # the last place, beyond all ids
        for value, class_id in found.items():
            self._ids[value] = _UNKNOWN if class_id is None else class_id

    def close(self) -> None:
        self.file.close()

    def gather(self, geo: GeoGrid) -> None:
        check_comparable(self.path, self.crs, "the raster", geo.crs)

    def burn(self, geo: GeoGrid) -> Ids:
        self.gather(geo)
        there = reproject_bounds(geo.bounds, geo.crs, self.crs)
        if there is None or not overlap(there, self.bounds):
            return np.full(geo.shape, NODATA, np.uint8)
        return self._told(self.file.warp(geo))

    def _told(self, values: ClassIds) -> Ids:
        ids = self._ids[values]
        unknown = ids == _UNKNOWN
        if unknown.any():
            self._meet(values[unknown])
        return np.where(unknown, NODATA, ids).astype(np.uint8)

    def _meet(self, values: ClassIds) -> None:
        for value, count in zip(*np.unique(values, return_counts=True), strict=True):
            name = self.names.get(int(value), "")
            called = f"{value} {name}".strip()
            if not self.known.ignore_unknown:
                raise InputError(
                    f"{printable(self.path)} has the class {called!r}, which the legend does not know; it knows: "
                    f"{self.known.text}"
                )
            self.ignored[called] += int(count)


class PolygonLabels:
    """Labels of polygons. A pixel has the class of the polygon its centre lies in; of several, the last in the file."""

    def __init__(self, file: FeatureFile, known: Known) -> None:
        self.file = file
        self.path, self.crs, self.bounds = file.path, file.crs, file.bounds
        self.ignored: Counter[str] = Counter()
        self._names: dict[int, str] = {}
        self._ids = self._told(known)
        self._geo: GeoGrid | None = None
        self._near: tuple[NDArray[np.int16], Geometries] = np.zeros(0, np.int16), np.zeros(0, np.object_)

    def _told(self, known: Known) -> NDArray[np.int16]:
        """The class of each feature; 255 for one without a value. A value that is unknown gets a number below 0."""
        ids = np.empty(len(self.file.values), np.int16)
        met: dict[Any, int] = {}
        for at, value in enumerate(self.file.values):
            value = str(value) if isinstance(value, (list, np.ndarray)) else value  # a list of GeoJSON's
            if value not in met:
                met[value] = self._tell(known, value, int(self.file.fids[at]), -1 - len(met))
            ids[at] = met[value]
        return ids

    def _tell(self, known: Known, value: Any, fid: int, number: int) -> int:
        if value is None or value != value or (isinstance(value, str) and not value.strip()):
            return NODATA
        class_id = known.of(value)
        if class_id is not None:
            return class_id
        if not known.ignore_unknown:
            raise InputError(
                f"{printable(self.path)}: {self.file.field} is {str(value)[:100]!r} in feature {fid}, which the legend "
                f"does not know; it knows: {known.text}"
            )
        self._names[number] = str(value)[:100]
        return number

    def close(self) -> None:
        pass

    def gather(self, geo: GeoGrid) -> None:
        check_comparable(self.path, self.crs, "the raster", geo.crs)
        self._geo, self._near = geo, (np.zeros(0, np.int16), np.zeros(0, np.object_))
        there = reproject_bounds(widen(geo.bounds), geo.crs, self.crs)
        if there is None:
            return
        found, geometries = self.file.near(there)
        ids = self._ids[found]
        use = polygonal(geometries) & (ids != NODATA)
        self._check_reach(found[use], geometries[use], max(there[2] - there[0], there[3] - there[1]))
        self._near = ids[use], bring(geometries[use], there, self.crs, geo.crs)

    def _check_reach(self, places: NDArray[np.int64], geometries: Geometries, side: float) -> None:
        """Refuse lines that never end: those of valid polygons are cut, and all are divided into short pieces."""
        for at in places[~(shapely.length(geometries) < _MOST_SIDES * side) & ~shapely.is_valid(geometries)]:
            raise InputError(
                f"{printable(self.path)}: feature {self.file.fids[at]} is no valid polygon and reaches to coordinates "
                "far from the raster: repair or delete it"
            )

    def burn(self, geo: GeoGrid) -> Ids:
        if self._geo is None or not _within(geo, self._geo):
            self.gather(geo)
        ids, geometries = self._near
        if len(geometries):
            geometries, ids = _met(geometries, ids, geo.bounds)
        if not len(geometries):
            return np.full(geo.shape, NODATA, np.uint8)
        with without_georef_warnings():
            burned = rasterize(
                zip(geometries, ids.astype(int).tolist(), strict=True),
                out_shape=geo.shape,
                transform=geo.affine,
                fill=NODATA,
                dtype="int16",
            )
        for number, count in zip(*np.unique(burned[burned < 0], return_counts=True), strict=True):
            self.ignored[self._names[int(number)]] += int(count)
        return np.where(burned < 0, NODATA, burned).astype(np.uint8)


def _met(geometries: Geometries, ids: NDArray[np.int16], bounds: Bounds) -> tuple[Geometries, NDArray[np.int16]]:
    left, bottom, right, top = shapely.bounds(geometries).T
    use = (left <= bounds[2]) & (right >= bounds[0]) & (bottom <= bounds[3]) & (top >= bounds[1])
    return geometries[use], ids[use]


def bring(
    geometries: Geometries, there: Bounds, crs: str | None, target: str | None, pieces: int = _PIECES
) -> Geometries:
    """Geometries cut to ``there``, which is in their CRS, and brought into the other one.

    A polygon of a whole country is as good as its part here, and its long lines are straight in its own CRS only: they
    are moved in pieces of that part of the ground's side.
    """
    whole = shapely.is_valid(geometries)  # of others, cutting may lose a part
    geometries = geometries.copy()
    geometries[whole] = shapely.clip_by_rect(geometries[whole], *there)
    geometries[~polygonal(geometries)] = shapely.Polygon()
    if same_crs(crs, target):
        return geometries
    side = max(there[2] - there[0], there[3] - there[1])
    change = pyproj.Transformer.from_crs(crs, target, always_xy=True)
    lines = shapely.segmentize(geometries, side / pieces)
    moved: Geometries = shapely.transform(lines, lambda xy: np.stack(change.transform(xy[:, 0], xy[:, 1]), axis=1))
    return moved


def widen(bounds: Bounds) -> Bounds:
    """Bounds a little larger on all sides."""
    left, bottom, right, top = bounds
    x, y = (right - left) * _SPARE, (top - bottom) * _SPARE
    return left - x, bottom - y, right + x, top + y


def _within(geo: GeoGrid, other: GeoGrid) -> bool:
    if geo.crs != other.crs:
        return False
    mine, its = geo.bounds, other.bounds
    return mine[0] >= its[0] and mine[1] >= its[1] and mine[2] <= its[2] and mine[3] <= its[3]

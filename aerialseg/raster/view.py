"""How rasters are read for a model: which bands, at which ground sampling distance. Decided once, as data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import UsageError
from aerialseg.files import printable
from aerialseg.raster.bounds import name_of_crs
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.georef import GeoGrid, Georeferenced
from aerialseg.raster.grid import MAX_PIXELS, Box
from aerialseg.raster.joining import Joined, Refusal, join
from aerialseg.raster.lattice import Layout, SourceSheet, find_lattices, lay_out, with_aligned
from aerialseg.raster.piece import Colour, Piece, Reading, edges_of
from aerialseg.raster.warp import missing_grid, warp_onto
from aerialseg.raster.working_grid import AGREES, Resolution, check_scale, check_size, mismatch, working_grid

WIDE = 8192
"""Compressed strips wider than this are decoded again for each of many blocks."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class View(Georeferenced):
    """How rasters are read as one. ``geo`` and ``gsd_m`` are those of the working grid.

    The transform of a raster that stores none is the one that QGIS draws it by (see RasterInfo).

    ``top`` and ``left`` are row and column of the working grid's first pixel, counted from the lattice's origin.
    Where ``pieces`` overlap, the first one that is valid counts, pixel by pixel. ``note`` is one sentence for the user;
    ``refused`` are rasters that cannot be used, with the reason. ``collar``: colours that stand for nodata where they
    touch the outside, which ``collar_mask`` says, the path of a raster on the working grid (see `raster.collar`).
    """

    pieces: tuple[Piece, ...]
    sheets: tuple[SourceSheet, ...]
    top: int
    left: int
    gsd_m: tuple[float, float] | None
    note: str
    refused: tuple[Refusal, ...] = ()
    collar: tuple[Colour, ...] = ()
    collar_mask: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        return self.geo.shape

    def content(self) -> list[Any]:
        """JSON-ready: all that decides the pixels. Runs count from 0, whatever others there are."""
        runs = {run: number for number, run in enumerate(sorted({piece.run for piece in self.pieces}))}
        sheets = [[astuple(sheet.rows), astuple(sheet.cols)] for sheet in self.sheets]
        return [[*piece.content(), sheets[piece.sheet], runs[piece.run]] for piece in self.pieces]

    def meeting(self, box: Box) -> NDArray[np.intp]:
        """Which pieces (their numbers) a box, counted from the lattice's origin, is made of."""
        windows = np.array([astuple(sheet.window(box)) for sheet in self.sheets])
        top, left, bottom, right = windows[self._sheet_numbers].T
        edges = self._edges
        meets = (edges[0] < bottom) & (edges[1] < right) & (edges[2] > top) & (edges[3] > left)
        return np.flatnonzero(meets)

    def part(self, box: Box) -> View:
        """The view with the pieces alone that a box, counted from the lattice's origin, is made of: one at least."""
        if len(self.pieces) == 1:
            return self
        return replace(self, pieces=tuple(self.pieces[index] for index in self.meeting(box)) or self.pieces[:1])

    @cached_property
    def _edges(self) -> NDArray[np.int64]:
        return edges_of(self.pieces)

    @cached_property
    def _sheet_numbers(self) -> NDArray[np.intp]:
        return np.array([piece.sheet for piece in self.pieces])

    def local(self, box: Box) -> Box:
        """A box counted from the lattice's origin, in working pixels: counted from the first of these."""
        return box.relative_to(Box(self.top, self.left, self.top, self.left))

    @property
    def bands(self) -> tuple[int, ...]:
        """Those of the first piece; others may have them elsewhere."""
        return self.pieces[0].bands

    @property
    def resampled(self) -> bool:
        return not all(sheet.aligned for sheet in self.sheets)

    @property
    def always_valid(self) -> bool:
        """Whether every pixel that can be read is valid: one raster of the whole grid that says nothing of nodata."""
        first = self.pieces[0]
        covered = self.sheets[first.sheet].covered(first.box)
        plain = len(self.pieces) == 1 and first.always_valid and not self.collar
        return plain and self.local(covered) == Box(0, 0, *self.shape)

    @property
    def ratio(self) -> tuple[float, float]:
        """(rows, columns) of source pixels per working pixel."""
        sheet = self.sheets[self.pieces[0].sheet]
        return sheet.rows.unit / sheet.rows.pixel, sheet.cols.unit / sheet.cols.pixel


def make_view(
    info: RasterInfo | Sequence[RasterInfo],
    *,
    model_gsd_m: float | None,
    resolution_m: Resolution = None,
    pixel_size_m: float | None = None,
    max_pixels: int = MAX_PIXELS,
    require_crs: bool = False,
    reproject: bool = False,
    **reading: Any,
) -> View:
    """How rasters are read, as one, for a model of ``model_gsd_m`` metres a pixel that wants the bands ``wanted``.

    ``bands`` are those, in that order; None takes what the file says of its bands. ``alpha`` "none": a band that is
    flagged alpha is no mask. ``scale``: the values that become 0 and 255, of all bands or of each in turn;
    ``usual_scale``: those of rasters that are not 8 bit, where ``scale`` is None.

    ``resolution_m``, that of the working grid, is None (resample to the model's where they differ by more than 10 %),
    "native" (never resample), or metres per pixel. ``pixel_size_m``: metres per pixel of a raster that does not know
    its own. ``reproject``: rasters of another CRS than most are resampled onto the grid of these. Raises InputError
    when bands, type, ground sampling distance, georeference or size do not fit, UsageError when ``resolution_m``,
    ``pixel_size_m`` or ``scale`` make no sense for any raster.
    """
    want = Reading(**reading)
    given = [info] if isinstance(info, RasterInfo) else info
    joined = join(given, want, require_crs=require_crs, reproject=reproject)
    infos = joined.straight
    placed = infos[0].geo.crs is not None and infos[0].georeferenced
    crs = infos[0].geo.crs if placed else None
    geos = [one.geo if one.geo.crs == crs else replace(one.geo, crs=crs) for one in infos]
    lattices = find_lattices(geos)
    main = _measured(infos[lattices.first], geos)
    wrong = [colour for colour, _ in want.collar if len(colour) != len(want.wanted)]
    if wrong:
        raise UsageError(
            f"--nodata-colour {','.join(map(str, wrong[0]))}: wanted {len(want.wanted)} values, one a band"
        )
    scale = check_scale(resolution_m, pixel_size_m)
    grid = working_grid(main, model_gsd_m, *scale)
    layout, pieces = _laid_out(joined, lay_out(geos, lattices, grid.pixel))
    check_size(main, layout.geo.shape, max_pixels)
    note = grid.note + (mismatch(grid.gsd_m, model_gsd_m) if resolution_m is not None else "") + joined.note
    if not placed:
        unit = "" if grid.gsd_m else "lengths and areas are in pixels (px, px²); "
        note = f"{_unplaced(main, scale[1])}; {unit}{note}"
    _warn(main, note if grid.gsd_m is None or not placed else "")
    return View(
        path=main.path,
        geo=layout.geo,
        pieces=pieces,
        sheets=layout.sheets,
        top=layout.box.top,
        left=layout.box.left,
        gsd_m=grid.gsd_m,
        note=note if len(pieces) == 1 else f"{_spoken_mosaic(layout, joined)}; {note}",
        refused=joined.refused,
        collar=want.collar,
    )


def _unplaced(main: RasterInfo, pixel_size_m: float | None) -> str:
    """What a raster lacks that is not placed on the ground, and where --pixel-size and its coordinates differ."""
    if not main.georeferenced:
        return "no georeference"
    said, units = "", main.geo.resolution
    if pixel_size_m and max(abs(pixel_size_m / unit - 1) for unit in units) > AGREES:
        said = f"; coordinates count {units[0]:g} units per pixel, lengths and areas {pixel_size_m:g} m (--pixel-size)"
    return f"no coordinate system (--crs EPSG:CODE names it){said}"


def _laid_out(joined: Joined, layout: Layout) -> tuple[Layout, tuple[Piece, ...]]:
    """The layout with those rasters too that are reprojected onto its grid, and the pieces in their places."""
    infos = {number: joined.infos[number] for number in joined.reprojected}
    warps = {number: warp_onto(layout, info.geo, info.path) for number, info in infos.items()}
    if warps:
        layout = with_aligned(layout, {number: box for number, (_, box) in warps.items()})
    placed = []
    for number, (piece, (sheet, box), run) in enumerate(zip(joined.pieces, layout.places, layout.runs, strict=True)):
        if number in warps:
            piece = replace(piece, shape=box.shape, warp=warps[number][0], slow=True)
        placed.append(replace(piece, sheet=sheet, top=box.top, left=box.left, run=run))
    return layout, tuple(placed)


def _spoken_mosaic(layout: Layout, joined: Joined) -> str:
    warped = len(joined.reprojected)
    off = sum(not layout.sheets[sheet].aligned for sheet, _ in layout.places)
    some = f", {off:,} of them resampled onto the grid of the others" if 0 < off < len(layout.places) - warped else ""
    if warped:
        ways = {joined.infos[number].geo.crs for number in joined.reprojected}
        names = sorted({name_of_crs(crs) for crs in ways})
        some += f", {warped:,} of them reprojected from {', '.join(names)}"
        some += "".join(f"; {note}" for crs in sorted(map(str, ways)) if (note := missing_grid(crs, layout.geo.crs)))
    return f"{len(layout.places):,} rasters as one{some}"


def _measured(main: RasterInfo, geos: Sequence[GeoGrid]) -> RasterInfo:
    """The raster with the ground size that its pixels have in the middle of all: cut or uncut, it is the same there."""
    if len(geos) == 1 or main.gsd_m is None:
        return main
    boxes = [geo.bounds for geo in geos]
    left, top = min(box[0] for box in boxes), max(box[3] for box in boxes)
    right, bottom = max(box[2] for box in boxes), min(box[1] for box in boxes)
    col, row = main.geo.to_pixels(left, top)
    end_col, end_row = main.geo.to_pixels(right, bottom)
    whole = main.geo.part(Box(round(row), round(col), round(end_row), round(end_col)))
    return replace(main, gsd_m=whole.pixel_size_m or main.gsd_m)


def _warn(info: RasterInfo, note: str) -> None:
    if note:
        logger.warning("%s: %s", printable(info.path), note)
    if info.block_shape[1] >= info.geo.width > WIDE and info.compression != "none":
        logger.warning(
            "%s is stored in strips: gdal_translate -co TILED=YES would make reading it faster", printable(info.path)
        )

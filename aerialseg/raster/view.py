"""How rasters are read for a model: which bands, at which ground sampling distance. Decided once, as data."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError, UsageError
from aerialseg.files import printable
from aerialseg.raster.bounds import name_of_crs, same_crs
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.georef import Georeferenced
from aerialseg.raster.grid import MAX_PIXELS, Box
from aerialseg.raster.lattice import SourceSheet, is_anchored, lay_out, working_pixel

MAX_SHRINK = 1000
"""Source pixels along each axis that may make one working pixel."""
WIDE = 8192
"""Compressed strips wider than this are decoded again for each of many blocks."""
GSD_TOLERANCE = 0.10
"""Imagery whose pixels are this much larger or smaller than the model's is read as it is."""
MAX_COARSER = 4.0
"""Imagery this many times coarser than the model's shows nothing that the model knows."""

SAME_PIXEL = 1e-6
"""Pixels that differ by less are the same: what a transform's digits lose."""

REFUSALS_SAID = 5

OnReadError = Literal["fail", "nodata"]
Colour = tuple[tuple[int, ...], int]
"""A value for each band, and by how much a pixel may be off in any of them."""
Refusal = tuple[str, str]
"""Path of a raster, and why it cannot be used."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a view: how its own pixels are read, and where they lie.

    ``bands`` and ``alpha`` count from 1; ``alpha`` is 0 where there is none. ``nodata``, ``alpha`` and
    ``internal_mask`` say what makes a pixel invalid: a pixel is valid unless *all* used bands are nodata, its alpha or
    mask is 0 (as in GDAL's dataset mask), or any used band is NaN or infinite. ``top`` and
    ``left``: of its first pixel on the sheet of that number. ``run``: pieces of one run are joined before they are
    resampled. ``digest``: RasterInfo's. ``slow``: a window costs much more than its share of the whole, as in all
    formats but GeoTIFF.
    """

    path: str
    shape: tuple[int, int]
    bands: tuple[int, ...]
    digest: str = ""
    sheet: int = 0
    top: int = 0
    left: int = 0
    run: int = 0
    scale: tuple[float, float] | None = None
    on_read_error: OnReadError = "fail"
    nodata: float | None = None
    alpha: int = 0
    internal_mask: bool = False
    slow: bool = False

    @property
    def box(self) -> Box:
        """Its pixels on its sheet."""
        return Box(self.top, self.left, self.top + self.shape[0], self.left + self.shape[1])

    def content(self) -> list[Any]:
        """JSON-ready: what decides its pixels, wherever the file is."""
        how = self.bands, self.scale, self.nodata, self.alpha, self.internal_mask
        return [self.digest, self.shape, self.top, self.left, *how]

    @property
    def always_valid(self) -> bool:
        """Whether every pixel that can be read is valid, whatever it holds."""
        return self.nodata is None and not self.alpha and not self.internal_mask and self.scale is None


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
        runs = {run: number for number, run in enumerate(dict.fromkeys(piece.run for piece in self.pieces))}
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
        return np.array([astuple(piece.box) for piece in self.pieces]).T

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


@dataclass(frozen=True, slots=True)
class Reading:
    """What is wanted of rasters: see `make_view`."""

    wanted: Sequence[str] = ("red", "green", "blue")
    bands: Sequence[int] | None = None
    alpha: Literal["auto", "none"] = "auto"
    scale: tuple[float, float] | None = None
    on_read_error: OnReadError = "fail"
    collar: tuple[Colour, ...] = ()


def make_view(
    info: RasterInfo | Sequence[RasterInfo],
    *,
    model_gsd_m: float | None,
    gsd: float | Literal["native"] | None = None,
    max_pixels: int = MAX_PIXELS,
    require_crs: bool = False,
    **reading: Any,
) -> View:
    """How rasters are read, as one, for a model of ``model_gsd_m`` metres a pixel that wants the bands ``wanted``.

    ``bands`` are those, in that order; None takes what the file says of its bands. ``alpha`` "none": a band that is
    flagged alpha is no mask. ``scale``: the values that become 0 and 255.

    ``gsd`` is None (resample to the model's where they differ by more than 10 %), "native" (never resample), or
    metres: the working resolution where the raster has a coordinate system, the size of its own pixel where it has
    none. Raises InputError when bands, type, ground sampling distance, georeference or size do not fit, UsageError
    when ``gsd`` or ``scale`` make no sense for any raster.
    """
    want = Reading(**reading)
    infos, pieces, note, refused = _usable([info] if isinstance(info, RasterInfo) else info, want, require_crs)
    main = infos[0]
    wrong = [colour for colour, _ in want.collar if len(colour) != len(want.wanted)]
    if wrong:
        raise UsageError(
            f"--nodata-colour {','.join(map(str, wrong[0]))}: wanted {len(want.wanted)} values, one a band"
        )
    placed = main.geo.crs is not None and main.georeferenced
    grid = _working_grid(main, model_gsd_m, _parse_gsd(gsd))
    geos = [replace(one.geo, crs=main.geo.crs if placed else None) for one in infos]
    layout = lay_out(geos, grid.pixel)
    check_size(main, layout.geo.shape, max_pixels)
    note = grid.note + (_mismatch(grid.gsd_m, model_gsd_m) if gsd is not None else "") + note
    if not placed:
        unit = "" if grid.gsd_m else "lengths and areas are in pixels (px, px²); "
        note = f"no {'coordinate system' if main.georeferenced else 'georeference'}; {unit}{note}"
    _warn(main, note if grid.gsd_m is None or not placed else "")
    sheets = [sheet for sheet, _ in layout.places]
    runs = accumulate((one != other for one, other in pairwise(sheets)), initial=0)
    places = zip(pieces, layout.places, runs, strict=True)
    return View(
        path=main.path,
        geo=layout.geo,
        pieces=tuple(
            replace(one, sheet=sheet, top=box.top, left=box.left, run=run) for one, (sheet, box), run in places
        ),
        sheets=layout.sheets,
        top=layout.box.top,
        left=layout.box.left,
        gsd_m=grid.gsd_m,
        note=note if len(pieces) == 1 else f"{len(pieces):,} rasters as one; {note}",
        refused=refused,
        collar=want.collar,
    )


def _usable(
    infos: Sequence[RasterInfo], want: Reading, require_crs: bool
) -> tuple[list[RasterInfo], list[Piece], str, tuple[Refusal, ...]]:
    """Those that can be read as one, their pieces without places, what is to be said of bands, and the others."""
    several = len(infos) > 1
    crs, _ = (
        Counter(info.geo.crs for info in infos if is_anchored(info.geo) or not several).most_common(1)[0]
        if infos
        else (None, 0)
    )
    found: list[tuple[RasterInfo, Piece, str]] = []
    refused: list[Refusal] = []
    for info in infos:
        try:
            if several:
                info = _beside(info, crs, found[0][0] if found else info)
            found.append((info, *_piece(info, want, require_crs=require_crs)))
        except InputError as error:
            if not several:
                raise
            refused.append((info.path, str(error)))
    check_refused(refused, len(infos), want.on_read_error)
    used, pieces, notes = zip(*found, strict=True)
    return list(used), list(pieces), notes[0], tuple(refused)


def _beside(info: RasterInfo, crs: str | None, first: RasterInfo) -> RasterInfo:
    """The raster as one of a mosaic in the CRS. Raises InputError where it cannot be one."""
    if not (info.georeferenced and is_anchored(info.geo)):
        raise InputError(
            f"{printable(info.path)} has no coordinate system, or north is not up: only rasters that have one and lie "
            "straight can be joined; warp it first: gdalwarp -r bilinear -dstalpha IN.tif OUT.tif"
        )
    if not same_crs(info.geo.crs, crs):
        raise InputError(
            f"{printable(info.path)} has another coordinate system ({name_of_crs(info.geo.crs)}) than most "
            f"({name_of_crs(crs)}): warp it first: gdalwarp -t_srs EPSG:CODE -r bilinear -dstalpha IN.tif OUT.tif"
        )
    info = replace(info, geo=replace(info.geo, crs=crs))
    times = max(new / old for new, old in zip(info.geo.resolution, first.geo.resolution, strict=True))
    if not 1 / MAX_COARSER <= times <= MAX_COARSER:
        raise InputError(
            f"{printable(info.path)} has pixels {times:.3g} times as large as those of {printable(first.path)}: up to "
            f"{MAX_COARSER:.0f} times can be joined"
        )
    return info


def check_refused(refused: Sequence[Refusal], count: int, on_read_error: OnReadError) -> None:
    """Raise InputError where some of ``count`` rasters cannot be used and that was not allowed, or none can."""
    if not refused or (on_read_error == "nodata" and len(refused) < count):
        return
    said = "; ".join(reason for _, reason in refused[:REFUSALS_SAID])
    more = f"; and {len(refused) - REFUSALS_SAID:,} more" if len(refused) > REFUSALS_SAID else ""
    raise InputError(
        f"{len(refused):,} of {count:,} rasters cannot be used: {said}{more}. Mend them, or leave them out, or go on "
        "without them: --on-read-error nodata"
    )


def _piece(info: RasterInfo, want: Reading, *, require_crs: bool) -> tuple[Piece, str]:
    """The piece, without its place, and what is to be said of its bands."""
    placed = info.geo.crs is not None and info.georeferenced
    if require_crs and not placed:
        what, how = (
            ("coordinate system (CRS)", "-a_srs EPSG:CODE")
            if info.georeferenced
            else ("transform from pixels to the ground", "-a_srs EPSG:CODE -a_ullr ULX ULY LRX LRY")
        )
        raise InputError(f"{printable(info.path)} has no {what}; add it: gdal_edit.py {how}")
    no_alpha, bands, note = want.alpha == "none", want.bands, ""
    used = _pick_bands(info, want.wanted, no_alpha) if bands is None else _check_bands(info, want.wanted, bands)
    flagged = info.color.index("alpha") + 1 if "alpha" in info.color else 0
    masked = flagged if "alpha" in info.mask and not no_alpha and flagged not in used else 0
    _check_type(info, used, want.scale)
    if bands is None and used != tuple(range(1, len(used) + 1)):
        note += f"; bands {', '.join(map(str, used))} are {', '.join(want.wanted)}, as the file says"
    unused = [f"{band} ({name})" for band, name in enumerate(info.color, 1) if band not in (*used, flagged)]
    if bands is None and unused:
        note += f"; band{'s' if len(unused) > 1 else ''} {', '.join(unused)} not used"
    if flagged != masked:
        note += f"; band {flagged}, flagged alpha, is no mask"
    piece = Piece(
        path=info.path,
        shape=info.geo.shape,
        bands=used,
        digest=info.digest,
        scale=None if want.scale is None else (float(want.scale[0]), float(want.scale[1])),
        on_read_error=want.on_read_error,
        nodata=info.nodata,
        alpha=masked,
        internal_mask="internal" in info.mask,
        slow=info.driver != "GTiff",
    )
    return piece, note


def _warn(info: RasterInfo, note: str) -> None:
    if note:
        logger.warning("%s: %s", printable(info.path), note)
    if info.block_shape[1] >= info.geo.width > WIDE and info.compression != "none":
        logger.warning(
            "%s is stored in strips: gdal_translate -co TILED=YES would make reading it faster", printable(info.path)
        )


def _pick_bands(info: RasterInfo, wanted: Sequence[str], no_alpha: bool) -> tuple[int, ...]:
    """The bands that the file says are the wanted ones; where it does not say, all bands in their order."""
    if "alpha" in info.color and "alpha" not in info.mask and not no_alpha:
        raise InputError(
            f"band {info.color.index('alpha') + 1} of {printable(info.path)} is flagged alpha but is no mask: it has "
            f"many levels, as infrared has; choose bands with {_example(info, wanted)}, or say --alpha none"
        )
    if all(info.color.count(name) == 1 for name in wanted):
        return tuple(info.color.index(name) + 1 for name in wanted)
    colours = tuple(band for band, name in enumerate(info.color, 1) if name != "alpha")
    if no_alpha and len(colours) != len(wanted):
        colours = tuple(range(1, info.count + 1))
    said = [info.color[band - 1] for band in colours]
    silent = ("undefined", "gray", "alpha")
    if len(said) == len(wanted) and all(a in (b, *silent) for a, b in zip(said, wanted, strict=True)):
        return colours
    raise InputError(
        f"{printable(info.path)} has {info.count} band(s) ({', '.join(info.color[:8])}), the model wants {len(wanted)} "
        f"({', '.join(wanted)}); say which, counting from 1: {_example(info, wanted)}"
    )


def _example(info: RasterInfo, wanted: Sequence[str]) -> str:
    colours = [band for band, name in enumerate(info.color, 1) if not name == "alpha" in info.mask] or [1]
    return f"--bands {','.join(map(str, (colours + colours[-1:] * len(wanted))[: len(wanted)]))}"


def _check_bands(info: RasterInfo, wanted: Sequence[str], bands: Sequence[int]) -> tuple[int, ...]:
    used = tuple(int(band) for band in bands)
    wrong = [band for band in used if not 1 <= band <= info.count]
    if len(used) != len(wanted) or wrong:
        which = f"there is no band {wrong[0]}" if wrong else f"the model wants {len(wanted)} ({', '.join(wanted)})"
        raise InputError(
            f"--bands {','.join(map(str, used))} of {printable(info.path)} with {info.count} band(s): {which}"
        )
    return used


def _check_type(info: RasterInfo, bands: tuple[int, ...], scale: tuple[float, float] | None) -> None:
    types = {info.dtypes[band - 1] for band in bands}
    if any(dtype.startswith("complex") for dtype in types):
        raise InputError(
            f"{printable(info.path)} holds complex numbers, the model wants 8-bit colours; convert it first"
        )
    if scale is not None:
        low, high = scale
        if not (math.isfinite(low) and math.isfinite(high) and low != high):
            raise UsageError(f"--scale {low:g},{high:g}: wanted two different finite values, such as 0,4095")
    elif types != {"uint8"}:
        raise InputError(
            f"{printable(info.path)} holds {', '.join(sorted(types))}, the model wants 8-bit colours; "
            f"say which values are black and white with --scale LOW,HIGH{_scale_hint(info, bands)}"
        )


def _scale_hint(info: RasterInfo, bands: tuple[int, ...]) -> str:
    """The range of the bits that the file says it uses; otherwise nobody knows but who looks at the values."""
    if info.bits and info.dtypes[bands[0] - 1].startswith("uint"):
        return f": its {info.bits} bits make that --scale 0,{2**info.bits - 1}"
    return ", the least and the greatest of Computed Min/Max in 'gdalinfo -mm FILE' if nothing better is known"


def _parse_gsd(gsd: float | str | None) -> float | Literal["native"] | None:
    if gsd is None or gsd == "native":
        return gsd  # type: ignore[return-value]
    try:
        value = float(gsd)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"--gsd {gsd}: wanted metres per pixel above 0 (such as 0.05), or 'native'")
    return value


Gsd = tuple[float, float]


@dataclass(frozen=True, slots=True)
class _WorkingGrid:
    """pixel: its size in units of the CRS, None for the raster's own. gsd_m: its size on the ground."""

    pixel: tuple[float, float] | None
    gsd_m: Gsd | None
    note: str


def _working_grid(info: RasterInfo, model: float | None, gsd: float | Literal["native"] | None) -> _WorkingGrid:
    """The grid that the raster is read on."""
    own = info.gsd_m
    stated = own is None and isinstance(gsd, float)
    if stated:
        assert isinstance(gsd, float)
        own = (gsd, gsd)
    if own is None:
        size = "pixels have no known size on the ground, read as they are; --gsd METRES tells their size"
        return _WorkingGrid(None, None, size)
    if gsd == "native" or (model is None and (gsd is None or stated)):
        return _WorkingGrid(None, own, f"{_metres(own)}, read as it is")
    target = gsd if isinstance(gsd, float) and not stated else model
    assert target is not None
    if gsd is None or stated:
        _check_coarser(info, own, target)
        if max(abs(size / target - 1) for size in own) <= GSD_TOLERANCE:
            return _WorkingGrid(None, own, f"{_metres(own)}, read as it is (the model's: {target:.3f} m/px)")
    _check_shrink(info, own, target)
    geo = info.geo if info.georeferenced else replace(info.geo, crs=None)
    pixel = working_pixel(geo, own, target)
    times = [new / old for new, old in zip(pixel, geo.resolution, strict=True)]
    if max(abs(one - 1) for one in times) < SAME_PIXEL:
        return _WorkingGrid(None, own, f"{_metres(own)}, read as it is")
    whose = "the model's " if target == model else ""
    return _WorkingGrid(
        pixel, (own[0] * times[0], own[1] * times[1]), f"{_metres(own)}, resampled to {whose}{target:.3f} m/px"
    )


def _mismatch(gsd_m: Gsd | None, model: float | None) -> str:
    """A warning where the user chose a resolution for which the model was not trained."""
    if gsd_m is None or model is None or max(abs(size / model - 1) for size in gsd_m) <= GSD_TOLERANCE:
        return ""
    times = max((size / model for size in gsd_m), key=lambda ratio: abs(math.log(ratio)))
    how = f"{times:.3g} times coarser" if times > 1 else f"{1 / times:.3g} times finer"
    return f", {how} than the model's {model:.3f} m/px: expect a poorer map"


def _check_coarser(info: RasterInfo, own: Gsd, model: float) -> None:
    times = max(own) / model
    if times > MAX_COARSER * 1.01:
        raise InputError(
            f"{printable(info.path)} has {_metres(own)}, {times:.3g} times coarser than the model's {model:.3f} m/px "
            f"(at most {MAX_COARSER:.0f} times); use finer imagery or a model for it, "
            "or say --gsd native to run it anyway"
        )


def _check_shrink(info: RasterInfo, own: Gsd, target: float) -> None:
    if target / min(own) > MAX_SHRINK:
        raise InputError(
            f"{printable(info.path)} has {_metres(own)}: {target / min(own):.0f} of its pixels would make one of "
            f"{target:.3f} m (at most {MAX_SHRINK}); check its coordinate system, "
            "or shrink it first with gdalwarp -tr X Y -r average -dstalpha"
        )


def check_size(info: RasterInfo, shape: tuple[int, int], max_pixels: int) -> None:
    """Raise InputError where a working grid of that shape has no pixels or too many."""
    path, pixels = info.path, shape[0] * shape[1]
    if not pixels:
        raise InputError(
            f"{printable(path)} ({info.geo.width} x {info.geo.height} px) is smaller than one pixel to work at; "
            "read it as it is: --gsd native"
        )
    if pixels > max_pixels:
        raise InputError(
            f"{printable(info.path)} has {pixels:,} px to map ({shape[0]:,} x {shape[1]:,}), more than --max-pixels "
            f"{max_pixels:,}; raise --max-pixels, or map a part of it with --aoi"
        )


def _metres(gsd: Gsd) -> str:
    x, y = gsd
    return f"{x:.3f} m/px" if abs(x / y - 1) < 0.02 else f"{x:.3f} x {y:.3f} m/px"

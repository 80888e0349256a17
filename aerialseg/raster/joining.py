"""Which rasters can be read as one: those of one coordinate system that fit the model; the others with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aerialseg.errors import InputError
from aerialseg.files import printable
from aerialseg.raster.bounds import name_of_crs, same_crs
from aerialseg.raster.describe import RasterInfo
from aerialseg.raster.lattice import is_anchored
from aerialseg.raster.piece import OnReadError, Piece, Reading, make_piece
from aerialseg.raster.warp import check_way
from aerialseg.raster.working_grid import MAX_COARSER

REFUSALS_SAID = 5

Refusal = tuple[str, str]
"""Path of a raster, and why it cannot be used."""


@dataclass(frozen=True, slots=True)
class Joined:
    """infos: of the rasters that can be read as one, in their order. pieces: theirs, without places. note: what is to
    be said of bands. refused: the others. reprojected: numbers of those that have to be reprojected."""

    infos: list[RasterInfo]
    pieces: list[Piece]
    note: str
    refused: tuple[Refusal, ...]
    reprojected: frozenset[int]

    @property
    def straight(self) -> list[RasterInfo]:
        """Those that lie on a lattice of the mosaic's coordinate system: one at least."""
        return [info for number, info in enumerate(self.infos) if number not in self.reprojected]


def join(infos: Sequence[RasterInfo], want: Reading, *, require_crs: bool, reproject: bool) -> Joined:
    """Those that can be read as one. reproject: also those where north is not up, and those of another CRS.

    Raises InputError where some cannot and that was not allowed.
    """
    several = len(infos) > 1
    anchored = [info for info in infos if info.georeferenced and is_anchored(info.geo)]
    crs, _ = Counter(info.geo.crs for info in anchored or infos).most_common(1)[0]
    alike = [info for info in anchored if same_crs(info.geo.crs, crs)]
    size, _ = Counter(info.geo.resolution for info in alike or infos).most_common(1)[0]
    size_m = next((info.gsd_m for info in alike if info.geo.resolution == size), None)
    found: list[tuple[RasterInfo, Piece, str]] = []
    refused: list[Refusal] = []
    reprojected: set[int] = set()
    for info in infos:
        try:
            if several and alike and reproject and _needs_warp(info, crs):
                check_way(info.path, info.geo, crs)
                _check_size(info, info.gsd_m, size_m)
                piece = make_piece(info, want, require_crs=require_crs)
                reprojected.add(len(found))
            else:
                info = _beside(info, crs, size) if several else info
                piece = make_piece(info, want, require_crs=require_crs)
            found.append((info, *piece))
        except InputError as error:
            if not several:
                raise
            refused.append((info.path, str(error)))
    if len(reprojected) == len(found):
        refused += [
            (info.path, f"{printable(info.path)} would be resampled onto the grid of others, none of which can be used")
            for info, *_ in found
        ]
    check_refused(refused, len(infos), want.on_read_error)
    used, pieces, notes = zip(*found, strict=True)
    return Joined(list(used), list(pieces), notes[0], tuple(refused), frozenset(reprojected))


def _needs_warp(info: RasterInfo, crs: str | None) -> bool:
    """Whether a raster has a place on the ground, but on no lattice of that CRS."""
    if info.geo.crs is None or not info.georeferenced:
        return False
    return not (is_anchored(info.geo) and same_crs(info.geo.crs, crs))


def _beside(info: RasterInfo, crs: str | None, size: tuple[float, float]) -> RasterInfo:
    """The raster as one of a mosaic in the CRS, most of whose pixels have the size (x, y). Raises InputError."""
    if info.geo.crs is None:
        raise InputError(f"{printable(info.path)} has no coordinate system (CRS): give --crs EPSG:CODE")
    if not (info.georeferenced and is_anchored(info.geo)):
        raise InputError(
            f"{printable(info.path)} has no transform, or north is not up: only rasters that have one and lie "
            "straight can be joined as they are; give --reproject, or warp it first: gdalwarp -r bilinear -dstalpha "
            "IN.tif OUT.tif"
        )
    if not same_crs(info.geo.crs, crs):
        raise InputError(
            f"{printable(info.path)} has another coordinate system ({name_of_crs(info.geo.crs)}) than most "
            f"({name_of_crs(crs)}): give --reproject to resample it onto their grid"
        )
    if info.geo.crs != crs:
        info = replace(info, geo=replace(info.geo, crs=crs))
    _check_size(info, info.geo.resolution, size)
    return info


def _check_size(info: RasterInfo, own: tuple[float, float] | None, size: tuple[float, float] | None) -> None:
    """Raise InputError where pixels are much larger or smaller than those of most; both in metres or units."""
    if own is None or size is None:
        return
    times = max(new / old for new, old in zip(own, size, strict=True))
    if not 1 / MAX_COARSER <= times <= MAX_COARSER:
        raise InputError(
            f"{printable(info.path)} has pixels {times:.3g} times as large as most of the others: up to "
            f"{MAX_COARSER:.0f} times can be joined"
        )


def check_refused(refused: Sequence[Refusal], count: int, on_read_error: OnReadError) -> None:
    """Raise InputError where some of ``count`` rasters cannot be used and that was not allowed, or none can."""
    if not refused or (on_read_error == "nodata" and len(refused) < count):
        return
    said = "; ".join(reason for _, reason in refused[:REFUSALS_SAID])
    more = f"; and {len(refused) - REFUSALS_SAID:,} more" if len(refused) > REFUSALS_SAID else ""
    raise InputError(
        f"{len(refused):,} of {count:,} rasters cannot be used: {said}{more}. Repair them, leave them out, or continue "
        "without them: --on-read-error nodata"
    )

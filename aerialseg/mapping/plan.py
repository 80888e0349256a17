"""What will be done, as data: made before any work, and checking early whatever can be checked early."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__
from aerialseg.errors import ResourceError
from aerialseg.legend import Legend
from aerialseg.mapping.block import BlockTask
from aerialseg.mapping.fitting import view_for
from aerialseg.mapping.settings import MIN_PIXELS, SMOOTHING, TOLERANCE_PX, MapSettings
from aerialseg.model.card import ModelCard
from aerialseg.model.interface import PredictorSpec
from aerialseg.progress import spoken_bytes
from aerialseg.raster.collar import collar_content
from aerialseg.raster.georef import ONE_PIXEL, GeoGrid
from aerialseg.raster.grid import Grid
from aerialseg.raster.joining import Refusal
from aerialseg.raster.transcode import copy_bytes
from aerialseg.raster.view import View

if TYPE_CHECKING:
    from aerialseg.mapping.corrections import Corrections
    from aerialseg.raster.describe import RasterInfo
    from aerialseg.raster.polygon_mask import PolygonMask

BYTES_PER_PIXEL = 2.5
"""Disk that a run takes at most per working pixel: blocks and mosaic of two compressed bands, layer, rasters."""

_SETTINGS = {
    "model": "--model",
    "model_digest": "--model",
    "numerics": "--precision, --device or --tta",
    "tiling": "--tiling",
    "version": "the version of aerialseg",
    "block": "the size of blocks",
    "pixel": "--resolution or --pixel-size",
    "bands": "--bands",
    "alpha": "--alpha",
    "scale": "--scale",
    "nodata_colour": "--nodata-colour",
    "min_pixels": "--min-area",
    "tolerance_px": "--simplify",
    "smooth": "--smooth",
    "dissolve": "--dissolve",
}
"""What a plan holds of settings -> the option that decides it."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How labels become polygons, in pixels of the class raster.

    smooth: steps of rounding corners. dissolve: a second layer has one multipolygon for each class.
    """

    min_pixels: int
    tolerance_px: float
    smooth: int = 0
    dissolve: bool = False

    @classmethod
    def of(
        cls, settings: MapSettings, pixel_m: tuple[float, float], min_pixels: int = MIN_PIXELS, step_px: int = 1
    ) -> LayerPlan:
        """The plan for pixels of the size ``pixel_m`` (x, y) of a model that answers on every ``step_px``.

        ``min_pixels``: where the settings leave it open.
        """
        area = math.prod(pixel_m)
        if settings.min_area_m2 is not None:
            # A hair less, so that an area of exactly n pixels is n pixels whatever the floats say.
            min_pixels = math.ceil(settings.min_area_m2 / area - 1e-6)
        tolerance = TOLERANCE_PX * step_px if settings.simplify_m is None else settings.simplify_m / math.sqrt(area)
        return cls(min_pixels, tolerance, SMOOTHING if settings.smooth else 0, settings.dissolve)


@dataclass(frozen=True)
class Plan:
    """Sources, model, grid and settings of one run.

    Two digests tell what two runs have in common: ``blocks_digest`` their blocks, class and confidence rasters,
    ``digest`` all of their results. numerics: what the network computes in ("cpu fp32", "cuda bf16"); labels may differ
    at ties between two of them. reading: bands, alpha and scale that were asked for, whatever each source has. tiling:
    "exact", or in words how far from it (ModelCard.tiling). aoi: what is mapped; what lies outside is nodata, but seen
    by the network. corrections: what is laid over the classes.
    """

    sources: tuple[RasterInfo, ...]
    view: View
    grid: Grid
    model: str
    model_digest: str
    numerics: str
    reading: Mapping[str, Any]
    layer: LayerPlan
    tiling: str = "exact"
    aoi: PolygonMask | None = None
    corrections: Corrections | None = None
    allow_remote: bool = False
    version: str = __version__

    @property
    def geo(self) -> GeoGrid:
        """The grid of the class raster."""
        return self.view.geo.part(self.view.local(self.grid.answered))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that decides the blocks but for the sources: resolution, model, numerics, tiling, version."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "numerics": self.numerics,
            "tiling": self.tiling,
            "version": self.version,
            "block": [self.grid.block, self.grid.halo, self.grid.stride],
            "pixel": self.view.geo.linear,
            **self.reading,
        }

    @cached_property
    def blocks_digest(self) -> str:
        """Of all that decides the class raster: settings, sources, and the pixels to answer for."""
        drawn = [one.digest if one else "" for one in (self.aoi, self.corrections)]
        return _digest([self.settings, self.view.content(), astuple(self.grid), self.geo.crs, *drawn])

    @property
    def digest(self) -> str:
        """Of all that decides the result."""
        return _digest([self.blocks_digest, asdict(self.layer)])

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: everything that decides the result."""
        return {
            "sources": [[piece.path, piece.digest] for piece in self.view.pieces],
            "settings": self.settings,
            "layer": asdict(self.layer),
            "grid": asdict(self.grid),
            "aoi": self.aoi.digest if self.aoi else "",
            "corrections": self.corrections.digest if self.corrections else "",
            "view": {**asdict(self.view.geo), "gsd_m": self.view.gsd_m, "note": self.view.note},
            "blocks_digest": self.blocks_digest,
        }

    def tasks(self, predictor: PredictorSpec, folder: Path) -> Iterator[BlockTask]:
        """One task a block, in row-major order, with its file in ``folder``. Each has the sources alone that it sees.

        Its key is the digest of all that its result depends on: equal key, same bytes.
        """
        settings = _digest(self.settings)
        for index in self.blocks:
            core, path = self.grid.core(index), self.block_path(index, folder)
            window = self.grid.window(core)
            view = self.view.part(window)
            key = _digest([settings, astuple(core), astuple(window), view.content(), *collar_content(view, window)])
            yield BlockTask(index, core, window, view, predictor, path, key, self.allow_remote)

    def block_path(self, index: int, folder: Path) -> Path:
        """Its name says where it lies on the lattice, so that it stays when a mosaic grows."""
        core = self.grid.core(index)
        return folder / f"r{core.top // self.grid.block:05d}_c{core.left // self.grid.block:05d}.tif"

    @cached_property
    def blocks(self) -> Sequence[int]:
        """Those that are computed: all, or those that meet the area of interest."""
        return self.aoi.meeting(list(self.grid)) if self.aoi else range(len(self.grid))

    @property
    def pixels(self) -> int:
        """Of the class raster."""
        return self.grid.answered.area

    @property
    def wanted_px(self) -> int:
        """Those that may have a class, as far as is known before reading."""
        return self.aoi.area_px if self.aoi else self.pixels

    @property
    def disk_bytes(self) -> int:
        """Disk that the run takes at most, beside the input."""
        decoded = sum(copy_bytes(piece) for piece in self.view.pieces if piece.slow)
        return int(self.pixels * BYTES_PER_PIXEL) + decoded + 2**20

    @property
    def summary(self) -> str:
        """One paragraph for a person: what is read, how, and what it takes."""
        box = self.grid.answered
        size = f"{box.width:,} x {box.height:,} px ({self.pixels / 1e6:,.1f} Mpx)"
        tiles = "" if self.tiling == "exact" else f"; tiles are {self.tiling}: expect seams"
        blocks = f"{len(self.blocks):,} block{'s' if len(self.blocks) > 1 else ''}"
        within = f"within {self.aoi.name}, " if self.aoi else ""
        way = f"; computed by {self.numerics}" if self.numerics else ""
        way += f"; {self.corrections.note}" if self.corrections else ""
        return (
            f"{self.view.note}; {within}{size} in {blocks}; up to {spoken_bytes(self.disk_bytes)} of disk{way}{tiles}"
        )


def spoken_changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what two JSON objects, a plan's settings or its layer, differ: in the words of the options."""
    names = [name for name in (*wanted, *found) if found.get(name) != wanted.get(name)]
    return list(dict.fromkeys(_SETTINGS.get(name, name) for name in names))


def make_plan(
    infos: Sequence[RasterInfo],
    predictor: PredictorSpec,
    settings: MapSettings,
    stamps: Mapping[str, str] | None = None,
    refused: Sequence[Refusal] = (),
) -> Plan:
    """The plan for the rasters that ``describe`` found, as one. Reads no pixels.

    stamps: path -> digest to know a raster by, where that is not its own. refused: others, which could not be opened.
    Raises InputError (the raster cannot be used so), UsageError (settings that contradict each other).
    """
    from aerialseg.raster.working_grid import check_size

    card = predictor.card
    view = view_for(infos, card, settings)
    known = {info.path: info.digest for info in infos} | dict(stamps or {})
    pieces = tuple(replace(piece, digest=known[piece.path]) for piece in view.pieces)
    view = replace(view, pieces=pieces, refused=(*refused, *view.refused))
    grid = Grid(*view.shape, _on_lattice(settings.block_px, card.stride), card.halo, card.stride, view.top, view.left)
    aoi = None
    if settings.aoi is not None:
        from aerialseg.mapping.aoi import narrow

        aoi, view, grid = narrow(settings.aoi, view, grid)
        check_size(infos[0], aoi.box.shape, settings.max_pixels)
    used = {piece.path for piece in view.pieces}
    return Plan(
        sources=tuple(info for info in infos if info.path in used),
        view=view,
        grid=grid,
        model=card.name,
        model_digest=card.digest,
        numerics=predictor.numerics,
        reading={name: getattr(settings, name) for name in ("bands", "alpha", "scale", "nodata_colour")},
        layer=LayerPlan.of(settings, _pixel_size(view), step_px=card.answer_step_px),
        tiling=card.tiling,
        aoi=aoi,
        corrections=_corrections(settings, view, grid, card),
        allow_remote=settings.allow_remote,
    )


def _corrections(settings: MapSettings, view: View, grid: Grid, card: ModelCard) -> Corrections | None:
    if not settings.corrections:
        return None
    from aerialseg.mapping.corrections import read_corrections

    predicted = Legend(tuple(one for one in card.legend if one.id not in card.void))
    return read_corrections(settings.corrections, view, grid.raster, predicted)


def check_disk(plan: Plan, folder: Path) -> None:
    """Raise ResourceError when ``folder`` has less room than the run may take."""
    free = shutil.disk_usage(existing_folder(folder)).free
    if free < plan.disk_bytes:
        raise ResourceError(
            f"{folder} has {spoken_bytes(free)} free and the run may take {spoken_bytes(plan.disk_bytes)}: "
            "free some, or put the run elsewhere with --keep-run DIR"
        )


def existing_folder(folder: Path) -> Path:
    """The folder, or the first one above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.exists())


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _pixel_size(view: View) -> tuple[float, float]:
    """Ground size (x, y) of a working pixel: metres, or pixels where that is not known."""
    return view.gsd_m or ONE_PIXEL


def _on_lattice(block: int, stride: int) -> int:
    return -(-block // stride) * stride

"""What will be done, as data: made before any work, and checking early whatever can be checked early."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__
from aerialseg.errors import ResourceError, UsageError
from aerialseg.mapping.block import BlockTask
from aerialseg.mapping.settings import MIN_PIXELS, MapSettings
from aerialseg.model.card import split_tiling
from aerialseg.model.interface import PredictorSpec
from aerialseg.progress import spoken_bytes
from aerialseg.raster.georef import ONE_PIXEL
from aerialseg.raster.grid import Grid
from aerialseg.raster.view import View

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster
    from aerialseg.raster.describe import RasterInfo

BYTES_PER_PIXEL = 2.5
"""Disk that a run takes at most per working pixel: blocks and mosaic of two compressed bands, layer, rasters."""

_NOT_DECISIVE = ("on_read_error", "note")
"""Of the view: finished blocks are what they are whatever these say."""

_WORDS = {
    "source": "the input",
    "model": "--model",
    "model_digest": "--model",
    "numerics": "--precision, --device or --tta",
    "tiling": "--tiling",
    "version": "the version of aerialseg",
    "grid": "--gsd or the size of blocks",
    "min_pixels": "--min-area",
    "tolerance_px": "--simplify",
    "smooth": "--smooth",
    "dissolve": "--dissolve",
}
"""What a plan holds -> the option that decides it; --bands, --alpha and --scale of the view by their names."""


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
    def of(cls, settings: MapSettings, pixel_m: tuple[float, float], min_pixels: int = MIN_PIXELS) -> LayerPlan:
        """The plan for pixels of the size ``pixel_m`` (x, y); ``min_pixels`` where the settings leave it open."""
        return cls(
            settings.min_pixels(pixel_m, min_pixels),
            settings.tolerance_px(pixel_m),
            settings.smoothing,
            settings.dissolve,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Source, model, grid and settings of one run.

    Two digests tell what two runs have in common: ``blocks_digest`` their blocks, class and confidence rasters,
    ``digest`` all of their results. numerics: what the network computes in ("cpu fp32", "cuda bf16"); labels may differ
    at ties between two of them. tiling: "exact", or in words how far from it (ModelCard.tiling).
    """

    source: RasterInfo
    view: View
    grid: Grid
    model: str
    model_digest: str
    numerics: str
    layer: LayerPlan
    tiling: str = "exact"
    allow_remote: bool = False
    version: str = __version__

    @property
    def blocks_digest(self) -> str:
        """Of all that decides the blocks: source, bands, scale, resolution, model, numerics, tiling, version."""
        return _digest(decides_blocks(self.to_json()))

    @property
    def digest(self) -> str:
        """Of all that decides the result."""
        return _digest([self.blocks_digest, asdict(self.layer)])

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: everything that decides the result."""
        grid = {name: getattr(self.grid, name) for name in ("height", "width", "block", "halo", "stride")}
        return {
            "source": self.source.to_json(),
            "view": self.view.to_json(),
            "grid": grid,
            "model": self.model,
            "model_digest": self.model_digest,
            "numerics": self.numerics,
            "tiling": self.tiling,
            "version": self.version,
            "layer": asdict(self.layer),
        }

    def tasks(self, predictor: PredictorSpec, folder: Path) -> Iterator[BlockTask]:
        """One task a block, in row-major order, with its file in ``folder``."""
        for index in range(len(self.grid)):
            core = self.grid.core(index)
            path = self.block_path(index, folder)
            yield BlockTask(index, core, self.grid.window(core), self.view, predictor, path, self.allow_remote)

    def block_path(self, index: int, folder: Path) -> Path:
        row, col = divmod(index, self.grid.cols)
        return folder / f"r{row:05d}_c{col:05d}.tif"

    @property
    def pixels(self) -> int:
        return self.grid.raster.area

    @property
    def disk_bytes(self) -> int:
        """Disk that the run takes at most, beside the input."""
        return int(self.pixels * BYTES_PER_PIXEL) + 2**20

    @property
    def summary(self) -> str:
        """One paragraph for a person: what is read, how, and what it takes."""
        size = f"{self.grid.width:,} x {self.grid.height:,} px ({self.pixels / 1e6:,.1f} Mpx)"
        disk = f"up to {spoken_bytes(self.disk_bytes)} of disk"
        tiles = "" if self.tiling == "exact" else f"; tiles are {self.tiling}: expect seams"
        blocks = f"{len(self.grid):,} block{'s' if len(self.grid) > 1 else ''}"
        way = f"; computed by {self.numerics}" if self.numerics else ""
        return f"{self.view.note}; {size} in {blocks}; {disk}{way}{tiles}"


def decides_blocks(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Of a plan's JSON, what decides the blocks."""
    view = {name: value for name, value in plan["view"].items() if name not in _NOT_DECISIVE}
    return {**{name: value for name, value in plan.items() if name != "layer"}, "view": view}


def spoken_changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """In what two JSON objects, of plans or of their layers, differ: in the words of the options."""
    names = [name for name in (*wanted, *found) if found.get(name) != wanted.get(name)]
    if "source" in names:
        return [_WORDS["source"]]
    words = [_WORDS[name] for name in names if name in _WORDS]
    old, new = found.get("view", {}), wanted.get("view", {})
    inside = [name for name in (*new, *old) if old.get(name) != new.get(name) and name not in _NOT_DECISIVE]
    words += [f"--{name}" if name in ("bands", "alpha", "scale") else "--gsd" for name in inside]
    if len(set(words)) > 1:  # another grid is what these come to
        words = [word for word in words if word != _WORDS["grid"]]
    return list(dict.fromkeys(words))


def make_plan(info: RasterInfo, predictor: PredictorSpec, settings: MapSettings) -> Plan:
    """The plan for the raster that ``describe`` found. Reads no pixels.

    Raises InputError (the raster cannot be used so), UsageError (settings that contradict each other).
    """
    from aerialseg.raster.view import make_view

    card = predictor.card
    view = make_view(
        info,
        model_gsd_m=card.gsd_m,
        wanted=card.bands,
        bands=settings.bands,
        alpha=settings.alpha,
        gsd=settings.gsd_m,
        scale=settings.scale,
        on_read_error=settings.on_read_error,
        max_pixels=settings.max_pixels,
        require_crs=settings.require_crs,
    )
    return Plan(
        source=info,
        view=view,
        grid=Grid(*view.shape, _on_lattice(settings.block_px, card.stride), card.halo, card.stride),
        model=card.name,
        model_digest=card.digest,
        numerics=predictor.numerics,
        layer=LayerPlan.of(settings, _pixel_size(view)),
        tiling=card.tiling,
        allow_remote=settings.allow_remote,
    )


def check_disk(plan: Plan, folder: Path) -> None:
    """Raise ResourceError when ``folder`` has less room than the run may take."""
    free = shutil.disk_usage(folder).free
    if free < plan.disk_bytes:
        raise ResourceError(
            f"{folder} has {spoken_bytes(free)} free and the run may take {spoken_bytes(plan.disk_bytes)}: "
            "free some, or put the run elsewhere with --keep-run DIR"
        )


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _pixel_size(view: View) -> tuple[float, float]:
    """Ground size (x, y) of a working pixel: metres, or pixels where that is not known."""
    return view.gsd_m or ONE_PIXEL


def _on_lattice(block: int, stride: int) -> int:
    return -(-block // stride) * stride


PathLike = str | Path


def choose_predictor(
    model: PathLike | PredictorSpec | None, settings: MapSettings, cluster: Cluster | None
) -> PredictorSpec:
    """What computes a run, on the cluster's workers where there is one. Raises ModelError, UsageError."""
    if model is None or isinstance(model, (str, Path)):
        from aerialseg.model.predictor import resolve

        if cluster is None:
            return resolve(model, **settings.computing)
        found = resolve(model, **(settings.computing | {"device": "cpu"}))
        model = replace(found, device=settings.device)  # which only the workers need to have
    else:
        _check_kind(model)
        _check_same(model, settings)
    return model if cluster is None else cluster.fitted(model)


def _check_kind(model: object) -> None:
    if not isinstance(model, PredictorSpec):
        raise UsageError(
            f"model is a {type(model).__name__}: wanted a folder, a name, or a PredictorSpec of "
            "aerialseg.model.interface (derive from it: it has a default for whatever your model need not say)"
        )


def _check_same(model: PredictorSpec, settings: MapSettings) -> None:
    """Raise ModelError or UsageError where a predictor made elsewhere is not as asked: it cannot be changed."""
    if model.card.tiled(*split_tiling(settings.tiling)).tiling != model.card.tiling:
        raise UsageError(
            f"the predictor's tiles are {model.card.tiling}, wanted {settings.tiling}: give tiling and halo to what "
            "makes it (aerialseg.model.predictor.resolve)"
        )
    if settings.tta and not model.tta:
        raise UsageError(
            "the predictor looks once, wanted tta: give it to what makes it (aerialseg.model.predictor.resolve)"
        )

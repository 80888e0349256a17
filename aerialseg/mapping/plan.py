"""What will be done, as data: made before any work, and checking early whatever can be checked early."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aerialseg._version import __version__
from aerialseg.errors import ResourceError, UsageError
from aerialseg.mapping.block import BlockTask
from aerialseg.model.interface import PredictorSpec
from aerialseg.progress import spoken_bytes
from aerialseg.raster.grid import Grid
from aerialseg.raster.view import MAX_PIXELS, View

if TYPE_CHECKING:
    from aerialseg.raster.describe import RasterInfo
if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.interface import PredictorSpec

BLOCK_PX = 2048
"""Side of a block. Larger ones spend less on halos, smaller ones need less memory and lose less when killed: at 2048 px
the network does 1.21 times the work of the whole image at once, at 1024 px 1.5 times."""

MIN_PIXELS = 100
"""Minimum mapping unit by default, in pixels of the class raster (0.25 m² at 5 cm)."""

TOLERANCE_PX = 1.5
"""Simplification by default, in pixels of the class raster."""

SMOOTHING = 2
"""Steps of rounding corners, where that is asked for (vector/smooth.py)."""

BYTES_PER_PIXEL = 2.5
"""Disk that a run takes at most per working pixel: blocks and mosaic of two compressed bands, layer, rasters."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user wants the raster read.

    bands: 1-based, in the model's order; None where the raster leaves no doubt.
    gsd_m: metres per pixel to work at (for a raster without CRS: the size of its own pixel), "native", or None.
    scale: (low, high) of the source values that become 0 and 255, for anything but 8 bit.
    """

    bands: tuple[int, ...] | None = None
    gsd_m: float | Literal["native"] | None = None
    scale: tuple[float, float] | None = None
    on_read_error: Literal["fail", "nodata"] = "fail"
    max_pixels: int = MAX_PIXELS
    require_crs: bool = False
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class Computing:
    """How the user wants the network computed; see model/device.py for what "auto" comes to.

    tiling: "exact", or "approximate" with ``halo_px`` pixels around each tile (None: as the model's card has it).
    tta: the mean of eight looks at each tile.
    """

    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    tiling: Literal["exact", "approximate"] = "exact"
    halo_px: int | None = None
    tta: bool = False


@dataclass(frozen=True, slots=True)
class Generalization:
    """How labels become polygons, in ground units; None stands for the defaults above.

    smooth: round the corners of the lines. dissolve: a second layer has one multipolygon for each class.
    """

    min_area_m2: float | None = None
    simplify_m: float | None = None
    smooth: bool = False
    dissolve: bool = False

    def __post_init__(self) -> None:
        for name, value in (("--min-area", self.min_area_m2), ("--simplify", self.simplify_m)):
            if value is not None and not (0 <= value < math.inf):
                raise UsageError(f"{name} is {value}: wanted 0 or more")

    @property
    def smoothing(self) -> int:
        """Steps of rounding corners."""
        return SMOOTHING if self.smooth else 0

    def min_pixels(self, pixel_m: tuple[float, float], default: int = MIN_PIXELS) -> int:
        """The minimum mapping unit in pixels of the size ``pixel_m`` (x, y)."""
        if self.min_area_m2 is None:
            return default
        # A hair less, so that an area of exactly n pixels is n pixels whatever the floats say.
        return math.ceil(self.min_area_m2 / math.prod(pixel_m) - 1e-6)

    def tolerance_px(self, pixel_m: tuple[float, float]) -> float:
        """How far lines may move, in pixels of the size ``pixel_m`` (x, y)."""
        return TOLERANCE_PX if self.simplify_m is None else self.simplify_m / math.sqrt(math.prod(pixel_m))


@dataclass(frozen=True, slots=True)
class Plan:
    """Source, model, grid and settings of one run. ``digest`` tells whether two runs would give the same result.

    numerics: what the network computes in ("cpu fp32", "cuda bf16"); labels may differ at ties between two of them.
    tiling: "exact", or in words how far from it (ModelCard.tiling).
    """

    source: RasterInfo
    view: View
    grid: Grid
    model: str
    model_digest: str
    numerics: str
    min_pixels: int
    tolerance_px: float
    smooth: int = 0
    dissolve: bool = False
    tiling: str = "exact"
    version: str = __version__

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

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
            "min_pixels": self.min_pixels,
            "tolerance_px": self.tolerance_px,
            "smooth": self.smooth,
            "dissolve": self.dissolve,
            "version": self.version,
        }

    def tasks(self, predictor: PredictorSpec, folder: Path, *, allow_remote: bool = False) -> Iterator[BlockTask]:
        """One task a block, in row-major order, with its file in ``folder``."""
        for index in range(len(self.grid)):
            core = self.grid.core(index)
            path = self.block_path(index, folder)
            yield BlockTask(index, core, self.grid.window(core), self.view, predictor, path, allow_remote)

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


def make_plan(
    info: RasterInfo, predictor: PredictorSpec, reading: Reading, generalization: Generalization, block: int
) -> Plan:
    """The plan for the raster that ``describe`` found. Reads no pixels.

    Raises InputError (the raster cannot be used so), UsageError (settings that contradict each other).
    """
    from aerialseg.raster.view import make_view

    card = predictor.card
    view = make_view(
        info,
        model_gsd_m=card.gsd_m,
        bands_wanted=len(card.bands),
        bands=reading.bands,
        gsd=reading.gsd_m,
        scale=reading.scale,
        on_read_error=reading.on_read_error,
        max_pixels=reading.max_pixels,
        require_crs=reading.require_crs,
    )
    pixel_m = _pixel_size(view)
    return Plan(
        source=info,
        view=view,
        grid=Grid(view.height, view.width, _on_lattice(block, card.stride), card.halo, card.stride),
        model=card.name,
        model_digest=card.digest,
        numerics=getattr(predictor, "numerics", ""),
        tiling=card.tiling,
        min_pixels=generalization.min_pixels(pixel_m),
        tolerance_px=generalization.tolerance_px(pixel_m),
        smooth=generalization.smoothing,
        dissolve=generalization.dissolve,
    )


def check_disk(plan: Plan, folder: Path) -> None:
    """Raise ResourceError when ``folder`` has less room than the run may take."""
    free = shutil.disk_usage(folder).free
    if free < plan.disk_bytes:
        raise ResourceError(
            f"{folder} has {spoken_bytes(free)} free and the run may take {spoken_bytes(plan.disk_bytes)}: "
            "free some, or put the run elsewhere with --keep-run DIR"
        )


def _pixel_size(view: View) -> tuple[float, float]:
    """Ground size (x, y) of a working pixel: metres, or units of the transform where the raster has no CRS."""
    if view.gsd_m is not None:
        return view.gsd_m
    a, b, _, d, e, _ = view.transform
    return math.hypot(a, d), math.hypot(b, e)


def _on_lattice(block: int, stride: int) -> int:
    if block < 1:
        raise UsageError(f"a block of {block} px: wanted 1 or more")
    return -(-block // stride) * stride


PathLike = str | Path


def choose_predictor(
    model: PathLike | PredictorSpec | None, computing: Computing, cluster: Cluster | None
) -> PredictorSpec:
    """What computes a run, on the cluster's workers where there is one. Raises ModelError, UsageError."""
    if model is None or isinstance(model, (str, Path)):
        from aerialseg.model.predictor import resolve

        wanted = asdict(computing)
        if cluster is None:
            return resolve(model, **wanted)
        found = resolve(model, **(wanted | {"device": "cpu"}))
        model = replace(found, device=computing.device)  # which only the workers need to have
    else:
        _check_same(model, computing)
    return model if cluster is None else cluster.fitted(model)


def _check_same(model: PredictorSpec, computing: Computing) -> None:
    """Raise ModelError or UsageError where a predictor made elsewhere is not as asked: it cannot be changed."""
    if model.card.tiled(computing.tiling, computing.halo_px).tiling != model.card.tiling:
        raise UsageError(
            f"the predictor's tiles are {model.card.tiling}, wanted {computing.tiling}: give tiling and halo to what "
            "makes it (aerialseg.model.predictor.resolve)"
        )
    if computing.tta and not getattr(model, "tta", False):
        raise UsageError(
            "the predictor looks once, wanted tta: give it to what makes it (aerialseg.model.predictor.resolve)"
        )

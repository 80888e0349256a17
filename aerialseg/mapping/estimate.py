"""What a run would do, why, and what it would take: decided in one place for runs and for --dry-run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aerialseg.mapping.block import BlockTask
from aerialseg.mapping.kept import has_mosaic
from aerialseg.mapping.network_time import network_seconds
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import Changes, Run, lost_in_copies
from aerialseg.model.interface import PredictorSpec
from aerialseg.progress import spoken_bytes, spoken_duration
from aerialseg.raster.blocks import is_whole
from aerialseg.raster.bounds import name_of_crs


@dataclass(frozen=True, slots=True)
class BlockWork:
    """todo: blocks to compute. redraw: class and confidence raster are there. reason: why not all, "" for all."""

    todo: tuple[BlockTask, ...]
    redraw: bool
    reason: str

    @property
    def pixels(self) -> int:
        return sum(task.core.area for task in self.todo)


def decide_blocks(plan: Plan, predictor: PredictorSpec, run: Run, changes: Changes | None) -> BlockWork:
    """What ``run``, of which that has changed since (None: it is new), lacks. Writes nothing. Raises OutputError."""
    # What could not be read before is tried again, unless nodata will do.
    whole = plan.view.pieces[0].on_read_error == "nodata" or changes is None or not run.lost_px()
    if changes is not None and whole and has_mosaic(run, plan):
        why = f"this run was made with another {' and '.join(changes.layer)}: " if changes.layer else ""
        return BlockWork((), True, f"{why}drawing its polygons again (no network needed)")
    tasks = tuple(plan.tasks(predictor, run.blocks))
    again = set() if whole else {path for path, _ in lost_in_copies(run)}
    todo = tuple(task for task in tasks if changes is None or not _is_done(task, whole, again))
    if len(todo) == len(tasks):
        return BlockWork(todo, False, "")
    done = f"{len(tasks) - len(todo):,} of {len(tasks):,} blocks are done"
    what = _spoken_sources(changes)
    return BlockWork(todo, False, f"{what} changed since: {done} without" if what else f"resuming: {done}")


def _spoken_sources(changes: Changes | None) -> str:
    if changes is None or not (changes.sources or changes.order):
        return ""
    count = f"{changes.sources:,} source{'s' if changes.sources > 1 else ''}" if changes.sources else ""
    return " and ".join(filter(None, (count, "the order of sources" if changes.order else "")))


def _is_done(task: BlockTask, whole: bool, again: set[str]) -> bool:
    """Whether the block's file is there; unless ``whole``, not one that lacks pixels or sees a file of ``again``."""
    lacks = not whole and task.path.with_suffix(".json").exists()
    return not lacks and not any(piece.path in again for piece in task.view.pieces) and is_whole(task.path, task.key)


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What `segment` would do.

    Attributes
    ----------
    plan : Plan
        Sources, grid and settings.
    blocks : int
        Blocks that would be computed, of ``len(plan.grid)``.
    pixels : int, px
        Pixels of these blocks.
    reason : str
        Why not all of them; empty where all are computed.
    redraw : bool
        The layer would be drawn from the class raster of an earlier run, without the network.
    seconds : float, s
        Estimated time of the network; None where it is not known.
    basis : str
        Where ``seconds`` comes from.
    paths : tuple[Path, ...]
        Files that would be written, the layer first.
    """

    plan: Plan
    blocks: int
    pixels: int
    reason: str
    redraw: bool
    seconds: float | None
    basis: str
    paths: tuple[Path, ...]

    @property
    def resampled(self) -> int:
        """Sources that would be resampled onto the working grid, but for those that are reprojected."""
        return sum(not self.plan.view.sheets[piece.sheet].aligned for piece in self.plan.view.pieces)

    @property
    def reprojected(self) -> int:
        """Sources of another CRS, which would be resampled onto the working grid."""
        return sum(piece.warp is not None for piece in self.plan.view.pieces)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready."""
        view, geo = self.plan.view, self.plan.geo
        return {
            "sources": len(view.pieces),
            "resampled": self.resampled,
            "reprojected": self.reprojected,
            "refused": [{"path": path, "reason": reason} for path, reason in view.refused],
            "grid": {**asdict(geo), "gsd_m": view.gsd_m},
            "pixels": self.plan.pixels,
            "blocks": len(self.plan.grid),
            "blocks_to_compute": self.blocks,
            "pixels_to_compute": self.pixels,
            "redraw": self.redraw,
            "reason": self.reason,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
            "basis": self.basis,
            "disk_bytes": self.plan.disk_bytes,
            "outputs": [str(path) for path in self.paths],
        }


def estimate_run(
    plan: Plan, predictor: PredictorSpec, work: BlockWork, paths: Sequence[Path], *, here: bool
) -> RunEstimate:
    """The estimate for a plan of which the blocks ``work`` are to be computed, in this process or (not ``here``) on
    workers. Computes one tile. Raises ModelError, ResourceError."""
    seconds, basis = 0.0 if not work.todo else None, "no network needed"
    if work.todo:
        basis = "unknown: workers compute it"
    if work.todo and here:
        seconds, basis = network_seconds(plan, predictor, work.todo), "the network alone, measured on one tile"
    return RunEstimate(plan, len(work.todo), work.pixels, work.reason, work.redraw, seconds, basis, tuple(paths))


def describe_run(estimate: RunEstimate) -> list[str]:
    """The estimate in lines for people."""
    plan, geo = estimate.plan, estimate.plan.geo
    refused = [f"         not used: {reason}" for _, reason in plan.view.refused]
    (height, width), (x, y) = geo.shape, geo.at(0.0, 0.0)
    place = f" from ({x:.10g}, {y:.10g}), {name_of_crs(geo.crs)}" if geo.crs else ", no coordinate system"
    blocks = f"{estimate.blocks:,} of {len(plan.grid):,} to compute, {estimate.pixels / 1e6:,.2f} Mpx"
    known = "unknown" if estimate.seconds is None else f"about {spoken_duration(estimate.seconds)}"
    warped = f"{estimate.reprojected:,} reprojected, " if estimate.reprojected else ""
    return [
        f"sources  {len(plan.view.pieces):,} used, {estimate.resampled:,} resampled, {warped}{len(refused):,} refused",
        *refused,
        f"reading  {plan.view.note}",
        f"grid     {width:,} x {height:,} px ({plan.pixels / 1e6:,.2f} Mpx){place}",
        f"blocks   {blocks}: {estimate.reason or 'all'}",
        f"time     {known} ({estimate.basis})",
        f"disk     up to {spoken_bytes(plan.disk_bytes)}",
        *(f"output   {path}" for path in estimate.paths),
    ]

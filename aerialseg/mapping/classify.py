"""All blocks of a run: computed here or on a cluster, and joined into one raster while others are still at work.

Here, each thread takes a block all the way: it reads, waits at the gate of the device, predicts and writes. With more
threads than the device lets in, the next blocks are read while one is computed; how many there are bounds the memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from aerialseg.executor import LOCAL_WORKERS, local_threads, run_tasks
from aerialseg.files import remove_if_there
from aerialseg.mapping.block import BlockReport, BlockTask, Shared, note_lost, run_block
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import DECODED, Run, lost_in_copies
from aerialseg.mapping.timeline import Timeline
from aerialseg.progress import Progress
from aerialseg.raster.block_cache import Pages, reading_order
from aerialseg.raster.blocks import Bands, join_blocks
from aerialseg.raster.grid import Box
from aerialseg.raster.piece import Piece
from aerialseg.raster.transcode import TILE_PX, DecodedCopy, decoded_copy
from aerialseg.raster.view import View

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster

MAX_WORKERS = 16
"""Blocks under way at a time beside a GPU: each takes memory for its window."""


def remove_other_blocks(plan: Plan, run: Run, todo: Sequence[BlockTask]) -> None:
    """Remove blocks of ``run`` that are none of the plan's, and those that are to be computed."""
    wanted = {plan.block_path(index, run.blocks).stem for index in range(len(plan.grid))}
    wanted -= {task.path.stem for task in todo}
    for path in run.blocks.glob("r*_c*.*"):
        if path.stem not in wanted:
            remove_if_there(path)


def decode_source(
    plan: Plan, todo: Sequence[BlockTask], run: Run, timeline: Timeline, progress: Progress
) -> tuple[Plan, Sequence[BlockTask]]:
    """Plan and tasks that read decoded copies, kept in the run, of the files whose formats make windows slow.

    Of those alone that are read. Raises what decoded_copy raises.
    """
    copies = _copies((piece for task in todo for piece in task.view.pieces), run, timeline, progress)
    if not copies:
        return plan, todo
    others = {(path, box) for path, box in lost_in_copies(run) if path not in copies}
    note_lost(run.blocks / DECODED, others | {(path, box) for path, copy in copies.items() for box in copy.lost})
    sources = tuple(replace(one, block_shape=(TILE_PX, TILE_PX)) if one.path in copies else one for one in plan.sources)
    reading = replace(plan, sources=sources, view=_of_copies(plan.view, copies))
    return reading, [replace(task, view=_of_copies(task.view, copies)) for task in todo]


def decode_view(view: View, run: Run, timeline: Timeline, progress: Progress) -> View:
    """The view that reads such copies of all its files."""
    return _of_copies(view, _copies(view.pieces, run, timeline, progress))


def _copies(pieces: Iterable[Piece], run: Run, timeline: Timeline, progress: Progress) -> dict[str, DecodedCopy]:
    """Path -> copy of those that are slow to read by windows."""
    slow = {piece.path: piece for piece in pieces if piece.slow}
    if not slow:
        return {}
    pixels = sum(piece.box.area for piece in slow.values())
    progress.stage("decode", pixels)
    with timeline.measure("decode", pixels):
        return {path: decoded_copy(piece, run.decoded, progress.advance) for path, piece in slow.items()}


def _of_copies(view: View, copies: Mapping[str, DecodedCopy]) -> View:
    pieces = (copies[one.path].piece if one.path in copies else one for one in view.pieces)
    return replace(view, pieces=tuple(pieces))


def classify(
    plan: Plan,
    todo: Sequence[BlockTask],
    run: Run,
    timeline: Timeline,
    progress: Progress,
    cluster: Cluster | None = None,
) -> None:
    """Compute the blocks ``todo`` and make ``run.classes`` and ``run.confidence`` of all blocks.

    Raises what run_block raises, and OutputError.
    """
    pixels = sum(task.core.area for task in todo)
    blocks = partial(plan.block_path, folder=run.blocks)
    with join_blocks(plan.grid, blocks, plan.geo, run.classes, run.confidence, partial(_finish, plan)) as join:
        joined = _Joined(join, plan, timeline)
        progress.stage("blocks", pixels)
        with (
            timeline.measure("blocks", pixels),
            closing(_reports(plan, todo, cluster, joined)) as reports,
        ):
            for report in reports:
                timeline.add(report.spans)
                timeline.count(report.core_px, *{stage for stage, _, _ in report.spans} - {"load", "queue"})
                progress.advance(report.core_px)
        waiting = [index for index in plan.blocks if index not in joined.indices]
        if waiting:
            progress.stage("mosaic", len(waiting))
        for index in waiting:
            joined(index)
            progress.advance(1)


def _finish(plan: Plan, box: Box, bands: Bands) -> Bands:
    """Of a block as the network gave it, what belongs into the class raster."""
    bands = plan.corrections.lay_over(box, bands) if plan.corrections else bands
    return plan.aoi.cut(box, bands) if plan.aoi else bands


class _Joined:
    """Joins blocks, one at a time whoever brings them, and remembers which."""

    def __init__(self, join: Callable[[int, Bands | None], None], plan: Plan, timeline: Timeline) -> None:
        self._join, self._plan, self._timeline = join, plan, timeline
        self._lock = Lock()
        self.indices: set[int] = set()

    def __call__(self, index: int, bands: Bands | None = None) -> None:
        with self._lock, self._timeline.measure("mosaic", self._plan.grid.core(index).area):
            self._join(index, bands)
            self.indices.add(index)


def _reports(
    plan: Plan, todo: Sequence[BlockTask], cluster: Cluster | None, joined: _Joined
) -> Generator[BlockReport, None, None]:
    if cluster is not None:
        from aerialseg.mapping.workers import run_blocks

        yield from run_blocks(cluster, todo, plan.blocks_digest)
    elif todo:
        order = reading_order(plan.grid, plan.view, plan.sources[0].block_shape)
        todo = sorted(todo, key=lambda task: order.key(plan.grid, task.index))
        workers = min(local_workers(plan.numerics), len(todo))
        with Pages(plan.view, order, allow_remote=plan.allow_remote) as pages:
            shared = Shared(pages, joined)
            work = partial(run_block, shared=shared)
            if workers == 1:
                yield from map(work, todo)
            else:
                yield from run_tasks(local_threads(workers), work, todo, in_flight=workers)


def local_workers(numerics: str) -> int:
    """Blocks under way at a time in this process.

    A network on the CPU has all the cores and needs one block read ahead and one written; a GPU is faster than one
    core decodes, so all of them read for it.
    """
    if numerics.startswith("cpu"):
        return LOCAL_WORKERS
    return max(LOCAL_WORKERS, min(cores(), MAX_WORKERS))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""A run at work: every check before it, its stages in their order, and what is left behind where it fails."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.errors import OutputError
from aerialseg.executor import Inline
from aerialseg.files import absolute, write_json
from aerialseg.mapping.classify import classify, decode_source, remove_other_blocks
from aerialseg.mapping.estimate import BlockWork, decide_blocks
from aerialseg.mapping.flood import with_collar
from aerialseg.mapping.kept import seal_mosaic
from aerialseg.mapping.kinds import aoi_file, split_layer
from aerialseg.mapping.network_time import network_seconds
from aerialseg.mapping.outputs import AREAS, PAGE, REPORT, Outputs, lock_outputs
from aerialseg.mapping.plan import Plan, check_disk, make_plan
from aerialseg.mapping.predictors import PathLike, choose_predictor
from aerialseg.mapping.products import SMALL_PX, Work, draw_layer, metadata_of, release_memory, write_rasters
from aerialseg.mapping.publishing import publish_products, published_files
from aerialseg.mapping.result import Result, areas_csv, class_shares
from aerialseg.mapping.run import RUN_REPORT, Changes, Run, forget_decoded, run_folder
from aerialseg.mapping.settings import check_settings
from aerialseg.mapping.source_files import find_sources, vrt_claims, without_own
from aerialseg.mapping.sources import changed_since, describe_all, forget_blocks, hash_all, known_stamps, remember
from aerialseg.mapping.trust import Trust, rate_map
from aerialseg.progress import Progress, Silent, spoken_duration
from aerialseg.raster.describe import source_date
from aerialseg.vector.formats import check_place

if TYPE_CHECKING:
    from aerialseg.mapping.block import BlockTask
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.vector.layers import LayerInfo

WORTH_TIMING_PX = 20_000_000
"""From here on a run takes long enough that its time is estimated and reported first."""


def prepare(
    source: PathLike | Sequence[PathLike],
    output: PathLike,
    *,
    model: PathLike | PredictorSpec | None = None,
    raster: PathLike | None = None,
    confidence: PathLike | None = None,
    report: PathLike | None = None,
    areas: PathLike | None = None,
    overwrite: bool = False,
    keep_run: PathLike | None = None,
    pattern: str | None = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
    **settings: Any,
) -> SegmentRun:
    """The job, after every check that needs no work. Writes nothing."""
    wanted = check_settings(settings)
    run = Run(run_folder(absolute(output)) if keep_run is None else absolute(keep_run))
    given = [source] if isinstance(source, (str, Path)) else source
    paths = without_own(find_sources(given, pattern=pattern, order=wanted.order), given, (raster, confidence))
    drawn = [*filter(None, [aoi_file(wanted.aoi)]), *(split_layer(text)[0] for text in wanted.corrections)]
    run.check_place(*paths, *drawn, output, raster, confidence, report, areas)
    outputs = Outputs.check(
        [*paths, *given, *drawn],
        output,
        raster,
        confidence,
        dissolve=wanted.dissolve,
        report=report,
        areas=areas,
        overwrite=overwrite,
        published=published_files(run),
    )
    infos, refused = describe_all(paths, wanted, vrt_claims(given))
    check_place(outputs.layer, infos[0].geo.crs)
    timestamp = source_date(*(info.path for info in infos))
    predictor = choose_predictor(model, wanted, cluster)
    plan = make_plan(infos, predictor, wanted, known_stamps(run, infos), refused)
    work = Work(plan, predictor, outputs, run, timestamp, progress or Silent(), cluster)
    return SegmentRun(work, overwrite, keep_run is not None)


def check_disks(work: Work) -> None:
    for folder in (work.run.folder, *(path.parent for path in work.outputs.paths)):
        check_disk(work.plan, folder)


@dataclass(frozen=True)
class SegmentRun:
    """One run at work."""

    work: Work
    overwrite: bool
    keep: bool

    @property
    def plan(self) -> Plan:
        return self.work.plan

    @property
    def run(self) -> Run:
        return self.work.run

    def run_input(self) -> Result:
        keep = self.keep
        with self.run.lock(), lock_outputs(self.work.outputs.paths):
            changes = self.run.begin(self.plan)
            try:
                check_disks(self.work)
                result = self._stages(changes, keep=keep)
            except BaseException as error:
                note = self.run.leave(keep=keep)
                if note:
                    error.add_note(note)
                raise
            if not keep:
                self.run.remove()
        return result

    def _stages(self, changes: Changes | None, *, keep: bool) -> Result:
        self.work.progress.note(self.plan.summary)
        for _, reason in self.plan.view.refused:
            self.work.progress.note(f"warning: not used: {reason}")
        with Inline() if self.plan.pixels < SMALL_PX else ThreadPoolExecutor(1) as aside:
            hashing = aside.submit(self._hash)
            plan = with_collar(self.plan, self.run, self.work.timeline, self.work.progress)
            blocks = decide_blocks(plan, self.work.predictor, self.run, changes)
            if blocks.reason:
                self.work.progress.note(blocks.reason)
            if not blocks.redraw:
                self._classify(plan, blocks, keep=keep)
            if lost_px := self.run.lost_px():
                self.work.progress.note(f"warning: {lost_px:,} pixels of the input could not be read and are nodata")
            hashes = hashing.result()
        release_memory(self.plan)
        self._check_source()
        remember(self.run, self.plan, hashes)
        card = self.work.predictor.card
        trust = rate_map(self.run.classes, self.run.confidence, calibrated="calibration" in card.scores)
        metadata = metadata_of(self.work, hashes) | trust.metadata(card.map_legend)
        info = draw_layer(self.work, metadata)
        write_rasters(self.work, metadata)  # not beside it: both need memory, and polygons take all cores already
        result = self._result(info, trust, keep=keep)
        for doubt in result.doubts:
            self.work.progress.note(f"warning: {doubt}")
        _write_reports(self.work, result, metadata)
        self._publish()
        return result

    def _hash(self) -> dict[str, str]:
        """SHA-256 of each input, for its provenance and to know it again."""
        with self.work.timeline.measure("hash", self.plan.pixels):
            return hash_all(self.plan.sources)

    def _publish(self) -> None:
        self.work.outputs.check_free(overwrite=self.overwrite, published=published_files(self.run))
        publish_products(self.work.outputs, self.run)

    def _classify(self, plan: Plan, blocks: BlockWork, *, keep: bool) -> None:
        work = self.work
        todo: Sequence[BlockTask] = blocks.todo
        remove_other_blocks(plan, self.run, todo)
        if todo and self.plan.pixels >= WORTH_TIMING_PX and work.cluster is None:
            seconds = network_seconds(self.plan, work.predictor, todo)
            work.progress.note(f"roughly {spoken_duration(seconds)} for the network here")
        reading, todo = decode_source(plan, todo, self.run, work.timeline, work.progress)
        classify(reading, todo, self.run, work.timeline, work.progress, work.cluster)
        forget_decoded(self.run)
        if todo and work.cluster is None and self.plan.pixels >= SMALL_PX:
            # It may hold gigabytes between tiles, and the network is done.
            work.predictor.load().release()
        if keep:
            seal_mosaic(self.run, self.plan, self.run.lost_px())

    def _check_source(self) -> None:
        changed = changed_since(self.plan.sources, allow_remote=self.plan.allow_remote)
        if changed:
            forget_blocks(self.run, self.plan, changed)  # nobody knows which of their blocks are of what
            if not self.run.holds_blocks():
                self.run.remove()
            more = f" and {len(changed) - 1:,} others" if len(changed) > 1 else ""
            raise OutputError(
                f"{changed[0]}{more} or a file beside it changed during the run, so there is no result: run again"
            )

    def _result(self, info: LayerInfo, trust: Trust, *, keep: bool) -> Result:
        timeline = self.work.timeline
        stages = timeline.stages()
        return Result(
            paths=self.work.outputs.paths,
            classes=class_shares(info),
            polygons=info.polygons,
            valid_px=sum(info.pixels.values()),
            lost_px=self.run.lost_px(),
            seconds={line.stage: line.seconds for line in stages} | {"total": time.time() - timeline.begin},
            timeline=stages,
            trust=trust,
            plan=self.plan,
            run=self.run.folder if keep else None,
        )


def _write_reports(work: Work, result: Result, metadata: Mapping[str, str]) -> None:
    """What was found, in the run's directory and as those products that are wanted. Raises InputError, OutputError."""
    folder, wanted = work.run.products, work.outputs.products
    report = {**metadata, **result.to_json()}
    write_json(work.run.folder / RUN_REPORT, report)
    if REPORT in wanted:
        write_json(folder / REPORT, report)
    if AREAS in wanted:
        (folder / AREAS).write_text(areas_csv(result), encoding="utf-8")
    if PAGE in wanted:
        from aerialseg.mapping.page import write_page

        work.progress.stage("report", 1.0)
        write_page(folder / PAGE, result, work.run, work.predictor.card.map_legend, metadata)

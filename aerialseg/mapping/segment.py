"""The main job: from an orthophoto to a finished land-cover layer."""

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
from aerialseg.mapping.estimate import BlockWork, RunEstimate, decide_blocks, estimate_run
from aerialseg.mapping.flood import with_collar
from aerialseg.mapping.kept import seal_mosaic
from aerialseg.mapping.kinds import aoi_file, split_layer
from aerialseg.mapping.network_time import network_seconds
from aerialseg.mapping.outputs import AREAS, PAGE, REPORT, Outputs, lock_outputs
from aerialseg.mapping.plan import PathLike, Plan, check_disk, choose_predictor, make_plan
from aerialseg.mapping.products import SMALL_PX, Work, draw_layer, metadata_of, release_memory, write_rasters
from aerialseg.mapping.publishing import publish_products, published_files
from aerialseg.mapping.result import Result, areas_csv, class_shares
from aerialseg.mapping.run import RUN_REPORT, Changes, Run, check_free, find_changes, forget_decoded, run_folder
from aerialseg.mapping.settings import check_settings, with_settings
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


@with_settings()
def segment(
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
) -> Result:
    """The files made and their statistics, for the land cover of ``source`` as the layer ``output``.

    Memory is constant, whatever the size of the raster. Outputs are written atomically.

    Parameters
    ----------
    source : path or sequence of paths
        An orthophoto (GeoTIFF, JPEG 2000, JPEG, PNG, WebP, GeoPackage or MBTiles), or several that are mapped as one:
        files, folders, patterns such as ``tiles/*.tif``, text files of paths, VRT mosaics, tile indexes.
    output : path
        Its ending is the format: .gpkg, .fgb, .parquet or .geojson.
    model : path, name or PredictorSpec
        A directory with ``card.json`` and ``weights.safetensors``, a name, or a model of your own
        (aerialseg.model.interface). Default: the bundled model.
    raster : path
        Also write the class raster, a Cloud Optimized GeoTIFF: class ids before generalisation.
    confidence : path
        Also write the confidence raster, a Cloud Optimized GeoTIFF: uint8, 0 to 100 %.
    report : path
        Also write what was found and where the time went: as a page to share (.html) or as data (.json).
    areas : path
        Also write the area of each class, its share and confidence, as CSV.
    overwrite : bool
        Replace outputs that exist; other layers of a GeoPackage stay.
    keep_run : path
        Keep the run's directory here, and resume the run in it. If only settings of the layer differ, its polygons are
        redrawn without the network.
    pattern : str
        Of a folder, take only the files that match this (``*_rgb.tif``).
    progress : Progress
        Listener for stages and messages.
    cluster : Cluster
        Workers that compute the blocks, on this machine or on others that have the input, the model and the run's
        directory at the same paths (``aerialseg.cluster``).
    {settings}

    Raises
    ------
    UsageError
        An output exists, is an input, or a setting has no such value.
    InputError
        ``source`` cannot be read or does not fit the model, or rasters cannot be joined.
    ModelError
        The model cannot be loaded, or cannot be tiled as asked.
    OutputError
        An output or the run's directory cannot be written, or is in use by another run.
    ResourceError
        No such device, or not enough memory or disk space.
    KeyboardInterrupt
        The run was interrupted. Its directory stays if it holds finished blocks, and the same call resumes.
    """
    job = _prepare(
        source,
        output,
        model=model,
        raster=raster,
        confidence=confidence,
        report=report,
        areas=areas,
        overwrite=overwrite,
        keep_run=keep_run,
        pattern=pattern,
        progress=progress,
        cluster=cluster,
        **settings,
    )
    return job.run_input()


def plan_run(source: PathLike | Sequence[PathLike], output: PathLike, **options: Any) -> RunEstimate:
    """What ``segment``, which takes the same, would do and what it would take. Nothing is written.

    Reads no pixels, and computes one tile to tell the time. Raises what ``segment`` raises before its work.
    """
    work = _prepare(source, output, **options).work
    check_free(work.run)
    changes = find_changes(work.run, work.plan)
    _check_disks(work)
    blocks = decide_blocks(work.plan, work.predictor, work.run, changes)
    return estimate_run(work.plan, work.predictor, blocks, work.outputs.paths, here=work.cluster is None)


def _prepare(
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
) -> _Job:
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
    return _Job(work, overwrite, keep_run is not None)


def _check_disks(work: Work) -> None:
    for folder in (work.run.folder, *(path.parent for path in work.outputs.paths)):
        check_disk(work.plan, folder)


@dataclass(frozen=True)
class _Job:
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
                _check_disks(self.work)
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
            plan = with_collar(self.plan, self.run, self.work.progress)
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

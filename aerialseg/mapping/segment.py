"""The main job: from an orthophoto to a finished land-cover layer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aerialseg._version import __version__
from aerialseg.errors import OutputError
from aerialseg.executor import Inline
from aerialseg.files import absolute, write_json
from aerialseg.mapping.classify import classify
from aerialseg.mapping.estimate import network_seconds
from aerialseg.mapping.outputs import CLASSES, CONFIDENCE, REPORT, Outputs
from aerialseg.mapping.plan import (
    BLOCK_PX,
    Computing,
    Generalization,
    PathLike,
    Plan,
    Reading,
    check_disk,
    choose_predictor,
    make_plan,
)
from aerialseg.mapping.result import Result, shares
from aerialseg.mapping.run import Run, run_folder
from aerialseg.mapping.timeline import Timeline
from aerialseg.memory import release
from aerialseg.progress import Progress, Silent, spoken_duration
from aerialseg.raster.describe import describe, is_unchanged, source_sha256
from aerialseg.raster.opening import is_remote
from aerialseg.raster.view import MAX_PIXELS
from aerialseg.vector.formats import check_place

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.card import Tiling
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.vector.layers import LayerInfo

WORTH_TIMING_PX = 20_000_000
"""From here on a run takes long enough that its time is told beforehand."""

SMALL_PX = 1_000_000
"""Below this, threads and trimmed memory cost more than they bring."""


def segment(
    source: PathLike,
    output: PathLike,
    *,
    model: PathLike | PredictorSpec | None = None,
    raster: PathLike | None = None,
    confidence: PathLike | None = None,
    report: PathLike | None = None,
    min_area_m2: float | None = None,
    simplify_m: float | None = None,
    smooth: bool = False,
    dissolve: bool = False,
    bands: Sequence[int] | None = None,
    gsd_m: float | Literal["native"] | None = None,
    scale: tuple[float, float] | None = None,
    on_read_error: Literal["fail", "nodata"] = "fail",
    max_pixels: int = MAX_PIXELS,
    require_crs: bool = False,
    allow_remote: bool = False,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    tiling: Tiling = "exact",
    halo_px: int | None = None,
    tta: bool = False,
    overwrite: bool = False,
    keep_run: PathLike | None = None,
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Result:
    """Map the land cover of the raster ``source`` into the layer ``output``; return what was made.

    output: its ending is the format: .gpkg, .fgb, .parquet or .geojson.

    model: a directory with ``card.json`` and ``weights.safetensors``, a name, or None for the one that ships inside
    (anything with ``card`` and ``load()``, see model.interface, works as well). raster, confidence: also write the
    class raster (labels as the network gave them, before generalisation) and the confidence raster, as Cloud Optimized
    GeoTIFFs. report: also write what the run took and found, as JSON (run.json). min_area_m2: the minimum mapping unit,
    smaller regions are merged into neighbours (default: 100 pixels of the class raster). simplify_m: tolerance of
    simplification in metres (default: 1.5 pixels; 0: none). smooth: round the corners of the lines. dissolve: a second
    layer has one multipolygon for each class. bands: three 1-based band numbers. gsd_m: metres per pixel to work at, or
    "native"; for a raster without CRS, the size of its pixel. scale: source values that become 0 and 255. tiling:
    "exact" (a tile equals the whole image, or the model is refused) or "approximate", with a halo of halo_px around
    each tile. tta: average over the eight flips and turns of each tile, which takes eight times as long. keep_run: keep
    the run's directory here (and resume the run that is there). cluster: workers that compute the blocks, here or on
    machines that see the input, the model and the run's directory under the same names
    (``aerialseg.cluster.dask_cluster``).

    Files appear at their names only when whole. Raises UsageError, InputError, ModelError, OutputError, ResourceError
    or, when told to stop, KeyboardInterrupt; then the run's directory stays if it holds finished blocks, and the same
    call goes on from there.
    """
    reading = Reading(
        None if bands is None else tuple(int(band) for band in bands),
        gsd_m,
        scale,
        on_read_error,
        max_pixels,
        require_crs,
        allow_remote,
    )
    run = Run(run_folder(absolute(output)) if keep_run is None else absolute(keep_run))
    run.check_place(source, output, raster, confidence, report)
    ours = run.publishing
    outputs = Outputs.check(
        source, output, raster, confidence, dissolve=dissolve, report=report, overwrite=overwrite, ours=ours
    )
    info = describe(source, allow_remote=allow_remote)
    check_place(outputs.layer, info.crs)
    predictor = choose_predictor(model, Computing(device, precision, runtime, tiling, halo_px, tta), cluster)
    plan = make_plan(info, predictor, reading, Generalization(min_area_m2, simplify_m, smooth, dissolve), block_px)
    job = _Job(plan, predictor, outputs, run, progress or Silent(), reading, overwrite, ours, cluster)
    return job.carry_out(keep=keep_run is not None)


@dataclass
class _Job:
    """One run at work: the plan, and what has been learnt so far."""

    plan: Plan
    predictor: PredictorSpec
    outputs: Outputs
    run: Run
    progress: Progress
    reading: Reading
    overwrite: bool
    ours: frozenset[Path]
    cluster: Cluster | None = None
    timeline: Timeline = field(default_factory=Timeline)

    def carry_out(self, *, keep: bool) -> Result:
        with self.run.lock():
            self.run.begin(self.plan)
            try:
                self._check_disks()
                result = self._stages(keep=keep)
            except BaseException as error:
                note = self.run.leave(keep=keep)
                if note:
                    error.add_note(note)
                raise
            if not keep:
                self.run.remove()
        return result

    def _check_disks(self) -> None:
        check_disk(self.plan, self.run.folder)
        for path in self.outputs.paths:
            check_disk(self.plan, path.parent)

    def _stages(self, *, keep: bool) -> Result:
        self.progress.note(self.plan.summary)
        if self.plan.pixels >= WORTH_TIMING_PX and self.cluster is None:
            self.progress.note(
                f"roughly {spoken_duration(network_seconds(self.plan, self.predictor))} for the network here"
            )
        with Inline() if self.plan.pixels < SMALL_PX else ThreadPoolExecutor(1) as aside:
            hashing = aside.submit(self._hash)
            self._classify()
            sha256 = hashing.result()
        self._release()
        self._check_source()
        metadata = {**self._metadata(), **({"source_sha256": sha256} if sha256 else {})}
        info = self._polygonize(metadata)
        self._rasters(metadata)  # not at the same time: both need memory, and polygons take all cores already
        result = self._result(info, keep=keep)
        report = {**metadata, **result.to_json()}
        self.run.write_report(report)
        if self.outputs.report:
            write_json(self.run.products / REPORT, report)
        self._publish()
        return result

    def _release(self) -> None:
        """Memory that a stage has freed goes back to the system, where there is enough of it to be worth the time."""
        if self.plan.pixels >= SMALL_PX:
            release()

    def _hash(self) -> str:
        """SHA-256 of the input, for its provenance; of one that is fetched piece by piece there is none."""
        with self.timeline.measure("hash", self.plan.pixels):
            return "" if is_remote(self.plan.source.path) else source_sha256(self.plan.source.path)

    def _publish(self) -> None:
        self.outputs.check_free(overwrite=self.overwrite, ours=self.ours)
        self.run.begin_publishing(self.outputs.paths)
        self.outputs.publish(self.run.products)

    def _classify(self) -> None:
        classify(
            self.plan,
            self.predictor,
            self.run,
            self.timeline,
            self.progress,
            allow_remote=self.reading.allow_remote,
            cluster=self.cluster,
        )
        self._release_network()
        lost_px = self.run.lost_px()
        if lost_px:
            self.progress.note(f"warning: {lost_px:,} pixels of the input could not be read and are nodata")

    def _release_network(self) -> None:
        """Give back what it holds between tiles, gigabytes for large ones: the network is done."""
        if self.cluster is None and self.plan.pixels >= SMALL_PX:
            getattr(self.predictor.load(), "release", lambda: None)()

    def _check_source(self) -> None:
        if not is_unchanged(self.plan.source, allow_remote=self.reading.allow_remote):
            shutil.rmtree(self.run.blocks, ignore_errors=True)  # nobody knows which of them are of which input
            raise OutputError(f"{self.plan.source.path} changed during the run, so there is no result: run again")

    def _polygonize(self, metadata: dict[str, str]) -> LayerInfo:
        from aerialseg.mapping.workers import stretches
        from aerialseg.vector.layers import polygonize

        done = 0.0

        def report(fraction: float) -> None:
            nonlocal done
            self.progress.advance(fraction - done)
            done = fraction

        self.progress.stage("polygons", 1.0)
        with (
            self.timeline.measure("polygons", self.plan.pixels),
            stretches(self.cluster, self.plan.pixels) as executor,
        ):
            return polygonize(
                self.run.classes,
                self.run.confidence,
                self.run.products / self.outputs.layer_product,
                legend=self.predictor.card.legend,
                min_pixels=self.plan.min_pixels,
                tolerance_px=self.plan.tolerance_px,
                smooth=self.plan.smooth,
                dissolve=self.plan.dissolve,
                pixel_m=self.plan.view.gsd_m,
                metadata=metadata,
                executor=executor,
                progress=report,
            )

    def _rasters(self, metadata: dict[str, str]) -> None:
        from aerialseg.raster.cog import write_cog

        sources = {CLASSES: (self.run.classes, self.predictor.card.legend), CONFIDENCE: (self.run.confidence, None)}
        wanted = [name for name in sources if name in self.outputs.products]
        if not wanted:
            return
        self._release()
        self.progress.stage("rasters", len(wanted))
        with self.timeline.measure("rasters", self.plan.pixels * len(wanted)):
            for name in wanted:
                source, legend = sources[name]
                write_cog(source, self.run.products / name, legend=legend, metadata=metadata)
                self.progress.advance(1)

    def _metadata(self) -> dict[str, str]:
        """Provenance that travels inside every product."""
        card = self.predictor.card
        values = {
            "title": f"Land cover of {Path(self.plan.source.path).name}",
            "software": f"aerialseg {__version__}",
            "source": self.plan.source.path,
            "source_digest": self.plan.source.digest,
            "source_note": self.plan.view.note,
            "model": card.name,
            "model_digest": self.plan.model_digest,
            "numerics": self.plan.numerics,
            "model_licence": card.licence,
            "tiling": self.plan.tiling,
            "plan_digest": self.plan.digest,
        }
        return {name: value for name, value in values.items() if value}

    def _result(self, info: LayerInfo, *, keep: bool) -> Result:
        stages = self.timeline.stages()
        return Result(
            paths=self.outputs.paths,
            classes=shares(info.area_m2, info.legend),
            polygons=info.polygons,
            valid_px=sum(info.pixels.values()),
            lost_px=self.run.lost_px(),
            seconds={line.stage: line.seconds for line in stages} | {"total": time.time() - self.timeline.begin},
            timeline=stages,
            plan=self.plan,
            run=self.run.folder if keep else None,
        )

"""The main job: from an orthophoto to a finished land-cover layer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aerialseg._version import __version__
from aerialseg.block import run_block
from aerialseg.errors import OutputError
from aerialseg.executor import LOCAL_WORKERS, local, run_tasks
from aerialseg.memory import release
from aerialseg.model.interface import Tile
from aerialseg.outputs import CLASSES, CONFIDENCE, LAYER, Outputs, absolute
from aerialseg.plan import BLOCK_PX, Generalization, Plan, Reading, check_disk, make_plan
from aerialseg.progress import Progress, Silent, spoken_duration
from aerialseg.raster.describe import describe, source_sha256
from aerialseg.raster.grid import Box
from aerialseg.raster.opening import is_remote
from aerialseg.raster.view import MAX_PIXELS
from aerialseg.result import ClassShare, Result
from aerialseg.run import Run, run_folder

if TYPE_CHECKING:
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.vector.layers import LayerInfo

PathLike = str | Path

WORTH_TIMING_PX = 20_000_000
"""From here on a run takes long enough that its time is told beforehand."""

HALO_WORK = 1.5
"""Work per output pixel with the whole halo, against none (ALGORITHMS 1, core of 1024 px)."""


def segment(
    source: PathLike,
    output: PathLike,
    *,
    model: PathLike | PredictorSpec | None = None,
    raster: PathLike | None = None,
    confidence: PathLike | None = None,
    min_area_m2: float | None = None,
    simplify_m: float | None = None,
    bands: Sequence[int] | None = None,
    gsd_m: float | Literal["native"] | None = None,
    scale: tuple[float, float] | None = None,
    on_read_error: Literal["fail", "nodata"] = "fail",
    max_pixels: int = MAX_PIXELS,
    require_crs: bool = False,
    allow_remote: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    keep_run: PathLike | None = None,
    block_px: int = BLOCK_PX,
    progress: Progress | None = None,
) -> Result:
    """Map the land cover of the raster ``source`` into the GeoPackage ``output``; return what was made.

    model: a directory with ``card.json`` and ``weights.safetensors``, a name, or None for the one that ships inside
    (anything with ``card`` and ``load()``, see model.interface, works as well). raster, confidence: also write the
    class raster (labels as the network gave them, before generalisation) and the confidence raster, as Cloud
    Optimized GeoTIFFs. min_area_m2: the minimum mapping unit, smaller regions are merged into neighbours (default:
    100 pixels of the class raster). simplify_m: tolerance of simplification in metres (default: 1.5 pixels; 0: none).
    bands: three 1-based band numbers. gsd_m: metres per pixel to work at, or "native"; for a raster without CRS, the
    size of its pixel. scale: source values that become 0 and 255. keep_run: keep the run's directory here (and resume
    the run that is there).

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
    run.check_place(source, output, raster, confidence)
    ours = run.publishing
    outputs = Outputs.check(source, output, raster, confidence, overwrite=overwrite, ours=ours)
    info = describe(source, allow_remote=allow_remote)
    predictor = _predictor(model, device)
    plan = make_plan(info, predictor, reading, Generalization(min_area_m2, simplify_m), block_px)
    job = _Job(plan, predictor, outputs, run, progress or Silent(), reading, overwrite, ours)
    return job.carry_out(keep=keep_run is not None)


def _predictor(model: PathLike | PredictorSpec | None, device: str) -> PredictorSpec:
    if model is None or isinstance(model, (str, Path)):
        from aerialseg.model.store import resolve

        return resolve(model, device=device)
    return model


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
    seconds: dict[str, float] = field(default_factory=dict)

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
        if self.plan.pixels >= WORTH_TIMING_PX:
            self.progress.note(f"roughly {spoken_duration(self._network_seconds())} for the network on this machine")
        with ThreadPoolExecutor(1) as aside:
            hashing = aside.submit(self._hash)
            self._predict()
            with self._stage("mosaic", len(self.plan.grid)):
                self._mosaic()
            sha256 = hashing.result()
        self._check_source()
        metadata = {**self._metadata(), **({"source_sha256": sha256} if sha256 else {})}
        info = self._polygonize(metadata)
        self._rasters(metadata)
        result = self._result(info, keep=keep)
        self.run.write_report(_report(result, metadata))
        self._publish()
        return result

    def _hash(self) -> str:
        """SHA-256 of the input, for its provenance; of one that is fetched piece by piece there is none."""
        return "" if is_remote(self.plan.source.path) else source_sha256(self.plan.source.path)

    def _publish(self) -> None:
        self.outputs.check_free(overwrite=self.overwrite, ours=self.ours)
        self.run.begin_publishing(self.outputs.paths)
        self.outputs.publish(self.run.products)

    def _network_seconds(self) -> float:
        """What the network will take at most, from the time of one small tile (the second one: the first warms up)."""
        import numpy as np

        side = 8 * self.plan.grid.stride
        box, bands = Box(0, 0, side, side), len(self.predictor.card.bands)
        tile = Tile(np.full((bands, side, side), 128, np.uint8), np.ones((side, side), bool), box, box)
        predictor = self.predictor.load()
        predictor.predict(tile)
        start = time.perf_counter()
        predictor.predict(tile)
        return (time.perf_counter() - start) / box.area * self.plan.pixels * HALO_WORK

    def _predict(self) -> None:
        tasks = list(self.plan.tasks(self.predictor, self.run.blocks, allow_remote=self.reading.allow_remote))
        todo = [task for task in tasks if not task.path.exists()]
        if len(todo) < len(tasks):
            self.progress.note(f"taking up a run: {len(tasks) - len(todo):,} of {len(tasks):,} blocks are done")
        with self._stage("blocks", sum(task.core.area for task in todo)):
            for report in run_tasks(local(), run_block, todo, in_flight=LOCAL_WORKERS):
                self.progress.advance(report.core_px)
                for name, spent in report.seconds.items():
                    self.seconds[name] = self.seconds.get(name, 0.0) + spent
        lost_px = self.run.lost_px()
        if lost_px:
            self.progress.note(f"warning: {lost_px:,} pixels of the input could not be read and are nodata")

    def _check_source(self) -> None:
        planned = self.plan.source
        if describe(planned.path, allow_remote=self.reading.allow_remote).digest != planned.digest:
            shutil.rmtree(self.run.blocks, ignore_errors=True)  # nobody knows which of them are of which input
            raise OutputError(f"{planned.path} changed during the run, so there is no result: run again")

    def _mosaic(self) -> None:
        from aerialseg.raster.sink import mosaic

        plan, run = self.plan, self.run
        paths = run.classes, run.confidence
        mosaic(plan.grid, lambda i: plan.block_path(i, run.blocks), plan.view, *paths, progress=self.progress.advance)

    def _polygonize(self, metadata: dict[str, str]) -> LayerInfo:
        from aerialseg.vector.layers import polygonize

        done = 0.0

        def report(fraction: float) -> None:
            nonlocal done
            self.progress.advance(fraction - done)
            done = fraction

        with self._stage("polygons", 1.0):
            return polygonize(
                self.run.classes,
                self.run.confidence,
                self.run.products / LAYER,
                legend=self.predictor.card.legend,
                min_pixels=self.plan.min_pixels,
                tolerance_px=self.plan.tolerance_px,
                pixel_m=self.plan.view.gsd_m,
                metadata=metadata,
                progress=report,
            )

    def _rasters(self, metadata: dict[str, str]) -> None:
        from aerialseg.raster.cog import write_cog

        sources = {CLASSES: (self.run.classes, self.predictor.card.legend), CONFIDENCE: (self.run.confidence, None)}
        wanted = [name for name in sources if name in self.outputs.products]
        if not wanted:
            return
        with self._stage("rasters", len(wanted)):
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
            "model_licence": card.licence,
            "plan_digest": self.plan.digest,
        }
        return {name: value for name, value in values.items() if value}

    def _result(self, info: LayerInfo, *, keep: bool) -> Result:
        total = sum(info.area_m2.values()) or 1.0
        legend = self.predictor.card.legend
        shares = [
            ClassShare(class_id, legend[class_id].name, legend[class_id].hex, area, area / total)
            for class_id, area in info.area_m2.items()
        ]
        return Result(
            paths=self.outputs.paths,
            classes=tuple(sorted(shares, key=lambda line: -line.share)),
            polygons=info.polygons,
            valid_px=sum(info.pixels.values()),
            lost_px=self.run.lost_px(),
            seconds=dict(self.seconds),
            plan=self.plan,
            run=self.run.folder if keep else None,
        )

    @contextmanager
    def _stage(self, name: str, total: float) -> Iterator[None]:
        self.progress.stage(name, total)
        start = time.perf_counter()
        yield
        release()
        self.seconds[name] = time.perf_counter() - start


def _report(result: Result, metadata: dict[str, str]) -> dict[str, Any]:
    return {
        **metadata,
        "paths": [str(path) for path in result.paths],
        "polygons": result.polygons,
        "valid_px": result.valid_px,
        "lost_px": result.lost_px,
        "seconds": {name: round(spent, 3) for name, spent in result.seconds.items()},
        "area_m2": {line.name: line.area_m2 for line in result.classes},
    }

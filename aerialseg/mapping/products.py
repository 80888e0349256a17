"""What a run makes of its class raster: the layer, the rasters, and the provenance that travels inside each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg._version import __version__
from aerialseg.mapping.outputs import CLASSES, CONFIDENCE, CONFIDENCE_STYLE, Outputs
from aerialseg.mapping.plan import Plan
from aerialseg.mapping.run import Run
from aerialseg.mapping.sources import provenance
from aerialseg.mapping.timeline import Timeline
from aerialseg.memory import release_freed_memory
from aerialseg.progress import Progress, fractions

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.interface import PredictorSpec
    from aerialseg.vector.layers import LayerInfo
    from aerialseg.vector.qgis_project import Project

SMALL_PX = 1_000_000
"""Below this, threads and trimmed memory cost more than they bring."""

MAX_IMAGES = 20
"""Source files that the project for QGIS shows; a larger mosaic is left out of it."""


@dataclass(frozen=True)
class Work:
    """What the stages of one run have in common. ``timestamp``: see `source_date`."""

    plan: Plan
    predictor: PredictorSpec
    outputs: Outputs
    run: Run
    timestamp: datetime
    progress: Progress
    cluster: Cluster | None = None
    timeline: Timeline = field(default_factory=Timeline)


def release_memory(plan: Plan) -> None:
    """Memory that a stage has freed goes back to the system, where there is enough of it to be worth the time."""
    if plan.pixels >= SMALL_PX:
        release_freed_memory()


def metadata_of(work: Work, hashes: Mapping[str, str]) -> dict[str, str]:
    """Provenance that travels inside every product; ``hashes``: path -> SHA-256 of the inputs, where they are known."""
    plan, card = work.plan, work.predictor.card
    paths = [piece.path for piece in plan.view.pieces]
    origin = provenance(paths, hashes)
    values = {
        "title": f"Land cover of {Path(origin['source']).name}",
        "software": f"aerialseg {__version__}",
        **origin,
        "source_digest": plan.view.pieces[0].digest if len(paths) == 1 else "",
        "source_note": plan.view.note,
        "model": card.name,
        "model_digest": plan.model_digest,
        "numerics": plan.numerics,
        "model_licence": card.licence,
        "answer_step_px": str(card.answer_step_px) if card.answer_step_px > 1 else "",
        "tiling": plan.tiling,
        "blocks_digest": plan.blocks_digest,
        "plan_digest": plan.digest,
        "area_of_interest": plan.aoi.name if plan.aoi else "",
        "corrections": plan.corrections.note if plan.corrections else "",
        "unused_sources": "; ".join(path for path, _ in plan.view.refused),
    }
    return {name: value for name, value in values.items() if value}


def draw_layer(work: Work, metadata: dict[str, str]) -> LayerInfo:
    """The layer, written among the run's products. Raises OutputError."""
    from aerialseg.mapping.workers import task_pool
    from aerialseg.vector.layers import polygonize

    plan, run = work.plan, work.run
    work.progress.stage("polygons", 1.0)
    with work.timeline.measure("polygons", plan.pixels), task_pool(work.cluster, plan.pixels) as workers:
        return polygonize(
            run.classes,
            run.confidence,
            run.products / work.outputs.layer_product,
            legend=work.predictor.card.map_legend,
            **asdict(plan.layer),
            pixel_m=plan.view.gsd_m,
            metadata=metadata,
            timestamp=work.timestamp,
            fixed=plan.corrections.fixed(plan.grid.answered) if plan.corrections else None,
            project=_project(work.outputs, plan, metadata["title"]),
            pool=workers,
            progress=fractions(work.progress),
        )


def _project(outputs: Outputs, plan: Plan, title: str) -> Project:
    """What the project for QGIS shows: the rasters that are products, and the imagery where it is a few local files."""
    from aerialseg.vector.qgis_project import Image, Project

    pieces = {Path(piece.path): piece for piece in plan.view.pieces}
    masks = {Path(one.path): one.count + 1 for one in plan.sources}  # QGIS takes a mask for one more band
    images = [
        Image(path, one.bands, one.alpha or (masks[path] if one.internal_mask else 0), one.scale)
        for path, one in pieces.items()
        if path.is_file()
    ]
    few = len(pieces) == len(images) <= MAX_IMAGES
    return Project(outputs.layer, title, outputs.raster, outputs.confidence, tuple(images) if few else ())


def write_rasters(work: Work, metadata: dict[str, str]) -> None:
    """The class and confidence raster that are wanted, written among the run's products. Raises OutputError."""
    from aerialseg.raster.cog import write_cog
    from aerialseg.raster.ramp import ramp_qml

    sources = {CLASSES: (work.run.classes, work.predictor.card.map_legend), CONFIDENCE: (work.run.confidence, None)}
    wanted = [name for name in sources if name in work.outputs.products]
    if not wanted:
        return
    release_memory(work.plan)
    work.progress.stage("rasters", len(wanted))
    with work.timeline.measure("rasters", work.plan.pixels * len(wanted)):
        for name in wanted:
            source, legend = sources[name]
            write_cog(source, work.run.products / name, legend=legend, metadata=metadata)
            work.progress.advance(1)
    if CONFIDENCE_STYLE in work.outputs.products:
        (work.run.products / CONFIDENCE_STYLE).write_text(ramp_qml(), encoding="utf-8")

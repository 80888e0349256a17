"""The main job: from an orthophoto to a finished land-cover layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aerialseg.mapping.estimate import RunEstimate, decide_blocks, estimate_run
from aerialseg.mapping.predictors import PathLike
from aerialseg.mapping.result import Result
from aerialseg.mapping.run import check_free, find_changes
from aerialseg.mapping.segment_run import check_disks, prepare
from aerialseg.mapping.signatures import with_settings
from aerialseg.progress import Progress

if TYPE_CHECKING:
    from aerialseg.mapping.workers import Cluster
    from aerialseg.model.interface import PredictorSpec


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
    job = prepare(
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
    work = prepare(source, output, **options).work
    check_free(work.run)
    changes = find_changes(work.run, work.plan)
    check_disks(work)
    blocks = decide_blocks(work.plan, work.predictor, work.run, changes)
    return estimate_run(work.plan, work.predictor, blocks, work.outputs.paths, here=work.cluster is None)

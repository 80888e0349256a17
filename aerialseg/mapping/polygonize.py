"""From a class raster of any origin to a finished layer: what ``aerialseg polygonize`` does."""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg._version import __version__
from aerialseg.errors import InputError, UsageError
from aerialseg.executor import TaskPool
from aerialseg.legend import Legend
from aerialseg.mapping.carried import answer_step_px, carried
from aerialseg.mapping.outputs import Outputs, lock_of, lock_outputs
from aerialseg.mapping.plan import LayerPlan
from aerialseg.mapping.result import LayerResult, class_shares, spoken_doubts
from aerialseg.mapping.settings import check_settings
from aerialseg.mapping.signatures import with_settings
from aerialseg.progress import Progress, Silent, fractions
from aerialseg.vector.formats import LAYER_NAME

if TYPE_CHECKING:
    from aerialseg.raster.classes import ClassRaster

PathLike = str | Path

_RESERVED = ("gpkg", "sqlite_", "rtree_", "layer_styles")


POLYGON_SETTINGS = ("min_area_m2", "simplify_m", "smooth", "dissolve", "max_pixels", "require_crs")


@with_settings(*POLYGON_SETTINGS, min_area_m2="0 (none is merged)")
def polygonize(
    classes: PathLike,
    output: PathLike,
    *,
    legend: PathLike | Legend | None = None,
    confidence: PathLike | None = None,
    layer: str = LAYER_NAME,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> LayerResult:
    """The files made and their statistics, for the class raster ``classes`` as polygons in the layer ``output``.

    Every pixel that is not nodata lies in exactly one polygon. Outputs are written atomically. Without a coordinate
    reference system, metres are pixels.

    Parameters
    ----------
    classes : path
        A GeoTIFF with one band of class ids, 0 to 65535, in any type, also whole numbers as floats.
    output : path
        Its ending is the format: .gpkg, .fgb, .parquet or .geojson.
    legend : Legend or path
        Names and colours of the classes, or a CSV file of them (id,name,r,g,b). Default: the raster's own attribute
        table, category names and colour table; "class 7" for a name that is missing.
    confidence : path
        Confidence raster on the same grid, uint8, 0 to 100 %.
    layer : str
        Name of the layer.
    workers : int
        Threads. Default: one for each processor.
    overwrite : bool
        Replace outputs that exist; other layers of a GeoPackage stay.
    progress : Progress
        Listener for stages and messages.
    {settings}

    Raises
    ------
    UsageError
        An output exists, is an input, or a setting has no such value.
    InputError
        ``classes``, ``legend`` or ``confidence`` cannot be read or do not fit together, as those of different runs.
    OutputError
        The layer cannot be written.
    ResourceError
        Not enough memory or disk space.
    """
    from aerialseg.raster.classes import ClassRaster
    from aerialseg.raster.opening import local_path
    from aerialseg.vector.formats import check_place
    from aerialseg.vector.layers import polygonize as write_layer
    from aerialseg.vector.qgis_project import Project

    wanted = check_settings(settings, POLYGON_SETTINGS)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}: wanted 1 or more")
    _check_layer_name(layer)
    listener = progress or Silent()
    inputs = [path for path in (classes, confidence, legend) if isinstance(path, (str, Path))]
    outputs = Outputs.check(inputs, output, dissolve=wanted.dissolve, overwrite=overwrite, layer_name=layer)
    names = legend if isinstance(legend, Legend) or legend is None else Legend.from_csv(legend)
    source = local_path(classes)
    rated = None if confidence is None else local_path(confidence)
    raster = ClassRaster(source, rated)
    _check_size(raster, source, wanted.max_pixels)
    check_place(outputs.layer, raster.geo.crs)
    pixel_m = _pixel_size(raster, listener, required=wanted.require_crs)
    metadata = _metadata(source)
    begun = time.perf_counter()
    with lock_outputs(outputs.paths), TaskPool(workers) as pool:
        listener.stage("polygons", 1.0)
        info = write_layer(
            source,
            rated,
            outputs.layer,
            legend=names,
            **asdict(LayerPlan.of(wanted, pixel_m, min_pixels=0, step_px=answer_step_px(metadata))),
            layer=layer,
            metadata=metadata,
            project=Project(outputs.layer, metadata["title"], source, rated),
            pool=pool,
            progress=fractions(listener),
        )
    seconds = time.perf_counter() - begun
    for doubt in spoken_doubts(math.prod(raster.geo.shape), sum(info.pixels.values())):
        listener.note(f"warning: {doubt}")
    times = {"polygons": seconds, "total": seconds}
    return LayerResult(outputs.paths, class_shares(info), info.polygons, info.merged, times)


def _check_layer_name(layer: str) -> None:
    if layer.lower().startswith(_RESERVED) or not layer.isprintable() or not layer[:1].replace("_", "a").isalnum():
        raise UsageError(
            f"--layer is {layer!r}: wanted a name that begins with a letter or digit and is not one of the "
            "GeoPackage's own"
        )


def discard(output: PathLike) -> None:
    """Remove what an interrupted `polygonize` may have left beside ``output``."""
    from aerialseg.vector.formats import layer_files
    from aerialseg.vector.writing import remove_parts

    path = Path(output).absolute()
    with suppress(OSError, UsageError):
        files = layer_files(path, dissolve=True)
        remove_parts(files)
        for file in files:
            lock_of(file).unlink(missing_ok=True)


def _check_size(raster: ClassRaster, source: Path, max_pixels: int) -> None:
    if math.prod(raster.geo.shape) > max_pixels:
        raise InputError(
            f"{source} has {raster.geo.width:,} x {raster.geo.height:,} px, more than --max-pixels {max_pixels:,}: "
            "give a higher number if that is meant"
        )


def _pixel_size(raster: ClassRaster, listener: Progress, *, required: bool) -> tuple[float, float]:
    """Ground size (x, y) of a pixel: metres, or pixels where the raster has no CRS to tell it."""
    from aerialseg.raster.georef import ONE_PIXEL

    if raster.geo.crs is None:
        if required:
            raise InputError(f"{raster.classes} has no coordinate system (CRS); add it: gdal_edit.py -a_srs EPSG:CODE")
        listener.note(
            "warning: the raster has no coordinate system (CRS): lengths and areas, --simplify and --min-area too, are "
            "in pixels (px, px²); add it with gdal_edit.py -a_srs EPSG:CODE to have metres"
        )
    return raster.geo.pixel_size_m or ONE_PIXEL


def _metadata(source: Path) -> dict[str, str]:
    """Provenance that travels inside the layer."""
    from aerialseg.raster.describe import source_sha256

    raster = {"source": str(source), "source_sha256": source_sha256(source)}
    known = carried(source)
    if "source" in known:
        raster = {f"class_raster{name.removeprefix('source')}": value for name, value in raster.items()}
    return {"title": f"Land cover of {source.name}", **raster, **known, "software": f"aerialseg {__version__}"}

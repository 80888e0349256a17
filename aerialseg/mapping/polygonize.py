"""From a class raster of any origin to a finished layer: what ``aerialseg polygonize`` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg._version import __version__
from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.legend import Legend
from aerialseg.mapping.outputs import Outputs
from aerialseg.mapping.plan import Generalization
from aerialseg.mapping.result import LayerResult, shares
from aerialseg.progress import Progress, Silent
from aerialseg.raster.view import MAX_PIXELS

if TYPE_CHECKING:
    from aerialseg.raster.classes import ClassRaster

PathLike = str | Path

_RESERVED = ("gpkg_", "sqlite_", "rtree_", "layer_styles")


def polygonize(
    classes: PathLike,
    output: PathLike,
    *,
    legend: PathLike | Legend | None = None,
    confidence: PathLike | None = None,
    min_area_m2: float = 0,
    simplify_m: float | None = None,
    smooth: bool = False,
    dissolve: bool = False,
    layer: str = "landcover",
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> LayerResult:
    """Make the class raster ``classes`` into the polygons of the layer ``output``; return what was made.

    classes: a GeoTIFF with one band of uint8 or uint16. Every pixel that is not nodata comes to lie in exactly one
    polygon. output: its ending is the format: .gpkg, .fgb, .parquet or .geojson. legend: names and colours of the
    classes, or a CSV file of them (name, r, g, b and id); by default the raster's own attribute table, category names
    and colour table, and names like "class 7" for what these lack. confidence: uint8 per cent on the same grid.
    min_area_m2: smaller regions are merged into neighbours. simplify_m: how far lines may move (default: 1.5 pixels;
    0: none). smooth: round the corners of the lines. dissolve: a second layer, or file, ends in ``_by_class`` and has
    one multipolygon for each class. workers: threads (default: one for each processor). Without a coordinate reference
    system, metres are units of the raster.

    The files appear at their names only when whole. Raises UsageError, InputError, OutputError, ResourceError.
    """
    from aerialseg.raster.classes import ClassRaster
    from aerialseg.raster.opening import local_path
    from aerialseg.vector.formats import check_place
    from aerialseg.vector.layers import polygonize as write_layer

    generalization = Generalization(min_area_m2, simplify_m, smooth, dissolve)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}: wanted 1 or more")
    if not layer.strip() or layer.lower().startswith(_RESERVED):
        raise UsageError(f"--layer is {layer!r}: wanted a name that is not one of the GeoPackage's own")
    listener = progress or Silent()
    outputs = Outputs.check(classes, output, dissolve=dissolve, overwrite=overwrite)
    names = legend if isinstance(legend, Legend) or legend is None else Legend.from_csv(legend)
    source = local_path(classes)
    rated = None if confidence is None else local_path(confidence)
    raster = ClassRaster(source, rated)
    _check_size(raster, source, max_pixels)
    check_place(outputs.layer, raster.crs)
    pixel_m = _pixel_size(raster, listener)
    begun = time.perf_counter()
    with _alone(outputs):
        listener.stage("polygons", 1.0)
        info = write_layer(
            source,
            rated,
            outputs.layer,
            legend=names,
            min_pixels=generalization.min_pixels(pixel_m, default=0),
            tolerance_px=generalization.tolerance_px(pixel_m),
            smooth=generalization.smoothing,
            dissolve=dissolve,
            layer=layer,
            metadata=_metadata(source),
            workers=workers,
            progress=_advancing(listener),
        )
    seconds = time.perf_counter() - begun
    return LayerResult(
        paths=outputs.paths,
        classes=shares(info.area_m2, info.legend),
        polygons=info.polygons,
        merged=info.merged,
        seconds={"polygons": seconds, "total": seconds},
    )


def discard(output: PathLike) -> None:
    """Remove what an interrupted `polygonize` may have left beside ``output``."""
    from aerialseg.vector.formats import layer_files
    from aerialseg.vector.writing import remove_parts

    path = Path(output).absolute()
    with suppress(OSError, UsageError):
        remove_parts(layer_files(path, dissolve=True))
        _lock_of(path).unlink(missing_ok=True)


@contextmanager
def _alone(outputs: Outputs) -> Iterator[None]:
    """Hold the output; OutputError "in use" where another living process does."""
    from filelock import FileLock, Timeout

    path = _lock_of(outputs.layer)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"{outputs.layer} is in use by another run: wait, or choose another output") from error
    except OSError as error:
        raise OutputError(f"cannot write beside {outputs.layer}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _lock_of(output: Path) -> Path:
    from aerialseg.vector.writing import part_of

    return part_of(output).with_suffix(".lock")


def _check_size(raster: ClassRaster, source: Path, max_pixels: int) -> None:
    if raster.height * raster.width > max_pixels:
        raise InputError(
            f"{source} has {raster.width:,} x {raster.height:,} px, more than --max-pixels {max_pixels:,}: "
            "give a higher number if that is meant"
        )


def _pixel_size(raster: ClassRaster, listener: Progress) -> tuple[float, float]:
    """Ground size (x, y) of a pixel: metres, or units of the transform where the raster has no CRS to tell it."""
    from aerialseg.raster.georef import pixel_size_m

    a, b, _, d, e, _ = raster.transform
    if raster.crs is None:
        listener.note("warning: the raster has no coordinate reference system: lengths and areas are in its own units")
        return math.hypot(a, d), math.hypot(b, e)
    transform = (a, b, raster.transform[2], d, e, raster.transform[5])
    measured = pixel_size_m(raster.crs, transform, raster.height, raster.width)
    return measured or (math.hypot(a, d), math.hypot(b, e))


def _metadata(source: Path) -> dict[str, str]:
    """Provenance that travels inside the layer."""
    from aerialseg.raster.describe import source_sha256

    return {
        "title": f"Land cover of {source.name}",
        "software": f"aerialseg {__version__}",
        "source": str(source),
        "source_sha256": source_sha256(source),
    }


def _advancing(listener: Progress) -> Callable[[float], None]:
    done = 0.0

    def report(fraction: float) -> None:
        nonlocal done
        listener.advance(fraction - done)
        done = fraction

    return report

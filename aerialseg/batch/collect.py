"""The results of a job as one data set: one layer, one mosaic, one STAC collection."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.batch.inputs import JobInput, is_selected
from aerialseg.batch.ledger import DONE, Entry, Ledger
from aerialseg.batch.status import job_folder
from aerialseg.errors import InputError, OutputError, UsageError
from aerialseg.files import absolute
from aerialseg.legend import Legend
from aerialseg.mapping.carried import answer_step_px, carried_by_all
from aerialseg.mapping.outputs import Outputs, check_not_inputs
from aerialseg.mapping.plan import LayerPlan
from aerialseg.mapping.settings import MapSettings
from aerialseg.progress import Progress, Silent, counted
from aerialseg.raster.cog import write_cog
from aerialseg.raster.describe import source_date
from aerialseg.raster.georef import ONE_PIXEL
from aerialseg.raster.mosaic import Patchwork, SourceTile, patchworks, read_tile, write_mosaic, write_vrt
from aerialseg.raster.palette import read_palette
from aerialseg.vector.joined import Part, polygonize_parts

LAYERS = (".gpkg", ".parquet")
MOSAICS = (".vrt", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to make: a layer (.gpkg, .parquet), a mosaic (.vrt, .tif), a folder for a STAC collection."""

    layer: Path | None = None
    mosaic: Path | None = None
    stac: Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raise UsageError where nothing is wanted, an ending is unknown, or something stands there already."""
        if not self.paths:
            raise UsageError("nothing to collect into: give --layer, --mosaic or --stac")
        for path, endings in ((self.layer, LAYERS), (self.mosaic, MOSAICS)):
            if path is not None and path.suffix.lower() not in endings:
                raise UsageError(f"{path} must end in {' or '.join(endings)}")
        for path in self.paths:
            if path != self.layer and os.path.lexists(path) and not self.overwrite:
                raise UsageError(f"{path} exists: add --overwrite to replace it")
            if not path.absolute().parent.is_dir():
                raise OutputError(f"the folder {path.absolute().parent} does not exist: make it first")
        if self.layer is not None:
            Outputs(absolute(self.layer)).check_free(overwrite=self.overwrite)

    def check_inputs(self, entries: Sequence[Entry]) -> None:
        """Raise UsageError where the layer or the mosaic would replace one of the job's files."""
        touched = {absolute(path): path for path in (self.layer, self.mosaic) if path is not None}
        check_not_inputs(touched, [path for entry in entries for path in (entry.source, *entry.outputs.values())])

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.layer, self.mosaic, self.stac) if path is not None)


def collect(
    job: str | Path, wanted: Wanted, *, only: str | None = None, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Collect the finished inputs of a job (its folder, or its file) into what is wanted; return the paths made.

    The layer is drawn from the class rasters, so that regions go on over the borders of rasters of one grid. Raises
    InputError (nothing is finished, no class rasters, several models), UsageError, OutputError.
    """
    wanted.check()
    progress = progress or Silent()
    entries = finished_entries(job, only)
    wanted.check_inputs(entries)
    if wanted.layer or wanted.mosaic:
        tiles = [read_tile(_raster(entry, "raster")) for entry in entries]
        legend = read_palette(tiles[0].path).legend(())
        if wanted.mosaic:
            progress.stage("mosaic", 1)
            _mosaic(tiles, wanted.mosaic, legend, _metadata(job, entries))
        if wanted.layer:
            progress.stage("polygons", 1)
            _layer(tiles, entries, wanted.layer, legend, _metadata(job, entries))
    if wanted.stac:
        from aerialseg.batch.stac_out import write_collection

        progress.stage("collection", 1)
        write_collection(entries, wanted.stac, title=job_folder(job).stem, overwrite=wanted.overwrite)
    return tuple(map(absolute, wanted.paths))


def finished_entries(job: str | Path, only: str | None = None) -> list[Entry]:
    """The finished inputs, in the order of their names. Raises InputError where there are none, or models differ."""
    folder = job_folder(job)
    with Ledger(folder, read_only=True) as ledger:
        found = [
            entry for entry in ledger.entries(status=DONE) if is_selected(JobInput(entry.source, entry.name), only)
        ]
    if not found:
        raise InputError(f"{folder} has no finished input{f' that matches {only}' if only else ''}: run the job first")
    if len({entry.model for entry in found}) > 1:
        raise InputError(f"the results in {folder} are of several models, whose classes may differ: run the job first")
    return found


def _raster(entry: Entry, kind: str) -> str:
    path = entry.outputs.get(kind)
    if path is None:
        raise InputError(
            f"{entry.name} has no class raster to collect: give outputs.raster in the job file, and run the job"
        )
    return path


def _metadata(job: str | Path, entries: Sequence[Entry]) -> dict[str, str]:
    return {
        "title": f"Land cover of {counted(len(entries), 'raster')} of the job {job_folder(job).stem}",
        "software": f"aerialseg {__version__}",
        "model_digest": entries[0].model,
        **carried_by_all([_raster(entry, "raster") for entry in entries]),
    }


def _mosaic(tiles: Sequence[SourceTile], path: Path, legend: Legend, metadata: dict[str, str]) -> None:
    found = patchworks(tiles)
    if len(found) > 1:
        odd = found[1].tiles[0][0].path
        raise InputError(
            f"the class rasters lie on {len(found)} grids ({odd} is not on the first one's), a mosaic has one: choose "
            "some with --only, or run the job with resolution = 'native', so that they are not resampled each by itself"
        )
    if path.suffix.lower() == ".vrt":
        write_vrt(found[0], path, legend)
        return
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as aside:
        write_mosaic(found[0], Path(aside) / "mosaic.tif")
        write_cog(Path(aside) / "mosaic.tif", path, legend=legend, metadata=metadata)


def _layer(
    tiles: Sequence[SourceTile], entries: Sequence[Entry], path: Path, legend: Legend, metadata: dict[str, str]
) -> None:
    shape = MapSettings(**_common(entries))
    timestamp = source_date(*(entry.source for entry in entries))
    rated = {tile.path: entry.outputs.get("confidence") for tile, entry in zip(tiles, entries, strict=True)}
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as aside:
        step_px = answer_step_px(metadata)
        parts = [_part(work, rated, shape, step_px, Path(aside) / str(n)) for n, work in enumerate(patchworks(tiles))]
        polygonize_parts(parts, path, legend=legend, timestamp=timestamp, metadata=metadata)


def _common(entries: Sequence[Entry]) -> dict[str, Any]:
    """Generalisation as the job had it. Raises InputError where inputs differ in it."""
    found = {}
    for name in ("min_area_m2", "simplify_m", "smooth"):
        values = {entry.settings.get(name) for entry in entries}
        if len(values) > 1:
            raise InputError(f"inputs differ in {name}, one layer has one: choose some with --only")
        value = values.pop()
        if value is not None:
            found[name] = value
    return found


def _part(work: Patchwork, rated: dict[Path, str | None], shape: MapSettings, step_px: int, aside: Path) -> Part:
    """The tiles of one grid as one raster (of one tile, that one itself)."""
    aside.mkdir()
    classes = aside / "classes.tif"
    write_mosaic(work, classes)
    confidence = None
    paths = [rated[tile.path] for tile, _ in work.tiles]
    if all(paths):
        own = [(read_tile(str(path)), box) for path, (_, box) in zip(paths, work.tiles, strict=True)]
        confidence = aside / "confidence.tif"
        write_mosaic(replace(work, tiles=tuple(own)), confidence)
    pixel_m = work.geo.pixel_size_m or ONE_PIXEL
    plan = LayerPlan.of(shape, pixel_m, step_px=step_px)
    return Part(classes, confidence, plan.min_pixels, plan.tolerance_px, plan.smooth)

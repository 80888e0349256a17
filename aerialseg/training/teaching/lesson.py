"""What is taught: labels of any kind as chips of the orthophotos, on the ground that earlier teaching has parted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely

from aerialseg.datasets.chips import make_chips
from aerialseg.datasets.chipset import ChipSet
from aerialseg.datasets.drawn_labels import DrawnLabels, read_labels, spoken_counts
from aerialseg.datasets.ground_blocks import GroundLattice, KeptGround
from aerialseg.datasets.label_checks import check_known, check_labels
from aerialseg.datasets.label_layer import write_label_layer
from aerialseg.errors import InputError, ModelError, UsageError
from aerialseg.files import naming_errors, parse_json, printable
from aerialseg.legend import Legend
from aerialseg.mapping.settings import SETTINGS
from aerialseg.mapping.source_files import find_sources
from aerialseg.progress import Progress, counted
from aerialseg.raster.bounds import check_overlap
from aerialseg.raster.classes import ClassFile
from aerialseg.raster.describe import RasterInfo, describe
from aerialseg.raster.palette import read_palette
from aerialseg.raster.view import View, make_view
from aerialseg.raster.working_grid import split_gsd
from aerialseg.toml import build

PathLike = str | Path
TEACHING, LABELS = "teaching.json", "labels.gpkg"
"""What a taught model keeps of its teaching beside its card: where, and what was labelled."""
SIZES = (512, 256, 128, 64)
"""Pixels along the side of a chip: the first of which the orthophotos hold so many."""
ENOUGH_CHIPS = 12
LEAST_LABELLED = 1e-4
"""Of a chip's pixels: chips with fewer labels are left out."""
WIDTH_PX = 5
"""Of points and lines, unless told."""


@dataclass(frozen=True, slots=True)
class OrthoReading:
    """How the orthophotos are read, as `MapSettings` has it: red, green and blue, values, mask, size of pixels."""

    bands: tuple[int, ...] | None = None
    scale: tuple[float, ...] | None = None
    alpha: Literal["auto", "none"] = "auto"
    pixel_size_m: float | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is not the default."""
        return {name: value for name, value in asdict(self).items() if value != getattr(OrthoReading(), name)}

    @property
    def options(self) -> str:
        """What a map of the same orthophotos needs on the command line."""
        return "".join(
            f" --{SETTINGS[name].option} {value if isinstance(value, str) else _joined(value)}"
            for name, value in self.given.items()
        )


def _joined(numbers: float | tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in (numbers if isinstance(numbers, tuple) else (numbers,)))


@dataclass(frozen=True, slots=True)
class Taught:
    """What is kept of a teaching, for ``--more``: JSON beside the model's card.

    gsd: its resolution, metres per pixel as asked, or "native".
    """

    orthos: tuple[str, ...]
    crs: str
    gsd: str
    size: int
    origin: tuple[float, float]
    side: tuple[float, float]
    chips: tuple[int, int]
    held_out: Mapping[str, bool]
    reading: OrthoReading = OrthoReading()

    @classmethod
    def of(cls, made: ChipSet, lesson: Lesson) -> Taught:
        lattice, blocks = made.lattice, {block.name: held for block, held in made.blocks.items()}
        crs = made.views[0].geo.crs or ""
        size, gsd = made.size[0], str(lesson.resolution)
        ground = lattice.origin, lattice.side, lattice.chips
        return cls(lesson.orthos, crs, gsd, size, *ground, blocks, lesson.reading)

    @classmethod
    def read(cls, model: Path) -> Taught:
        """Raises ModelError where the model was not made by ``aerialseg teach``."""
        path = model / TEACHING
        if not path.is_file() or not (model / LABELS).is_file():
            raise ModelError(
                f"{printable(model)} has no {TEACHING} and {LABELS}, so 'aerialseg teach' has not made it: give --from "
                "instead of --more to start from it"
            )
        try:
            found: Taught = build(cls, parse_json(path, "teaching"), "teaching")
        except (InputError, UsageError) as error:
            raise ModelError(f"{printable(path)}: {error}") from error
        return found

    @property
    def scale(self) -> tuple[float | Literal["native"], float | None]:
        """Resolution and pixel size. Earlier versions kept the latter as ``gsd`` where there is no CRS."""
        resolution: float | Literal["native"] = "native" if self.gsd == "native" else float(self.gsd)
        if resolution == "native" or self.crs or self.reading.pixel_size_m is not None:
            return resolution, self.reading.pixel_size_m
        return "native", resolution

    @property
    def ground(self) -> KeptGround:
        return KeptGround(GroundLattice(self.origin, self.side, self.chips), self.held_out)

    def text(self) -> str:
        return json.dumps({**asdict(self), "reading": self.reading.given}, indent=1) + "\n"


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What is to be taught: orthophotos that are read as one ``view``, and labels; ``before``: of an earlier time."""

    orthos: tuple[str, ...]
    view: View
    resolution: float | Literal["native"]
    labels: DrawnLabels | None
    raster: Path | None
    legend: Legend
    before: Taught | None = None
    reading: OrthoReading = OrthoReading()

    @property
    def size(self) -> int:
        """Pixels along the side of a chip."""
        if self.before is not None:
            return self.before.size
        pixels = math.prod(self.view.shape)
        return next((size for size in SIZES if pixels >= ENOUGH_CHIPS * size**2), SIZES[-1])

    def cut(self, folder: Path, progress: Progress, *, held_out: float, seed: int) -> ChipSet:
        """The chips in ``folder``. Raises InputError, OutputError."""
        labels = self.raster
        with naming_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        if self.labels is not None:
            labels = folder.with_name(LABELS)
            write_label_layer(labels, self.labels.geometries, self.labels.names, self.legend, self.labels.crs)
        assert labels is not None
        return make_chips(
            [self.orthos],
            labels,
            folder,
            legend=self.legend,
            resolution_m=self.resolution,
            size=(self.size, self.size),
            held_out=held_out,
            seed=seed,
            min_labelled=LEAST_LABELLED,
            keep=self.before.ground if self.before else None,
            overwrite=True,
            progress=progress,
            **asdict(self.reading),
        )


def prepare_lesson(
    orthos: Sequence[PathLike],
    labels: PathLike,
    *,
    field: str | None,
    layer: str | None,
    width_m: float | None,
    resolution: float | Literal["native"],
    more: Path | None,
    legend: Legend | None,
    progress: Progress,
    reading: OrthoReading = OrthoReading(),
    gsd: float | Literal["native"] | None = None,
) -> Lesson:
    """The lesson, checked: what is wrong with the labels is said, or raised, before anything is computed.

    more: folder of a taught model that goes on learning, and ``legend``, its classes. Raises InputError, ModelError.
    """
    before = Taught.read(more) if more else None
    paths = find_sources(orthos) if orthos else []
    paths += [path for path in (before.orthos if before else ()) if path not in paths]
    infos = [describe(path) for path in paths]
    resolution, reading = _scale(infos, before, gsd, resolution, reading)
    view = make_view(infos, model_gsd_m=None, resolution_m=resolution, **asdict(reading))
    if view.gsd_m is None:
        raise InputError(f"{printable(view.path)}: the size of its pixels is not known; give --pixel-size METRES")
    _say_resolution(view, resolution, progress)
    if Path(labels).suffix.lower() in (".tif", ".tiff"):
        lesson = Lesson(tuple(paths), view, resolution, None, Path(labels), Legend(()), before, reading)
        lesson = _of_raster(lesson, legend)
        progress.note(f"{counted(len(lesson.legend), 'class')} of {printable(labels)}: {lesson.legend.spoken}")
        return lesson
    given = read_labels(labels, field=field, layer=layer)
    if given.left_out:
        progress.note(f"{counted(given.left_out, 'feature')} without a tick in 'checked': left out")
    if given.unnamed:
        progress.note(f"{counted(given.unnamed, 'feature')} without a class in {given.field!r}: left out")
    found = _brought(given, view, width_m, progress)
    left, bottom, right, top = map(float, shapely.total_bounds(found.geometries))
    check_overlap(view.path, view.geo, found.path, found.crs, (left, bottom, right, top))
    inside = found.within(view.geo.bounds)
    if len(inside.names) < len(found.names):
        progress.note(f"{len(found.names) - len(inside.names)} of {len(found.names)} labels off the imagery: left out")
    found = inside
    for sentence in check_labels(found, added=more is not None):
        progress.note(sentence)
    if more is not None and legend is not None:
        check_known(found, legend)
        found = _with_old(found, more, view)
    progress.note(spoken_counts(found))
    return Lesson(tuple(paths), view, resolution, found, None, legend or found.legend(), before, reading)


def _scale(
    infos: Sequence[RasterInfo],
    before: Taught | None,
    gsd: float | Literal["native"] | None,
    resolution: float | Literal["native"],
    reading: OrthoReading,
) -> tuple[float | Literal["native"], OrthoReading]:
    """At which resolution and how orthophotos are read: as asked, and for the rest as in the earlier teaching."""
    asked, size = split_gsd(infos, gsd, None if resolution == "native" else resolution, reading.pixel_size_m)
    reading = replace(reading, pixel_size_m=size)
    if before is None:
        return asked or "native", reading
    resolution, size = before.scale
    if asked not in (None, "native", resolution):
        raise UsageError(f"--more keeps the resolution of its teaching ({before.gsd}): leave --resolution {asked} out")
    return resolution, replace(before.reading, **{"pixel_size_m": size, **reading.given})


def _say_resolution(view: View, resolution: float | Literal["native"], progress: Progress) -> None:
    assert view.gsd_m is not None
    size = 100 * math.sqrt(view.gsd_m[0] * view.gsd_m[1])
    why = (
        "the orthophoto's own, in which the labels were drawn (--resolution METRES says another)"
        if resolution == "native"
        else "as asked"
    )
    progress.note(f"resolution: {size:.3g} cm per pixel, {why}")


def _brought(labels: DrawnLabels, view: View, width_m: float | None, progress: Progress) -> DrawnLabels:
    """The labels in the CRS of the view, points and lines with a width."""
    assert view.gsd_m is not None
    gsd_m = math.sqrt(view.gsd_m[0] * view.gsd_m[1])
    if labels.thin and width_m is None:
        width_m = WIDTH_PX * gsd_m
        progress.note(
            f"{counted(labels.thin, 'label')} are points or lines: {WIDTH_PX} pixels wide ({width_m:.3g} m), --width "
            "METRES says otherwise"
        )
    return labels.brought(view.geo.crs, view.geo.span(1, 1)[0] / gsd_m, width_m or 0.0)


def _with_old(labels: DrawnLabels, model: Path, view: View) -> DrawnLabels:
    """The labels that the model was taught with, and on top of them the new ones."""
    old = read_labels(model / LABELS).brought(view.geo.crs, 1.0, 0.0)
    return replace(
        labels,
        geometries=np.concatenate([old.geometries, labels.geometries]),
        names=old.names + labels.names,
        fids=np.concatenate([old.fids, labels.fids]),
    )


def _of_raster(lesson: Lesson, legend: Legend | None) -> Lesson:
    """The lesson with the classes that its class raster has."""
    assert lesson.raster is not None
    if lesson.before is not None:
        raise UsageError(f"--more with {printable(lesson.raster)}: give polygons, which are kept for the next time")
    with ClassFile(lesson.raster) as file:
        values = {int(value) for window in file.windows() for value in np.unique(file.read(window)) if value >= 0}
    palette = read_palette(lesson.raster)
    found = replace(palette, names={value: name for value, name in palette.names.items() if value in values})
    return replace(lesson, legend=legend or found.legend(values))


def spoken_sides(made: ChipSet) -> dict[str, Any]:
    """Facts of a data set for people: labelled pixels of each class on both sides."""
    learned, held = made.pixels(held_out=False), made.pixels(held_out=True)
    return {name: f"{learned[name]:,} px for training, {held[name]:,} px for testing" for name in made.labelled}

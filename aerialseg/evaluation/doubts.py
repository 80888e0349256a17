"""Where a label helps most: blocks in which a map is least confident, spread over the ground and over its classes.

Confidence is the probability of the class that was said. The margin between the two best classes, which only the
network knows, was no better in benchmarks/doubts.py. (Settles 2009, "Active learning literature survey",
sections 3.1 and 5.1, for "least confident" against "margin", and for why places near one another teach the same.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from aerialseg.errors import InputError, UsageError
from aerialseg.files import check_new
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.progress import Progress, Silent
from aerialseg.raster.bounds import same_crs
from aerialseg.raster.classes import ClassFile, check_confidence, to_bytes, to_percent
from aerialseg.raster.grid import Box
from aerialseg.raster.palette import read_palette
from aerialseg.vector.existing import names_of, read_contents
from aerialseg.vector.places import LAYER, write_places

PathLike = str | Path
COUNT, SIDE_PX = 10, 32
MIN_VALID = 0.9
"""Part of a block that must have a class."""
_READ_PX = 1 << 22
_RELAXED = (1.0, 0.5, 0.25, 0.0)
"""Parts of the distance that places keep from one another, until there are enough of them."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Place:
    """A square of the ground: (x, y) of its corners, the class that most of it has on the map, its mean confidence."""

    corners: tuple[tuple[float, float], ...]
    class_id: int
    class_name: str
    confidence: float


@dataclass(frozen=True, slots=True)
class _Blocks:
    """All blocks of a map: upper left pixels (n, 2), centres on the ground (n, 2), classes and confidence."""

    file: ClassFile
    side: int
    pixels: NDArray[np.int64]
    centres: Floats
    classes: NDArray[np.int64]
    confidence: Floats


def find_doubts(
    classes: Sequence[PathLike],
    confidence: Sequence[PathLike],
    output: PathLike,
    *,
    count: int = COUNT,
    side_m: float | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Place]:
    """The places, the least confident first, which the layer ``places`` of the GeoPackage ``output`` has as squares.

    Parameters
    ----------
    classes : sequence of paths
        Class rasters of one coordinate system, as ``segment-raster --raster`` writes them.
    confidence : sequence of paths
        The confidence raster of each, in the same order.
    output : path
        A GeoPackage. QGIS draws its squares as outlines.
    count : int
        How many places.
    side_m : float, m
        Side of a place (pixels where the raster has no coordinate system). Default: 32 pixels of the class raster.
    overwrite : bool
        Replace ``output`` if it exists.
    progress : Progress
        Listener for stages and messages.

    Raises
    ------
    UsageError
        Not one confidence raster for each class raster, or a setting that makes no sense.
    InputError
        A raster cannot be read, they do not fit together, or no block has a class on most of its pixels.
    OutputError
        ``output`` cannot be written.
    """
    output, listener = Path(output).absolute(), progress or Silent()
    _check(classes, confidence, output, count, side_m)
    check_new(output, overwrite=overwrite)
    _check_alone(output)
    with ExitStack() as stack:
        maps = []
        for one, other in zip(classes, confidence, strict=True):
            file, rated = stack.enter_context(ClassFile(one)), stack.enter_context(ClassFile(other))
            check_confidence(rated, file)
            maps.append((file, rated))
        for file, _ in maps[1:]:
            if not same_crs(file.geo.crs, maps[0][0].geo.crs):
                raise InputError(
                    f"{file.path} has another coordinate system than {maps[0][0].path}: make both maps on one grid"
                )
        listener.stage("Looking for doubts", sum(math.prod(file.geo.shape) for file, _ in maps))
        blocks = [_survey(file, rated, _side_px(file, side_m), listener) for file, rated in maps]
        chosen = _choose(blocks, count)
        if not chosen:
            raise InputError(
                f"no square of {blocks[0].side} x {blocks[0].side} px of {maps[0][0].path} has classes on "
                f"{MIN_VALID:.0%} of it: give a smaller --side"
            )
        legend = _legend([file.path for file, _ in maps], blocks)
        places = [_place(blocks[at], number, legend) for at, number in chosen]
        if len(places) < count:
            listener.note(f"{len(places)} places, not {count}: no more blocks; --side METRES takes smaller ones")
        _write(output, places, legend, maps[0][0].geo.crs)
    return places


def _check(
    classes: Sequence[PathLike], confidence: Sequence[PathLike], output: Path, count: int, side_m: float | None
) -> None:
    if len(classes) != len(confidence) or not classes:
        raise UsageError(
            f"{len(classes)} class rasters and {len(confidence)} confidence rasters: wanted --confidence once for each "
            "class raster, in the same order"
        )
    if output.suffix.lower() != ".gpkg":
        raise UsageError(f"output {output}: wanted a GeoPackage (.gpkg)")
    if count < 1:
        raise UsageError(f"--count {count}: wanted 1 or more places")
    if side_m is not None and not 0 < side_m < math.inf:
        raise UsageError(f"--side {side_m:g}: wanted metres above 0")


def _side_px(file: ClassFile, side_m: float | None) -> int:
    if side_m is None:
        return SIDE_PX
    pixel = math.sqrt(math.prod(file.geo.pixel_size_m or (1.0, 1.0)))
    return max(1, round(side_m / pixel))


def _survey(file: ClassFile, rated: ClassFile, side: int, progress: Progress) -> _Blocks:
    height, width = (length // side for length in file.geo.shape)
    rows = max(1, _READ_PX // max(1, side * file.geo.width))
    found = [
        _survey_rows(file, rated, Box(top * side, 0, min(top + rows, height) * side, width * side), side)
        for top in _counted(range(0, height, rows), rows * side * file.geo.width, progress)
        if width
    ]
    pixels, classes, confidence = (
        np.concatenate(parts) if parts else np.zeros((0, 2) if number == 0 else 0)
        for number, parts in enumerate(zip(*found, strict=True) if found else [(), (), ()])
    )
    centres = np.stack(file.geo.at(pixels[:, 1] + side / 2, pixels[:, 0] + side / 2), axis=1)
    return _Blocks(file, side, pixels.astype(np.int64), centres, classes.astype(np.int64), confidence)


def _counted(tops: range, pixels: int, progress: Progress) -> Iterator[int]:
    for top in tops:
        yield top
        progress.advance(pixels)


def _survey_rows(
    file: ClassFile, rated: ClassFile, box: Box, side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Upper left pixels, most frequent classes and mean confidence of the blocks in whole rows of them."""
    shape = box.height // side, side, box.width // side, side
    ids = to_bytes(file.read(box), file.path).reshape(shape)
    percent = to_percent(rated.read(box), rated.path).reshape(shape)
    valid = (ids != NODATA) & (percent != NODATA)
    counts = valid.sum(axis=(1, 3))
    present = np.setdiff1d(np.unique(ids), [NODATA])
    if not len(present):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64), np.zeros(0)
    shares = np.stack([(ids == one).sum(axis=(1, 3)) for one in present])
    mean = np.where(valid, percent, 0).sum(axis=(1, 3)) / np.maximum(counts, 1) / 100
    rows, cols = np.nonzero(counts >= MIN_VALID * side * side)
    pixels = np.stack([box.top + rows * side, box.left + cols * side], axis=1)
    return pixels, present[shares.argmax(axis=0)][rows, cols].astype(np.int64), mean[rows, cols]


def _choose(blocks: Sequence[_Blocks], count: int) -> list[tuple[int, int]]:
    """(map, block) of the places, the least confident first: far apart, and of many classes, as far as that goes."""
    where = np.concatenate([np.full(len(one.classes), at) for at, one in enumerate(blocks)])
    number = np.concatenate([np.arange(len(one.classes)) for one in blocks])
    centres = np.concatenate([one.centres for one in blocks])
    classes, confidence = (np.concatenate([getattr(one, name) for one in blocks]) for name in ("classes", "confidence"))
    if not len(classes):
        return []
    apart = 0.5 * math.sqrt(sum(_area(one.file) for one in blocks) / count)
    most = math.ceil(count / len(np.unique(classes)))
    taken: list[int] = []
    order = np.argsort(confidence, kind="stable")
    for step, part in enumerate(_RELAXED):
        for at in order:
            if len(taken) == count:
                break
            far = not taken or np.hypot(*(centres[taken] - centres[at]).T).min() >= max(part * apart, 1e-9)
            few = (classes[taken] == classes[at]).sum() < most * 2**step
            if far and (few or not part):
                taken.append(int(at))
    taken.sort(key=lambda at: (confidence[at], at))
    return [(int(where[at]), int(number[at])) for at in taken]


def _area(file: ClassFile) -> float:
    """In the units of its coordinate system."""
    left, bottom, right, top = file.geo.bounds
    return (right - left) * (top - bottom)


def _legend(paths: Sequence[Path], blocks: Sequence[_Blocks]) -> Legend:
    """The classes of all maps. Raises InputError where two maps have another class under one number."""
    known: dict[int, LandClass] = {}
    for path, one in zip(paths, blocks, strict=True):
        for entry in read_palette(path).legend(np.unique(one.classes).tolist()):
            if known.setdefault(entry.id, entry).name != entry.name:
                raise InputError(
                    f"{path}: class {entry.id} is {entry.name!r}, and {known[entry.id].name!r} in another map: "
                    "run it for each map alone"
                )
    return Legend(tuple(known.values()))


def _place(blocks: _Blocks, number: int, legend: Legend) -> Place:
    top, left = blocks.pixels[number].tolist()
    side, geo = blocks.side, blocks.file.geo
    corners = tuple(geo.at(left + col, top + row) for row, col in ((0, 0), (side, 0), (side, side), (0, side)))
    class_id = int(blocks.classes[number])
    return Place(corners, class_id, legend[class_id].name, float(blocks.confidence[number]))


def _check_alone(output: Path) -> None:
    """Raise UsageError where the file to be replaced holds layers of others, or a map."""
    if output.suffix.lower() == ".gpkg" and (kept := read_contents(output, {LAYER}).kept):
        raise UsageError(
            f"{output} also holds {names_of(kept)}, and replacing the file would remove that: write to another file"
        )


def _write(output: Path, places: Sequence[Place], legend: Legend, crs: str | None) -> None:
    squares = np.array([shapely.Polygon(place.corners) for place in places], np.object_)
    columns = {
        "rank": np.arange(1, len(places) + 1, dtype=np.int32),
        "class_id": np.array([place.class_id for place in places], np.int32),
        "confidence": np.array([round(place.confidence, 4) for place in places]),
    }
    write_places(output, squares, columns, legend, crs, datetime.now(UTC))

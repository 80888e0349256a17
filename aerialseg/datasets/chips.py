"""A data set of the user's own: chips of orthophotos and their labels, split by blocks of ground."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aerialseg.datasets.chipset import (
    ABOUT,
    CONFIG,
    FOOTPRINTS,
    LEGEND,
    SPLIT,
    Chip,
    ChipSet,
    Recipe,
    check_out,
    make_folder,
)
from aerialseg.datasets.cutter import Cutter, Ground
from aerialseg.datasets.footprints import write_footprints
from aerialseg.datasets.ground_blocks import (
    GroundBlock,
    KeptGround,
    chips_along,
    cut_blocks,
    make_lattice,
)
from aerialseg.datasets.holdout import hold_out
from aerialseg.datasets.starter_config import starter_config
from aerialseg.errors import InputError, UsageError
from aerialseg.files import absolute, cannot_write
from aerialseg.legend import NODATA, Legend
from aerialseg.mapping.settings import warn_of_old_names
from aerialseg.model.store import load_card
from aerialseg.progress import Progress, Silent, counted
from aerialseg.raster.bands import RGB
from aerialseg.raster.bounds import check_overlap, overlap, reproject_bounds, same_crs
from aerialseg.raster.describe import describe, source_sha256
from aerialseg.raster.labels import Labels, open_labels
from aerialseg.raster.view import View, make_view
from aerialseg.raster.working_grid import GSD_TOLERANCE, Resolution, split_gsd

PathLike = str | Path
SIZE = (512, 512)
STEP_PX = 32
"""Chips are whole strides of the network."""
BLOCK_CHIPS = (4, 3, 2, 1)
"""Chips along a side of a block: the first that gives enough blocks, where none is asked for."""
ENOUGH_BLOCKS = 12
MAX_BANDS = 32


def make_chips(
    orthos: Sequence[PathLike | Sequence[PathLike]],
    labels: PathLike,
    out: PathLike,
    *,
    legend: PathLike | Legend,
    field: str = "class",
    layer: str | None = None,
    resolution_m: Resolution = None,
    pixel_size_m: float | None = None,
    size: tuple[int, int] = SIZE,
    block_m: float | None = None,
    held_out: float = 0.2,
    seed: int = 2026,
    min_labelled: float = 0.05,
    band_names: Sequence[str] = RGB,
    bands: Sequence[int] | None = None,
    scale: Sequence[float] | None = None,
    alpha: Literal["auto", "none"] | None = None,
    keep: KeptGround | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    gsd: Resolution = None,
) -> ChipSet:
    """Cut orthophotos and labels into the data set ``out``, which ``aerialseg train`` takes as it is.

    orthos: rasters of one CRS, or lists of them that are one mosaic, read as by segment-raster (resolution_m,
    pixel_size_m, their old name gsd, bands, scale, alpha). labels: polygons whose ``field`` holds names or ids of
    ``legend``, or a class raster of its ids; in any CRS. size: (rows, columns) of a chip, in pixels. block_m: side of a
    block of ground in metres, which becomes a whole number of chips (default: 4, fewer where blocks are few). held_out:
    share of the labelled pixels that is held out, whole blocks of them, so that each class of two blocks or more is on
    both sides if it can be. min_labelled: chips with a smaller share of labelled pixels are left out. band_names: what
    the model is to see, such as red, green, blue, nir: found by what the orthophotos say of their bands, or given by
    number with ``bands``. keep: of an earlier data set, whose blocks stay on their sides. Memory is constant.

    Raises UsageError, InputError, OutputError; ``out`` appears when it is whole.
    """
    _check(orthos, size, block_m, held_out, min_labelled)
    out = absolute(out)
    check_out(out, [*_files(orthos), labels], overwrite=overwrite)
    listener = progress or Silent()
    given = legend if isinstance(legend, Legend) else Legend.from_csv(legend)
    known = _contiguous(given, listener)
    wanted = _wanted(band_names)
    warn_of_old_names({"gsd_m": gsd})
    at = (gsd, resolution_m, pixel_size_m)
    views = tuple(_view(path, at, wanted=wanted, bands=bands, scale=scale, alpha=alpha or "auto") for path in orthos)
    _check_alike(views)
    if (gsd, resolution_m) == (None, None) and min(min(view.ratio) for view in views) < 1:
        listener.note("pixels are enlarged to the bundled model's; --resolution native makes a model of their own size")
    with closing(open_labels(labels, given, field=field, layer=layer, numbered=True)) as source:
        ground = _ground(views, source, size, block_m, listener, keep)
        with make_folder(out, overwrite=overwrite) as folder:
            cutter = Cutter(source, folder, min_labelled, len(known), wanted)
            chips = cutter.cut_all(ground, size, listener)
            pixels, blocks = _by_block(chips)
            _check_classes(pixels, known, labels)
            held = _held(pixels, blocks, held_out, seed, keep)
            made = ChipSet(
                folder=out,
                legend=known,
                chips=tuple(replace(chip, held_out=chip.block.name in held) for chip in chips),
                left_out=cutter.left_out,
                lattice=ground.lattice,
                views=views,
                size=size,
                recipe=Recipe(source.path, given, held_out, seed, min_labelled, field, layer, wanted),
            )
            write_about(made, folder, listener)
    return made


def _wanted(names: Sequence[str]) -> tuple[str, ...]:
    """The names of bands, checked. Raises UsageError."""
    wanted = tuple(name.strip().lower() for name in names)
    if not all(wanted) or len(set(wanted)) < len(wanted) or not 1 <= len(wanted) <= MAX_BANDS:
        raise UsageError(
            f"--band-names {','.join(names)}: wanted 1 to {MAX_BANDS} different names, such as red,green,blue,nir"
        )
    return wanted


def _check(
    orthos: Sequence[Any], size: tuple[int, int], block_m: float | None, held_out: float, min_labelled: float
) -> None:
    if not orthos:
        raise UsageError("no orthophoto: give at least one")
    if min(size) < 2 * STEP_PX or max(size) > 4096 or any(side % STEP_PX for side in size):
        raise UsageError(f"--size {size[0]},{size[1]}: wanted multiples of {STEP_PX} from {2 * STEP_PX} to 4096 pixels")
    if block_m is not None and not 0 < block_m < math.inf:
        raise UsageError(f"--block {block_m}: wanted metres above 0")
    if not 0 < held_out < 1:
        raise UsageError(f"--held-out {held_out}: wanted a share between 0 and 1, such as 0.2")
    if not 0 <= min_labelled <= 1:
        raise UsageError(f"--min-labelled {min_labelled}: wanted a share from 0 to 1, such as 0.05")


def _contiguous(legend: Legend, listener: Progress) -> Legend:
    """The legend with the ids 0, 1, 2 ..., as models have them."""
    if not 2 <= len(legend) <= NODATA:
        raise InputError(
            f"the legend has {counted(len(legend), 'class')}: wanted 2 to {NODATA}; where all is either one thing or "
            "not, label what is not as well"
        )
    if all(number == entry.id for number, entry in enumerate(legend)):
        return legend
    listener.note(f"class ids become 0 to {len(legend) - 1}, as models have them")
    return Legend(tuple(replace(entry, id=number) for number, entry in enumerate(legend)))


def _files(orthos: Sequence[PathLike | Sequence[PathLike]]) -> list[PathLike]:
    return [file for one in orthos for file in ([one] if isinstance(one, (str, Path)) else one)]


def _view(paths: PathLike | Sequence[PathLike], at: tuple[Resolution, Resolution, float | None], **rest: Any) -> View:
    infos = [describe(path) for path in _files([paths])]
    resolution, pixel_size = split_gsd(infos, *at)
    model_gsd_m = load_card(None).gsd_m
    view = make_view(infos, model_gsd_m=model_gsd_m, resolution_m=resolution, pixel_size_m=pixel_size, **rest)
    if view.gsd_m is None:
        raise InputError(f"{view.path}: the size of its pixels on the ground is not known; give --pixel-size METRES")
    return view


def _check_alike(views: Sequence[View]) -> None:
    """Raise InputError where orthophotos cannot lie on one lattice or their chips would not be of one scale."""
    first = views[0]
    for view in views[1:]:
        if not same_crs(first.geo.crs, view.geo.crs):
            raise InputError(
                f"{first.path} and {view.path} have different coordinate systems (CRS), so blocks of ground cannot be "
                f"the same in both: warp one with gdalwarp -t_srs EPSG:CODE -dstalpha, or make two data sets"
            )
    sizes = [math.sqrt(view.gsd_m[0] * view.gsd_m[1]) for view in views if view.gsd_m]
    if max(sizes) / min(sizes) > (1 + GSD_TOLERANCE) ** 2:
        raise InputError(
            f"the pixels of the orthophotos have {min(sizes):.3g} to {max(sizes):.3g} m: a model learns one scale; "
            "give --resolution METRES to resample all of them to one"
        )


def _ground(
    views: tuple[View, ...],
    labels: Labels,
    size: tuple[int, int],
    block_m: float | None,
    listener: Progress,
    keep: KeptGround | None,
) -> Ground:
    crs = views[0].geo.crs
    there = reproject_bounds(labels.bounds, labels.crs, crs) if (labels.crs is None) == (crs is None) else None
    meeting = [view for view in views if there is not None and overlap(view.geo.bounds, there)]
    there = check_overlap(views[0].path, (meeting or views)[0].geo, labels.path, labels.crs, labels.bounds)
    if len(meeting) < len(views):
        listener.note(f"{len(views) - len(meeting)} of {len(views)} orthophotos have no labels: they give no chips")
    if keep is not None:
        return Ground(views, keep.lattice, there)
    if block_m is not None:
        along = chips_along(views[0], size, block_m)
        return Ground(views, make_lattice(views, size, along), there)
    for number in BLOCK_CHIPS:
        ground = Ground(views, make_lattice(views, size, (number, number)), there)
        names = (block.name for view in views for block, _ in cut_blocks(view, ground.lattice, size, there))
        if len(set(islice(names, 4 * ENOUGH_BLOCKS))) >= ENOUGH_BLOCKS:
            break
    return ground


def _held(
    pixels: NDArray[np.int64], blocks: Sequence[GroundBlock], share: float, seed: int, keep: KeptGround | None
) -> set[str]:
    """Names of the blocks to hold out; of blocks that were on a side before, those that were held out."""
    known = keep.held_out if keep else {}
    new = [at for at, block in enumerate(blocks) if block.name not in known]
    held = {block.name for block in blocks if known.get(block.name)}
    if len(new) > 1:
        held |= {blocks[new[at]].name for at in hold_out(pixels[new], share, seed)}
    return held


def _check_classes(pixels: NDArray[np.int64], legend: Legend, labels: PathLike) -> None:
    """Raise InputError where all labels, (blocks, classes) pixels, are of one class: nothing can be learned of it."""
    there = [entry.name for entry in legend if pixels[:, entry.id].any()]
    if len(there) < 2:
        raise InputError(
            f"all labels of {labels} on the orthophotos are of the class {there[0]!r}; wanted two classes at least: "
            "label what is not of it as well (unlabelled ground is ignored)"
        )


def _by_block(chips: Sequence[Chip]) -> tuple[NDArray[np.int64], list[GroundBlock]]:
    """(blocks, classes) pixels, and the blocks. Raises InputError where there is one only."""
    blocks = sorted({chip.block for chip in chips})
    if len(blocks) < 2:
        raise InputError(
            f"all {len(chips)} chips lie in one block of ground, so none can be held out: "
            "give a smaller --block or --size, or labels of more ground"
        )
    place = {block.name: at for at, block in enumerate(blocks)}
    pixels = np.zeros((len(blocks), len(chips[0].pixels)), np.int64)
    for chip in chips:
        pixels[place[chip.block.name]] += chip.pixels
    return pixels, blocks


def write_about(chips: ChipSet, folder: Path, listener: Progress) -> None:
    """Legend, split, configuration, provenance and footprints, into ``folder``. Raises OutputError."""
    try:
        chips.legend.to_csv(folder / LEGEND)
        with open(folder / SPLIT, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["frame", "held_out", "scene"])
            table.writerows([chip.frame, int(chip.held_out), chip.block.name] for chip in chips.chips)
        about = {**chips.to_json(), "inputs": _inputs(chips, listener)}
        (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (folder / CONFIG).write_text(starter_config(chips), encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_footprints(folder / FOOTPRINTS, chips)


def _inputs(chips: ChipSet, listener: Progress) -> list[dict[str, Any]]:
    views, labels = chips.views, chips.recipe.labels
    pieces = [(view, piece) for view in views for piece in view.pieces]
    listener.stage("Hashing the inputs", len(pieces) + 1)
    found: list[dict[str, Any]] = []
    for view, piece in pieces:
        about = {"path": piece.path, "sha256": source_sha256(piece.path), "bands": list(piece.bands), "read": view.note}
        found.append(about | ({} if piece.scale is None else {"scale": list(piece.scale)}))
        listener.advance(1)
    table = labels.with_suffix(".dbf")
    files = [labels, *([table] if labels.suffix.lower() == ".shp" and table.exists() else [])]
    found += [{"path": str(file), "sha256": source_sha256(file), "labels": True} for file in files]
    listener.advance(1)
    return found

"""A data set of chips as files: what lies beside the images and masks, and how the folder appears, whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from aerialseg._version import __version__
from aerialseg.datasets.ground_blocks import GroundBlock, GroundLattice
from aerialseg.errors import OutputError, UsageError
from aerialseg.files import naming_errors
from aerialseg.legend import Legend
from aerialseg.progress import counted
from aerialseg.raster.bands import RGB
from aerialseg.raster.grid import Box
from aerialseg.raster.view import View
from aerialseg.vector.existing import names_of, read_contents

IMAGES, MASKS = "images", "masks"
LEGEND, SPLIT, CONFIG, ABOUT, FOOTPRINTS = "legend.csv", "split.csv", "train.toml", "chips.json", "chips.gpkg"
FOOTPRINT_LAYERS = ("blocks", "chips")
SIDES = ("learned from", "held out")
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Chip:
    """frame: name of its files, without ending. ortho: which one, from 1. corners: (x, y) in the CRS. pixels: of each
    class."""

    frame: str
    ortho: int
    block: GroundBlock
    box: Box
    corners: tuple[tuple[float, float], ...]
    pixels: tuple[int, ...]
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was asked for."""

    labels: Path
    legend: Legend
    held_out: float
    seed: int
    min_labelled: float
    field: str
    layer: str | None
    bands: tuple[str, ...] = RGB


@dataclass(frozen=True, slots=True)
class ChipSet:
    """A data set: its folder, the classes as the masks have them, and all its chips. left_out: chips with too few
    labels."""

    folder: Path
    legend: Legend
    chips: tuple[Chip, ...]
    left_out: int
    lattice: GroundLattice
    views: tuple[View, ...]
    size: tuple[int, int]
    recipe: Recipe

    @property
    def gsd_m(self) -> float:
        """Metres per pixel: the mean of the orthophotos."""
        sizes = [sqrt(view.gsd_m[0] * view.gsd_m[1]) for view in self.views if view.gsd_m]
        return sum(sizes) / len(sizes)

    @property
    def blocks(self) -> dict[GroundBlock, bool]:
        """Each block that has chips, and whether it is held out."""
        return dict(sorted({chip.block: chip.held_out for chip in self.chips}.items()))

    def pixels(self, held_out: bool) -> dict[str, int]:
        """Labelled pixels of each class on one side."""
        sums = np.zeros(len(self.legend), np.int64)
        for chip in self.chips:
            if chip.held_out == held_out:
                sums += chip.pixels
        return dict(zip(self.legend.names, sums.tolist(), strict=True))

    @property
    def labelled(self) -> tuple[str, ...]:
        """Names of the classes that have labels."""
        learned, held = self.pixels(held_out=False), self.pixels(held_out=True)
        return tuple(name for name in self.legend.names if learned[name] + held[name])

    def count(self, held_out: bool) -> int:
        return sum(chip.held_out == held_out for chip in self.chips)

    @property
    def share(self) -> float:
        """Share of the labelled pixels that is held out."""
        held, learned = (sum(self.pixels(side).values()) for side in (True, False))
        return held / (held + learned)

    def to_json(self) -> dict[str, Any]:
        """What chips.json says, but for the hashes."""
        recipe, crs = self.recipe, self.views[0].geo.crs
        labelled = [self.pixels(held_out=False), self.pixels(held_out=True)]
        return {
            "format": FORMAT,
            "software": f"aerialseg {__version__}",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "crs": crs,
            "gsd_m": round(self.gsd_m, 6),
            "size": list(self.size),
            "bands": list(recipe.bands),
            "seed": recipe.seed,
            "held_out": {"wanted": recipe.held_out, "share": round(self.share, 4)},
            "min_labelled": recipe.min_labelled,
            "chips": {SIDES[0]: self.count(False), SIDES[1]: self.count(True), "left out": self.left_out},
            "classes": [
                {"id": new.id, "name": new.name, "label": old.id}
                | {side: pixels[new.name] for side, pixels in zip(SIDES, labelled, strict=True)}
                for new, old in zip(self.legend, recipe.legend, strict=True)
            ],
            "block_chips": list(self.lattice.chips),
            "block_side": list(self.lattice.side),
            "blocks": [
                {"name": block.name, "side": SIDES[held], "bounds": list(block.bounds)}
                for block, held in self.blocks.items()
            ],
        }

    def text(self) -> str:
        """A table for people: chips, and labelled pixels of each class on both sides."""
        learned, held = self.pixels(held_out=False), self.pixels(held_out=True)
        blocks = list(self.blocks.values())
        sides = [
            f"{counted(self.count(held_out), 'chip')} of {counted(blocks.count(held_out), 'block')}"
            for held_out in (False, True)
        ]
        lines = [
            f"training set: {sides[0]}; test set: {sides[1]} ({self.share:.0%} of the labelled pixels)",
            f"{counted(self.left_out, 'chip')} left out: too few labels",
            f"{'class':<24}{'training set':>16}{'test set':>16}",
        ]
        for name in self.labelled:
            note = "" if learned[name] and held[name] else "  in one set only"
            lines.append(f"{name:<24}{learned[name]:>13,} px{held[name]:>13,} px{note}")
        without = [name for name in self.legend.names if name not in self.labelled]
        return "\n".join([*lines, *([f"no labels of: {', '.join(without)}"] if without else [])])


def check_out(out: Path, inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    """Raise UsageError where the folder may not be made or replaced, OutputError where it cannot be."""
    if not out.parent.is_dir():
        raise OutputError(f"the folder {out.parent} of output {out.name} does not exist: make it first")
    if not os.access(out.parent, os.W_OK):
        raise OutputError(f"the folder {out.parent} cannot be written: choose another one")
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / ABOUT).is_file():
        raise UsageError(f"output {out} exists and is not a data set of chips: choose another name")
    if not overwrite:
        raise UsageError(f"output {out} exists: add --overwrite to replace it")
    others = read_contents(out / FOOTPRINTS, FOOTPRINT_LAYERS).kept
    if others:
        raise UsageError(
            f"output {out} would be replaced with layers in its {FOOTPRINTS} that aerialseg did not make, "
            f"{names_of(others)}: move them into another file, or choose another name"
        )
    for path in inputs:
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(out)):
            raise UsageError(f"output {out} holds the input {path}, and would be replaced: choose another name")


@contextmanager
def make_folder(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to fill, which gets the name ``out`` when the block ends well and is removed when it does not."""
    part, old = out.with_name(f".{out.name}.part"), out.with_name(f".{out.name}.old")
    try:
        with naming_errors(out):
            shutil.rmtree(part, ignore_errors=True)
            for name in (IMAGES, MASKS):
                (part / name).mkdir(parents=True)
        yield part
        with naming_errors(out):
            if out.exists() and (overwrite or not any(out.iterdir())):
                shutil.rmtree(old, ignore_errors=True)
                out.rename(old)
            part.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            with suppress(OSError):
                old.rename(out)
        raise
    finally:
        for folder in (part, old):
            shutil.rmtree(folder, ignore_errors=True)

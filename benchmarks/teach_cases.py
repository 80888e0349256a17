"""The cases of teach.py and doubts.py: real orthophotos, labels to teach with, and ground to judge on."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.features
import shapely
from PIL import Image

import aerialseg
from aerialseg.datasets.chipset import ChipSet
from aerialseg.datasets.masks import read_mask
from aerialseg.evaluation.scores import Confusion
from aerialseg.legend import NODATA, Legend
from aerialseg.progress import Silent

HERE = Path(__file__).parent
ORTHOS = {"city": "deepforest-5b90f92da0d7280005fab355-4310.tif", "town": "deepforest-test-tiled.tif"}
TAUGHT, JUDGED = (1, 5), (2, 3, 6, 7, 8)
"""Tiles of Dubai; 4 shows partly what 8 does."""
SQUARES, SIDE_PX, JUDGED_PX = 20, 15, 512
CRS = "EPSG:32640"

Judge = Callable[[np.ndarray], np.ndarray]
"""From pixels (3, h, w) to class ids (h, w)."""


class Case:
    """Orthophotos and labels in a folder, and where to judge: (pixels (3, h, w), truth (h, w)) by the classes."""

    def __init__(self, name: str, shared: Path, work: Path) -> None:
        self.name, self.shared, self.work = name, shared, work
        self.kind, _, draw = name.partition("-")
        if self.kind == "dubai":
            self.orthos = dubai_orthos(shared / "dubai", work)
            self.labels = _squares(shared / "dubai", work / f"{name}.gpkg", int(draw or 1) - 1)
        else:
            self.orthos = [shared / "geo" / "ortho" / ORTHOS[name]]
            self.labels = HERE / "labels" / f"{name}.geojson"

    def teach(self, steps: int, **options: Any) -> Path:
        out = self.work / f"{self.name}-{steps}{''.join(options.values())}"
        aerialseg.teach(self.orthos, self.labels, out, steps=steps, minutes=0, overwrite=True, **options)
        return out

    @cache  # noqa: B019  (one case is asked a few times)
    def made(self) -> ChipSet:
        """The chips, as `teach` cuts them."""
        from aerialseg.training.teaching.lesson import prepare_lesson

        lesson = prepare_lesson(
            self.orthos, self.labels, field=None, layer=None, width_m=None, resolution="native", more=None, legend=None,
            progress=Silent(),
        )  # fmt: skip
        return lesson.cut(self.work / f"{self.name}-chips" / "chips", Silent(), held_out=0.2, seed=2026)

    @cache  # noqa: B019
    def chips(self) -> tuple[Legend, list[Any], list[Any]]:
        """(legend, pairs to learn from, pairs to judge by)."""
        made, sides = self.made(), ([], [])
        for chip in made.chips:
            name = f"{chip.frame}.png"
            pixels = np.asarray(Image.open(made.folder / "images" / name)).transpose(2, 0, 1)
            sides[chip.held_out].append((pixels, read_mask(made.folder / "masks" / name, made.legend, ())))
        if self.kind == "dubai":
            return made.legend, [*sides[0], *sides[1]], dubai_middles(self.shared / "dubai", made.legend)
        return made.legend, *sides

    def step_s(self) -> float:
        """CPU seconds of a step of fine-tuning, as `teach` takes it."""
        from aerialseg.model.card import ModelCard
        from aerialseg.model.networks import build_for
        from aerialseg.model.store import load_card
        from aerialseg.training.teaching.candidates import ARCHITECTURE
        from aerialseg.training.teaching.chip_pixels import ChipPixels
        from aerialseg.training.teaching.fine_tune import TIMED, Tuner, Tuning

        made = self.made()
        card = ModelCard("taught", made.legend, load_card(None).gsd_m, architecture=ARCHITECTURE)
        frames = [chip.frame for chip in made.chips if not chip.held_out]
        tuner = Tuner(build_for(card), ChipPixels(made.folder, frames, len(made.legend), card), Tuning(TIMED, 0))
        tuner.step(0)
        start = time.process_time()
        for number in range(TIMED):
            tuner.step(number)
        return (time.process_time() - start) / TIMED

    def score(self, judge: Judge) -> dict[str, float]:
        legend, _, judged = self.chips()
        found = Confusion.empty(len(legend))
        for pixels, truth in judged:
            found += Confusion.of(truth, judge(pixels), len(legend))
        return {"accuracy": round(found.pixel_accuracy, 3), "mean_iou": round(found.mean_iou, 3)}


def dubai_orthos(folder: Path, work: Path, tiles: tuple[int, ...] = TAUGHT) -> list[Path]:
    """Tiles as orthophotos of 1 m, somewhere."""
    found = []
    for tile in tiles:
        found.append(work / f"dubai-{tile}.tif")
        if found[-1].exists():
            continue
        image = joined(folder / "images", tile, "jpg", 3)
        profile = {"driver": "GTiff", "height": image.shape[1], "width": image.shape[2], "count": 3, "dtype": "uint8"}
        at = dubai_place(tile)
        with rasterio.open(found[-1], "w", crs=CRS, transform=at, compress="deflate", **profile) as file:
            file.write(image)
    return found


def dubai_place(tile: int) -> rasterio.Affine:
    return rasterio.transform.from_origin(500_000 + 20_000 * tile, 2_800_000, 1, 1)


def _squares(folder: Path, labels: Path, seed: int) -> Path:
    """Squares of each class on the tiles that are taught, drawn by a seed."""
    legend, rng = Legend.from_csv(folder / "legend.csv"), np.random.default_rng(seed)
    shapes, names = [], []
    for tile in TAUGHT:
        mask = joined(folder / "masks", tile, "png", 1)[0]
        for entry in legend:
            rows, cols = np.nonzero(mask == entry.id)
            wanted = SQUARES // len(TAUGHT) if entry.name != "unlabeled" else 0
            for place in rng.choice(len(rows), min(wanted, len(rows)), replace=False):
                shapes.append(_square(mask, int(rows[place]), int(cols[place]), entry.id, dubai_place(tile)))
                names.append(entry.name)
    geopandas.GeoDataFrame({"class": names}, geometry=shapes, crs=CRS).to_file(labels)
    return labels


def _square(mask: np.ndarray, row: int, col: int, class_id: int, at: Any) -> Any:
    """What a square around a pixel has of its class."""
    half = SIDE_PX // 2
    top, left = max(0, row - half), max(0, col - half)
    part = (mask[top : row + half + 1, left : col + half + 1] == class_id).astype(np.uint8)
    there = at @ rasterio.Affine.translation(left, top)
    shapes = rasterio.features.shapes(part, mask=part == 1, transform=there)
    return max((shapely.geometry.shape(shape) for shape, _ in shapes), key=lambda one: one.area)


def joined(folder: Path, tile: int, ending: str, bands: int) -> np.ndarray:
    parts = [np.asarray(Image.open(folder / f"tile{tile}_part{n:03d}.{ending}")) for n in range(1, 10)]
    rows = [np.concatenate(parts[n : n + 3], axis=1) for n in (0, 3, 6)]
    return np.concatenate(rows).reshape(*np.concatenate(rows).shape[:2], bands).transpose(2, 0, 1)


def dubai_middles(folder: Path, legend: Legend, tiles: tuple[int, ...] = JUDGED) -> list[Any]:
    """The middle of the middle part of tiles, the test tiles by default."""
    theirs, found = Legend.from_csv(folder / "legend.csv"), []
    numbers = np.full(256, NODATA, np.uint8)
    for entry in theirs:
        if entry.name in legend.names:
            numbers[entry.id] = legend.names.index(entry.name)
    for tile in tiles:
        image = np.asarray(Image.open(folder / "images" / f"tile{tile}_part005.jpg"))
        mask = numbers[np.asarray(Image.open(folder / "masks" / f"tile{tile}_part005.png"))]
        top, left = ((side - JUDGED_PX) // 2 for side in mask.shape)
        part = slice(max(0, top), max(0, top) + JUDGED_PX), slice(max(0, left), max(0, left) + JUDGED_PX)
        found.append((np.ascontiguousarray(image[part].transpose(2, 0, 1)), mask[part]))
    return found

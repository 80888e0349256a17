"""What `aerialseg teach` reaches against minutes, beside a random forest on filters, the default model and scratch.

    python benchmarks/teach.py SHARED_DATA OUT.json [--cases city town dubai] [--steps 0 200 600 2000] [--others]
    python benchmarks/teach.py --table OUT.json

Three real cases. city: an orthophoto of 10 cm, 57 polygons of 5 classes (benchmarks/labels/city.geojson). town: one of
25 cm, 67 polygons of 6 classes. Both are judged on the blocks of ground that `teach` holds out. dubai: about 0.8 m, 20
squares of each class drawn by a seed from the masks of two tiles, judged on a part of each other tile. Minutes depend
on the machine, steps of fine-tuning do not: CPU seconds stand beside each score. Results
are kept in OUT.json one by one: an interrupted benchmark goes on. --others adds the forest, scratch and the default.
"""

from __future__ import annotations

import argparse
import json
import tempfile
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
from scipy import ndimage as ndi

import aerialseg
from aerialseg.datasets.masks import read_mask
from aerialseg.evaluation.scores import Confusion
from aerialseg.legend import NODATA, Legend

HERE = Path(__file__).parent
ORTHOS = {"city": "deepforest-5b90f92da0d7280005fab355-4310.tif", "town": "deepforest-test-tiled.tif"}
TAUGHT, JUDGED = (1, 5), (2, 3, 6, 7, 8)
"""Tiles of Dubai; 4 shows partly what 8 does."""
SQUARES, SIDE_PX, JUDGED_PX = 20, 15, 512
SIGMAS = (1.0, 2.0, 4.0, 8.0)
PIXELS = 3000
DEFAULT = {
    "city": {"paved": "paved-area gravel dirt ar-marker", "roof": "roof wall window door", "water": "water pool"}
    | {"tree": "vegetation tree grass bald-tree", "vehicle": "car bicycle"},
    "town": {"paved": "paved-area", "building": "roof wall window door", "water": "water pool", "grass": "grass"}
    | {"tree": "vegetation tree bald-tree", "bare": "dirt gravel rocks"},
    "dubai": {"building": "roof wall window door", "road": "paved-area", "water": "water pool"}
    | {"vegetation": "vegetation tree grass bald-tree", "land_unpaved": "dirt gravel rocks"},
}
"""Which classes of the default model are which of a case's."""

Judge = Callable[[np.ndarray], np.ndarray]
"""From pixels (3, h, w) to class ids (h, w)."""


class Case:
    """Orthophotos and labels in a folder, and where to judge: (pixels (3, h, w), truth (h, w)) by the classes."""

    def __init__(self, name: str, shared: Path, work: Path) -> None:
        self.name, self.shared, self.work = name, shared, work
        if name == "dubai":
            self.orthos, self.labels = _dubai(shared / "dubai", work)
        else:
            self.orthos = [shared / "geo" / "ortho" / ORTHOS[name]]
            self.labels = HERE / "labels" / f"{name}.geojson"

    def teach(self, steps: int, **options: Any) -> Path:
        out = self.work / f"{self.name}-{steps}{''.join(options.values())}"
        aerialseg.teach(self.orthos, self.labels, out, steps=steps, minutes=0, overwrite=True, **options)
        return out

    @cache  # noqa: B019  (one case is asked a few times)
    def chips(self) -> tuple[Legend, list[Any], list[Any]]:
        """(legend, pairs to learn from, pairs to judge by), as `teach` cuts them."""
        from aerialseg.datasets.chipset import ChipSet
        from aerialseg.progress import Silent
        from aerialseg.training.teaching_data import prepare_lesson

        lesson = prepare_lesson(
            self.orthos, self.labels, field=None, layer=None, width_m=None, gsd="native", more=None, legend=None,
            progress=Silent(),
        )  # fmt: skip
        made: ChipSet = lesson.cut(self.work / f"{self.name}-chips" / "chips", Silent(), held_out=0.2, seed=2026)
        sides: tuple[list[Any], list[Any]] = ([], [])
        for chip in made.chips:
            name = f"{chip.frame}.png"
            pixels = np.asarray(Image.open(made.folder / "images" / name)).transpose(2, 0, 1)
            sides[chip.held_out].append((pixels, read_mask(made.folder / "masks" / name, made.legend, ())))
        if self.name == "dubai":
            return made.legend, [*sides[0], *sides[1]], _dubai_judged(self.shared / "dubai", made.legend)
        return made.legend, *sides

    def score(self, judge: Judge) -> dict[str, float]:
        legend, _, judged = self.chips()
        found = Confusion.empty(len(legend))
        for pixels, truth in judged:
            found += Confusion.of(truth, judge(pixels), len(legend))
        return {"accuracy": round(found.pixel_accuracy, 3), "mean_iou": round(found.mean_iou, 3)}


def _dubai(folder: Path, work: Path) -> tuple[list[Path], Path]:
    """Two tiles as orthophotos of 1 m side by side, somewhere, and squares of each class on them."""
    legend, rng = Legend.from_csv(folder / "legend.csv"), np.random.default_rng(0)
    orthos, shapes, names = [], [], []
    for number, tile in enumerate(TAUGHT):
        image = _joined(folder / "images", tile, "jpg", 3)
        mask = _joined(folder / "masks", tile, "png", 1)[0]
        at = rasterio.transform.from_origin(500_000 + 20_000 * number, 2_800_000, 1, 1)
        profile = {"driver": "GTiff", "height": image.shape[1], "width": image.shape[2], "count": 3, "dtype": "uint8"}
        orthos.append(work / f"dubai-{tile}.tif")
        with rasterio.open(orthos[-1], "w", crs="EPSG:32640", transform=at, compress="deflate", **profile) as file:
            file.write(image)
        for entry in legend:
            rows, cols = np.nonzero(mask == entry.id)
            wanted = SQUARES // len(TAUGHT) if entry.name != "unlabeled" else 0
            for place in rng.choice(len(rows), min(wanted, len(rows)), replace=False):
                box = _square(mask, int(rows[place]), int(cols[place]), entry.id, at)
                shapes += box
                names += [entry.name] * len(box)
    labels = work / "dubai.gpkg"
    geopandas.GeoDataFrame({"class": names}, geometry=shapes, crs="EPSG:32640").to_file(labels)
    return orthos, labels


def _square(mask: np.ndarray, row: int, col: int, class_id: int, at: Any) -> list[Any]:
    """What a square around a pixel has of its class."""
    half = SIDE_PX // 2
    top, left = max(0, row - half), max(0, col - half)
    part = (mask[top : row + half + 1, left : col + half + 1] == class_id).astype(np.uint8)
    there = at @ rasterio.Affine.translation(left, top)
    shapes = rasterio.features.shapes(part, mask=part == 1, transform=there)
    return [max((shapely.geometry.shape(shape) for shape, _ in shapes), key=lambda one: one.area)]


def _joined(folder: Path, tile: int, ending: str, bands: int) -> np.ndarray:
    parts = [np.asarray(Image.open(folder / f"tile{tile}_part{n:03d}.{ending}")) for n in range(1, 10)]
    rows = [np.concatenate(parts[n : n + 3], axis=1) for n in (0, 3, 6)]
    return np.concatenate(rows).reshape(*np.concatenate(rows).shape[:2], bands).transpose(2, 0, 1)


def _dubai_judged(folder: Path, legend: Legend) -> list[Any]:
    """The middle of the middle part of each tile that is judged."""
    theirs, found = Legend.from_csv(folder / "legend.csv"), []
    numbers = np.full(256, NODATA, np.uint8)
    for entry in theirs:
        if entry.name in legend.names:
            numbers[entry.id] = legend.names.index(entry.name)
    for tile in JUDGED:
        image = np.asarray(Image.open(folder / "images" / f"tile{tile}_part005.jpg"))
        mask = numbers[np.asarray(Image.open(folder / "masks" / f"tile{tile}_part005.png"))]
        top, left = ((side - JUDGED_PX) // 2 for side in mask.shape)
        part = slice(max(0, top), max(0, top) + JUDGED_PX), slice(max(0, left), max(0, left) + JUDGED_PX)
        found.append((np.ascontiguousarray(image[part].transpose(2, 0, 1)), mask[part]))
    return found


def filters(pixels: np.ndarray) -> np.ndarray:
    """Features of each pixel as ilastik has them, float32 (n, h, w): smoothed, Laplacian, gradient, difference of
    Gaussians, eigenvalues of structure tensor and Hessian, of each band at four scales; and the bands."""
    bands = pixels.astype(np.float32) / 255
    found = [*bands]
    for band in bands:
        for sigma in SIGMAS:
            smooth = ndi.gaussian_filter(band, sigma)
            found += [smooth, ndi.gaussian_laplace(band, sigma), ndi.gaussian_gradient_magnitude(band, sigma)]
            found.append(smooth - ndi.gaussian_filter(band, 0.66 * sigma))
            down, across = np.gradient(smooth)
            found += _eigenvalues(*(ndi.gaussian_filter(one, sigma) for one in (down**2, down * across, across**2)))
            (yy, yx), (_, xx) = np.gradient(down), np.gradient(across)
            found += _eigenvalues(yy, yx, xx)
    return np.stack(found).astype(np.float32)


def _eigenvalues(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> list[np.ndarray]:
    middle, half = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b**2)
    return [middle + half, middle - half]


def forest(case: Case) -> Judge:
    """A random forest on filters, taught the same labels."""
    from sklearn.ensemble import RandomForestClassifier

    legend, learned, _ = case.chips()
    rng, samples, truth = np.random.default_rng(0), [], []
    counts = sum(np.bincount(mask[mask != NODATA], minlength=len(legend)) for _, mask in learned)
    for pixels, mask in learned:
        features = filters(pixels)
        for number, count in enumerate(counts):
            places = np.flatnonzero(mask == number)
            if len(places):
                wanted = max(1, round(len(places) * min(1, PIXELS / count)))
                chosen = rng.choice(places, wanted, replace=False)
                samples.append(features.reshape(len(features), -1)[:, chosen].T)
                truth += [number] * wanted
    trees = RandomForestClassifier(100, min_samples_leaf=2, class_weight="balanced", random_state=0, n_jobs=1)
    trees.fit(np.concatenate(samples), truth)

    def judge(pixels: np.ndarray) -> np.ndarray:
        features = filters(pixels)
        return trees.predict(features.reshape(len(features), -1).T).reshape(pixels.shape[1:]).astype(np.uint8)

    return judge


def model(folder: Path | None, case: Case) -> Judge:
    """A model, asked for whole images; of the default one each class stands for one of the case's."""
    predictor = aerialseg.load_model(folder)
    if folder is not None:
        return lambda pixels: predictor.predict_array(pixels).classes
    legend = case.chips()[0]
    numbers = np.full(256, NODATA, np.uint8)
    for number, name in enumerate(legend.names):
        for said in DEFAULT[case.name][name].split():
            numbers[[entry.id for entry in predictor.card.legend if entry.name == said]] = number
    other = next(number for number in range(len(legend)))  # whatever else it says is wrong, as the first class
    return lambda pixels: np.where((found := numbers[predictor.predict_array(pixels).classes]) == NODATA, other, found)


def runs(steps: list[int], *, others: bool) -> dict[str, Callable[[Case], Judge]]:
    """Name -> what is judged."""

    def taught(number: int, **options: Any) -> Callable[[Case], Judge]:
        return lambda case: model(case.teach(number, **options), case)

    found: dict[str, Callable[[Case], Judge]] = {f"teach, {number} steps": taught(number) for number in steps}
    if others:
        found["forest on filters"] = forest
        found["default model, native"] = lambda case: model(None, case)
    if others and max(steps, default=0):
        found[f"scratch, {max(steps)} steps"] = taught(max(steps), start="scratch")
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    cases = list(results)
    rows = list(dict.fromkeys(name for case in cases for name in results[case]))
    lines = ["| accuracy / mean IoU (CPU s) | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for row in rows:
        cells = [results[case].get(row) for case in cases]
        shown = [f"{c['accuracy']:.3f} / {c['mean_iou']:.3f} ({c['cpu_s']:.0f})" if c else "not run" for c in cells]
        lines.append(f"| {row} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--cases", nargs="+", default=["city", "town", "dubai"])
    parser.add_argument("--steps", nargs="*", type=int, default=[0, 200, 600, 2000])
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    path = given.shared if given.table else given.out
    results = json.loads(path.read_text()) if path.exists() else {}
    if given.table:
        print(table(results))
        return
    with tempfile.TemporaryDirectory() as work:
        cases = {name: Case(name, given.shared, Path(work)) for name in given.cases}
        for run, make in runs(given.steps, others=given.others).items():
            for name, case in cases.items():
                if run in results.setdefault(name, {}):
                    continue
                start = time.process_time()
                results[name][run] = case.score(make(case)) | {"cpu_s": round(time.process_time() - start, 1)}
                path.write_text(json.dumps(results, indent=1) + "\n")
                print(name, run, results[name][run], flush=True)


if __name__ == "__main__":
    main()

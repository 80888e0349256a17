"""What `aerialseg teach` reaches against minutes, beside a random forest on filters, the default model and scratch.

    OMP_NUM_THREADS=1 python benchmarks/teach.py SHARED_DATA OUT.json [--cases ...] [--minutes 0 1 3 10] [--others]
    python benchmarks/teach.py --table OUT.json

Three real cases. city: an orthophoto of 10 cm, 57 polygons of 5 classes (benchmarks/labels/city.geojson). town: one of
25 cm, 67 polygons of 6 classes. Both are judged on the blocks of ground that `teach` holds out. dubai-1, -2, -3: about
0.8 m, 20 squares of each class drawn by a seed from the masks of two tiles, judged on a part of five other tiles.

A minute is 60 s of CPU time of one core, so that other work on the machine does not count: after the linear
classifiers, as many steps of fine-tuning (`teach --steps`) as the rest of the minutes holds by what a step took here.
Results are kept in OUT.json one by one: an interrupted benchmark goes on. --others adds the forest and the default
model, --scratch a training from scratch for the most minutes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage as ndi
from teach_cases import Case, Judge

import aerialseg
from aerialseg.legend import NODATA
from aerialseg.training.teaching.candidates import LEAST_STEPS

SIGMAS = (1.0, 2.0, 4.0, 8.0)
PIXELS = 3000
TEACH, SCRATCH = "teach", "scratch"
FOREST, NATIVE, STEP = "forest on filters", "default model, native", "CPU seconds of a step"
DEFAULT = {
    "city": {"paved": "paved-area gravel dirt ar-marker", "roof": "roof wall window door", "water": "water pool"}
    | {"tree": "vegetation tree grass bald-tree", "vehicle": "car bicycle"},
    "town": {"paved": "paved-area", "building": "roof wall window door", "water": "water pool", "grass": "grass"}
    | {"tree": "vegetation tree bald-tree", "bare": "dirt gravel rocks"},
    "dubai": {"building": "roof wall window door", "road": "paved-area", "water": "water pool"}
    | {"vegetation": "vegetation tree grass bald-tree", "land_unpaved": "dirt gravel rocks"},
}
"""Which classes of the default model are which of a case's."""


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
        for said in DEFAULT[case.kind][name].split():
            numbers[[entry.id for entry in predictor.card.legend if entry.name == said]] = number
    other = next(number for number in range(len(legend)))  # whatever else it says is wrong, as the first class
    return lambda pixels: np.where((found := numbers[predictor.predict_array(pixels).classes]) == NODATA, other, found)


def run(case: Case, name: str, known: dict[str, Any]) -> dict[str, Any]:
    """Scores of one row in one case, the CPU seconds of its teaching, and its steps."""
    start, steps = time.process_time(), 0
    if name == FOREST:
        judge = forest(case)
    elif name == NATIVE:
        judge = model(None, case)
    else:
        kind, _, minutes = name.rpartition(", ")
        if seconds := float(minutes.split()[0]) * 60:
            known.setdefault(STEP, round(case.step_s(), 3))
            start = time.process_time()
            heads_s = 0 if kind == SCRATCH else known[row_name(kind, 0)]["cpu_s"]
            steps = int((seconds - heads_s) / known[STEP])
            steps = steps if steps >= LEAST_STEPS else 0
        judge = model(case.teach(steps, **({"start": SCRATCH} if kind == SCRATCH else {})), case)
    spent = time.process_time() - start
    return case.score(judge) | {"cpu_s": round(spent, 1), "steps": steps}


def row_name(kind: str, minutes: float) -> str:
    return f"{kind}, {minutes:g} min"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Rows of what was run; the draws of one case as their mean."""
    kinds = list(dict.fromkeys(case.partition("-")[0] for case in results))
    rows = [name for name in dict.fromkeys(name for found in results.values() for name in found) if name != STEP]
    lines = ["| accuracy / mean IoU (CPU s) | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for row in rows:
        cells = [
            [found[row] for case, found in results.items() if case.startswith(kind) and row in found] for kind in kinds
        ]
        lines.append(f"| {row} | " + " | ".join(_cell(found) for found in cells) + " |")
    return "\n".join(lines)


def _cell(found: list[dict[str, Any]]) -> str:
    if not found:
        return "not run"
    accuracy, iou, spent = (statistics.mean(one[key] for one in found) for key in ("accuracy", "mean_iou", "cpu_s"))
    draws = f", {len(found)} draws" if len(found) > 1 else ""
    return f"{accuracy:.3f} / {iou:.3f} ({spent:.0f}{draws})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--cases", nargs="+", default=["city", "town", "dubai-1", "dubai-2", "dubai-3"])
    parser.add_argument("--minutes", nargs="*", type=float, default=[0, 1, 3, 10])
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--scratch", action="store_true")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    path = given.shared if given.table else given.out
    results = json.loads(path.read_text()) if path.exists() else {}
    if given.table:
        print(table(results))
        return
    minutes = sorted({0.0, *given.minutes})
    names = [row_name(TEACH, 0), *([FOREST, NATIVE] if given.others else [])]
    names += [row_name(TEACH, one) for one in minutes[1:]]
    names += [row_name(SCRATCH, minutes[-1])] if given.scratch else []
    with tempfile.TemporaryDirectory() as work:
        cases = {name: Case(name, given.shared, Path(work)) for name in given.cases}
        for name in names:
            for kind, case in cases.items():
                known = results.setdefault(kind, {})
                if name not in known:
                    known[name] = run(case, name, known)
                    path.write_text(json.dumps(results, indent=1) + "\n")
                    print(kind, name, known[name], flush=True)


if __name__ == "__main__":
    main()

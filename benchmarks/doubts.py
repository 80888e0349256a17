"""Five rounds of the loop on Dubai, its truth in place of a person: label doubtful places, or random ones?

    OMP_NUM_THREADS=1 python benchmarks/doubts.py SHARED_DATA OUT.json [--draws 3] [--rounds 5]
    python benchmarks/doubts.py --table OUT.json

A map of two areas of 512 x 512 px is made by linear classifiers on the bundled model's encoder (`teach --minutes 0`)
that know three squares of 15 px of each class, drawn by a seed. Each round the ten places of `aerialseg doubts` (32 px
blocks) are labelled wholly by the truth, and the classifiers are fitted anew; beside it the same by the margin between
the two likeliest classes instead of the confidence, and by ten random blocks of the same grid. Judged on 512 x 512 px
of each of five other tiles. Results are kept draw by draw.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from teach_cases import CRS, JUDGED_PX, TAUGHT, dubai_middles, dubai_place

from aerialseg.evaluation.doubts import COUNT, SIDE_PX, find_doubts
from aerialseg.evaluation.scores import Confusion
from aerialseg.legend import NODATA, Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.networks import build_for
from aerialseg.model.stage_heads import StageHeads
from aerialseg.model.store import load_network
from aerialseg.progress import Silent
from aerialseg.training.teaching.candidates import ARCHITECTURE
from aerialseg.training.teaching.stage_fit import fit_heads

SQUARES, SQUARE_PX = 3, 15
DOUBTS, MARGIN, RANDOM = "doubts", "doubts by margin", "random places"
WAYS = (DOUBTS, MARGIN, RANDOM)


@dataclass
class Labelled:
    """Areas with what is labelled of them so far, as `ChipPixels` gives chips."""

    images: list[np.ndarray]
    truth: list[np.ndarray]
    known: list[np.ndarray]
    card: ModelCard

    @property
    def frames(self) -> range:
        return range(len(self.images))

    @property
    def counts(self) -> np.ndarray:
        classes = len(self.card.legend)
        return np.array([np.bincount(known[known != NODATA], minlength=classes) for known in self.known])

    def chip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return self.images[number], self.known[number]

    def normalised(self, image: np.ndarray) -> torch.Tensor:
        mean, std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (self.card.mean, self.card.std))
        return torch.from_numpy((image.astype(np.float32) / 255 - mean) / std)

    def label(self, area: int, top: int, left: int, side: int) -> None:
        part = slice(max(0, top), top + side), slice(max(0, left), left + side)
        self.known[area][part] = self.truth[area][part]


def draw(shared: Path, seed: int, card: ModelCard) -> Labelled:
    """The middle of the two tiles, with a few squares of each class labelled."""
    rng = np.random.default_rng(seed)
    images, truth = zip(*dubai_middles(shared / "dubai", card.legend, TAUGHT), strict=True)
    found = Labelled(list(images), list(truth), [np.full_like(one, NODATA) for one in truth], card)
    places = [(area, *at) for area, one in enumerate(truth) for at in np.argwhere(one != NODATA)[::97]]
    classes = np.array([truth[area][row, col] for area, row, col in places])
    for number in range(len(card.legend)):
        there = np.flatnonzero(classes == number)
        for at in rng.choice(there, min(SQUARES, len(there)), replace=False):
            area, row, col = places[at]
            found.label(area, row - SQUARE_PX // 2, col - SQUARE_PX // 2, SQUARE_PX)
    return found


@torch.no_grad()
def predict(
    network: StageHeads, labelled: Labelled, image: np.ndarray, how: str = DOUBTS
) -> tuple[np.ndarray, np.ndarray]:
    """Classes, and their probability in per cent, or how far it is above that of the next."""
    said = torch.softmax(network.eval()(labelled.normalised(image)[None]), dim=1)[0].topk(2, dim=0)
    sure = said.values[0] - said.values[1] if how == MARGIN else said.values[0]
    return said.indices[0].numpy().astype(np.uint8), (sure * 100).round().numpy().astype(np.uint8)


def ask(how: str, network: StageHeads, labelled: Labelled, work: Path, rng: np.random.Generator) -> None:
    """Label ten places: those that `find_doubts` names, by the one or the other, or random blocks of its grid."""
    if how == RANDOM:
        across = JUDGED_PX // SIDE_PX
        for at in rng.choice(len(labelled.images) * across**2, COUNT, replace=False):
            area, place = divmod(int(at), across**2)
            labelled.label(area, place // across * SIDE_PX, place % across * SIDE_PX, SIDE_PX)
        return
    files: list[list[Path]] = [[], []]
    for area, image in enumerate(labelled.images):
        classes, confidence = predict(network, labelled, image, how)
        confidence[labelled.known[area] != NODATA] = 100  # as --corrections would write it
        at = dubai_place(area)
        for kind, values, found in zip(("classes", "confidence"), (classes, confidence), files, strict=True):
            found.append(work / f"{area}-{kind}.tif")
            profile = {
                "driver": "GTiff",
                "height": values.shape[0],
                "width": values.shape[1],
                "count": 1,
                "nodata": NODATA,
            }
            with rasterio.open(found[-1], "w", dtype="uint8", crs=CRS, transform=at, **profile) as file:
                file.write(values, 1)
    for place in find_doubts(*files, work / "places.gpkg", overwrite=True):
        x, y = place.corners[0]
        area = next(n for n in labelled.frames if 0 <= x - dubai_place(n).c < JUDGED_PX)
        col, row = ~dubai_place(area) * (x, y)
        labelled.label(area, round(row), round(col), SIDE_PX)


def rounds(how: str, seed: int, count: int, shared: Path, work: Path) -> list[dict[str, float]]:
    """Scores before the first round and after each."""
    parent, encoder = load_network(None)
    names = [entry for entry in Legend.from_csv(shared / "dubai" / "legend.csv") if entry.name != "unlabeled"]
    legend = Legend(tuple(replace(entry, id=number) for number, entry in enumerate(names)))
    card = replace(parent, legend=legend, void=(), architecture=ARCHITECTURE)
    network = build_for(card)
    known = encoder.encoder_layers().state_dict().values()
    network.encoder.load_state_dict(dict(zip(network.encoder.state_dict(), known, strict=True)))
    labelled, judged = draw(shared, seed, card), dubai_middles(shared / "dubai", legend)
    rng, found = np.random.default_rng(seed), []
    for number in range(count + 1):
        if number:
            ask(how, network, labelled, work, rng)
        torch.manual_seed(seed)
        fit_heads(network, labelled, seed, Silent())
        confusion = Confusion.empty(len(legend))
        for pixels, truth in judged:
            confusion += Confusion.of(truth, predict(network, labelled, pixels)[0], len(legend))
        found.append({"accuracy": round(confusion.pixel_accuracy, 3), "mean_iou": round(confusion.mean_iou, 3)})
        print(how, seed, number, found[-1], flush=True)
    return found


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Means over the draws that were run in all ways."""
    draws = sorted({name.rpartition(" ")[2] for name in results})
    draws = [one for one in draws if all(f"{how} {one}" in results for how in WAYS)]
    count = len(next(iter(results.values())))
    lines = [f"| labelled, {len(draws)} draws | {' | '.join(WAYS)} |", "|---|---|---|---|"]
    for number in range(count):
        cells = []
        for how in WAYS:
            scores = [results[f"{how} {one}"][number] for one in draws]
            accuracy, iou = (statistics.mean(one[key] for one in scores) for key in ("accuracy", "mean_iou"))
            cells.append(f"{accuracy:.3f} / {iou:.3f}")
        lines.append(f"| {f'+ {number * COUNT} places' if number else 'squares alone'} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    path = given.shared if given.table else given.out
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if given.table:
        print(table(results))
        return
    with tempfile.TemporaryDirectory() as work:
        for seed in range(given.draws):
            for how in WAYS:
                if f"{how} {seed}" not in results:
                    results[f"{how} {seed}"] = rounds(how, seed, given.rounds, given.shared, Path(work))
                    path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

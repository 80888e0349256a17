"""How often the warning "does not look like what the model knows" comes: on imagery like the model's, and on foreign.

    python benchmarks/trust.py --good DIR --foreign DIR [--split SPLIT.csv] [--model NAME]

good: frames of the model's own kind, of which only those count that SPLIT.csv holds out. foreign: any other rasters.
Prints mean confidence and share below 50 % of each map, and how many fall below the threshold.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from aerialseg.errors import AerialsegError, MisfitError
from aerialseg.files import read_table
from aerialseg.mapping.segment import segment
from aerialseg.mapping.trust import FOREIGN_MEAN, Certainty, rate_map

MAX_PX = 2_500_000
"""Larger maps are left out: on a CPU each would take a minute and more."""
ENDINGS = (".tif", ".tiff", ".jpg", ".png")


def map_one(path: Path, model: str | None) -> tuple[Certainty, str] | None:
    """The certainty of a map of one raster as a user makes it, and how its resolution was chosen."""
    with tempfile.TemporaryDirectory() as folder:
        layer, classes, confidence = (Path(folder, name) for name in ("m.gpkg", "c.tif", "p.tif"))
        for way in (None, "native"):
            try:
                segment(
                    path, layer, model=model, raster=classes, confidence=confidence, resolution_m=way, max_pixels=MAX_PX
                )
            except MisfitError:  # too coarse, and so the message says --resolution native
                continue
            except AerialsegError as error:
                print(f"  {path.name}: {str(error)[:90]}")
                return None
            found = rate_map(classes, confidence).whole
            return None if found is None else (found, "native" if way else "default")
    return None


def measure(name: str, paths: Sequence[Path], model: str | None) -> list[float]:
    means = []
    for path in paths:
        found = map_one(path, model)
        if found:
            certainty, way = found
            means.append(certainty.mean)
            print(f"| {name} | {path.name} | {way} | {certainty.mean:.1%} | {certainty.low_share:.1%} |", flush=True)
    return means


def rasters(folder: Path, split: Path | None = None) -> Iterator[Path]:
    held = (
        {row["frame"] for _, row in read_table(split, "split", ["frame", "held_out"]) if row["held_out"] == "1"}
        if split
        else None
    )
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and (held is None or path.stem in held):
            yield path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--good", type=Path, required=True)
    parser.add_argument("--foreign", type=Path, action="append", required=True)
    parser.add_argument("--split", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--every", type=int, default=1, help="of the good frames, only every so many")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    print("| imagery | raster | resolution | mean confidence | below 50 % |\n|---|---|---|---|---|")
    good = measure("own kind", list(rasters(args.good, args.split))[:: args.every], args.model)
    foreign = measure("foreign", [path for one in args.foreign for path in rasters(one)], args.model)
    for name, means in (("own kind", good), ("foreign", foreign)):
        ordered = sorted(means)
        warned = sum(mean < FOREIGN_MEAN for mean in means)
        middle = ordered[len(ordered) // 2] if ordered else 0.0
        print(f"{name}: {warned} of {len(means)} warned, {ordered[0]:.1%} to {ordered[-1]:.1%}, median {middle:.1%}")
    cuts = [value / 100 for value in range(50, 86)]
    best = min(
        cuts,
        key=lambda cut: (
            sum(mean < cut for mean in good) / len(good) + sum(mean >= cut for mean in foreign) / len(foreign)
        ),
    )
    print(f"threshold with the fewest errors of both kinds: {best:.0%}")


if __name__ == "__main__":
    main()

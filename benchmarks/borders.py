"""What tiles lose at their borders when they are mapped one by one, by distance from the border.

    python benchmarks/borders.py [--side 2400] [--svg docs/images/borders.svg]

The demo's scene is mapped whole and cut into 2 x 2 files: each file alone, and all as one. Printed is the share of
labels that differ from those of the whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

import aerialseg
from aerialseg.evaluation.charts import LineSeries, lines, standalone

EDGES = (0, 8, 16, 32, 64, 128, 256, 448, 608, 100_000)


def labels_of(source: Any, folder: Path, name: str) -> np.ndarray:
    """Class ids of the map of a raster, or of several as one."""
    raster = folder / f"{name}.tif"
    aerialseg.segment(source, folder / f"{name}.fgb", raster=raster, resolution_m="native")
    with rasterio.open(raster) as file:
        labels: np.ndarray = file.read(1)
        return labels


def cut(source: Path, folder: Path) -> list[tuple[Path, tuple[slice, slice]]]:
    """Four files, and where each lies."""
    with rasterio.open(source) as file:
        pixels, mask, place, profile = file.read(), file.dataset_mask(), file.transform, file.profile
    middle = [side // 2 for side in pixels.shape[1:]]
    tiles = []
    for row, rows in enumerate((slice(0, middle[0]), slice(middle[0], None))):
        for col, cols in enumerate((slice(0, middle[1]), slice(middle[1], None))):
            part, path = pixels[:, rows, cols], folder / f"tile-{row}{col}.tif"
            size = {"height": part.shape[1], "width": part.shape[2]}
            at = place @ Affine.translation(cols.start, rows.start)
            inside = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True)
            with inside, rasterio.open(path, "w", **(profile | size | {"transform": at})) as file:
                file.write(part)
                file.write_mask(mask[rows, cols])
            tiles.append((path, (rows, cols)))
    return tiles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=2400)
    parser.add_argument("--svg", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, _ = aerialseg.draw_demo(folder, width=given.side, height=given.side)
        whole, tiles = labels_of(source, folder, "whole"), cut(source, folder)
        alone = np.empty_like(whole)
        for path, where in tiles:
            alone[where] = labels_of(path, folder, f"alone-{path.stem}")
        joined = labels_of([path for path, _ in tiles], folder, "joined")
    rows, cols = np.indices(whole.shape)
    away = np.minimum(*(np.abs(place - size // 2) for place, size in zip((rows, cols), whole.shape, strict=True)))
    print(f"as one: {(joined != whole).sum():,} of {whole.size:,} labels differ")
    shares = []
    for low, high in pairwise(EDGES):
        ring = (away >= low) & (away < high)
        shares.append(100 * float((alone != whole)[ring].mean()))
        print(f"one by one, {low:>3} px and more from the border: {shares[-1]:.2f} %")
    if given.svg:
        series = [LineSeries("tiles mapped one by one", list(EDGES[:-1]), shares)]
        series.append(LineSeries("tiles mapped as one: none", [0, EDGES[-2]], [0, 0]))
        chart = lines(series, "pixels from the border between two files", "% of labels that differ", size=(300, 720))
        given.svg.write_text(standalone(chart), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

"""The picture of docs/vectors.md: one junction, simplified polygon by polygon and by arcs, with the same tolerance.

    python benchmarks/junction.py docs/images/junction.png

Prints how much of the ground each way leaves to nobody, and how much it gives to several.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import geopandas
import matplotlib
import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import DatasetWriter

import aerialseg
from aerialseg import LandClass, Legend

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import Patch

SIZE = 72
TOLERANCE_PX = 2.5
LEGEND = Legend(
    (
        LandClass(0, "grass", (154, 190, 106)),
        LandClass(1, "paved area", (176, 171, 182)),
        LandClass(2, "roof", (206, 139, 111)),
        LandClass(3, "water", (110, 160, 200)),
    )
)
GAP, OVERLAP = "#ffffff", "#d3122a"


def draw_classes() -> NDArray[np.uint8]:
    """Four classes that meet, with the ragged borders that networks draw."""
    rng = np.random.default_rng(5)
    row, col = np.mgrid[:SIZE, :SIZE] / SIZE
    slopes = (row + 0.4 * col, 1.15 - row, 0.65 + 0.7 * (col - row), 1.05 - 0.9 * abs(row - 0.5) - col)
    fields = [slope + 0.09 * _waves(row, col, rng) + 0.012 * rng.standard_normal(row.shape) for slope in slopes]
    return np.argmax(fields, axis=0).astype(np.uint8)


def _waves(row: NDArray[np.float64], col: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    shifts = rng.uniform(0, 6, (5, 2))
    waves = [np.sin(7 * k * row + a) * np.cos(6 * k * col + b) / k for k, (a, b) in enumerate(shifts, 1)]
    return np.sum(waves, axis=0)


def write(path: Path, classes: NDArray[np.uint8]) -> None:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": SIZE, "width": SIZE, "nodata": 255}
    place = {"crs": "EPSG:32633", "transform": Affine(1, 0, 500_000, 0, -1, 5_000_000)}
    file: DatasetWriter
    with rasterio.open(path, "w", **profile, **place) as file:
        file.write(classes, 1)


def one_by_one(path: Path) -> geopandas.GeoDataFrame:
    """What features.shapes and simplify give, polygon by polygon."""
    with rasterio.open(path) as file:
        found = list(rasterio.features.shapes(file.read(1), transform=file.transform))
        crs = file.crs
    polygons = shapely.simplify([shapely.geometry.shape(one) for one, _ in found], TOLERANCE_PX)
    return geopandas.GeoDataFrame({"class_id": [int(value) for _, value in found]}, geometry=list(polygons), crs=crs)


def by_arcs(path: Path, folder: Path, *, smooth: bool) -> geopandas.GeoDataFrame:
    output = folder / "map.gpkg"
    aerialseg.polygonize(path, output, legend=LEGEND, simplify_m=TOLERANCE_PX, smooth=smooth, overwrite=True)
    return geopandas.read_file(output, layer="landcover")


def torn(frame: geopandas.GeoDataFrame) -> tuple[shapely.Geometry, shapely.Geometry]:
    """(ground of nobody, ground of several)"""
    polygons = shapely.make_valid(frame.geometry.values)
    whole = shapely.box(500_000, 5_000_000 - SIZE, 500_000 + SIZE, 5_000_000)
    pairs = shapely.STRtree(polygons).query(polygons, predicate="intersects").T
    twice = [shapely.intersection(polygons[a], polygons[b]) for a, b in pairs if a < b]
    twice = [one for one in twice if one.area > 0]
    return shapely.difference(whole, shapely.union_all(polygons)), shapely.union_all(twice)


def panel(axis: pyplot.Axes, frame: geopandas.GeoDataFrame, title: str) -> None:
    gaps, overlaps = torn(frame)
    for entry in LEGEND:
        part = frame[frame.class_id == entry.id]
        if len(part):
            part.plot(ax=axis, color=entry.hex, edgecolor="#404040", linewidth=0.7)
    for geometry, color in ((gaps, GAP), (overlaps, OVERLAP)):
        if geometry.area > 0:
            geopandas.GeoSeries([geometry]).plot(ax=axis, color=color, edgecolor="none", zorder=3)
    share = [geometry.area / SIZE**2 for geometry in (gaps, overlaps)]
    axis.set_title(f"{title}\ngaps {share[0]:.1%}, overlaps {share[1]:.1%}", fontsize=11)
    axis.set(xlim=(500_000, 500_000 + SIZE), ylim=(5_000_000 - SIZE, 5_000_000), aspect="equal")
    axis.set_axis_off()
    print(f"{title}: {len(frame)} polygons, gaps {share[0]:.3%}, overlaps {share[1]:.3%} of the ground")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    picture = parser.parse_args().picture
    figure, axes = pyplot.subplots(1, 3, figsize=(13, 5.1), layout="constrained")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "classes.tif")
        write(path, draw_classes())
        panel(axes[0], one_by_one(path), "simplified polygon by polygon")
        panel(axes[1], by_arcs(path, Path(name), smooth=False), "aerialseg: by shared lines")
        panel(axes[2], by_arcs(path, Path(name), smooth=True), "aerialseg, with --smooth")
    handles = [Patch(facecolor=entry.hex, label=entry.name) for entry in LEGEND]
    handles += [Patch(facecolor=GAP, edgecolor="#404040", label="gap"), Patch(facecolor=OVERLAP, label="overlap")]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(picture, dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()

"""Run rasters through the whole job and draw each result beside its input, to be looked at.

    python benchmarks/gallery.py OUT_DIR RASTER.tif ... [--model DIR] [--resolution M|native]
    python benchmarks/gallery.py OUT_DIR --demo              # the drawn scene
    python benchmarks/gallery.py OUT_DIR --teach 2          # of README and docs/teach.md: 2 minutes of teaching
    python benchmarks/gallery.py OUT_DIR --shared DIR [--drone 4]   # the real rasters, some drone frames among them

What is drawn on the right are the polygons of the layer, not the class raster. A raster that is refused is listed with
the reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import geopandas
import matplotlib
import numpy as np
import rasterio
from affine import Affine
from PIL import Image
from rasterio.warp import Resampling

import aerialseg
from aerialseg.datasets.demo import draw_demo

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import Patch

LONGEST_PX = 1600


def draw(source: Path, layer: Path, picture: Path) -> None:
    """Input on the left, polygons on the right, the classes that occur below."""
    polygons = geopandas.read_file(layer, layer="landcover")
    with rasterio.open(source) as file:
        shrink = max(1.0, max(file.shape) / LONGEST_PX)
        shape = (file.count, round(file.height / shrink), round(file.width / shrink))
        image = file.read(out_shape=shape, resampling=Resampling.average)[:3]
        mask = file.dataset_mask(out_shape=shape[1:]) > 0
        transform = file.transform @ Affine.scale(file.width / shape[2], file.height / shape[1])
    rgb = np.moveaxis(image if len(image) == 3 else np.repeat(image[:1], 3, 0), 0, -1)
    rgb = np.where(mask[..., None], rgb, 255)
    figure, axes = pyplot.subplots(1, 2, figsize=(15, 15 * shape[1] / shape[2] / 2 + 0.9), layout="constrained")
    axes[0].imshow(rgb)
    to_pixels = ~transform
    drawn = polygons.set_geometry(
        polygons.affine_transform([to_pixels.a, to_pixels.b, to_pixels.d, to_pixels.e, to_pixels.c, to_pixels.f])
    )
    handles = []
    legend = aerialseg.ModelCard.read(find_card()).legend
    for class_id in polygons.groupby("class_id").area_m2.sum().sort_values(ascending=False).index:
        entry = legend[class_id]
        drawn[drawn.class_id == class_id].plot(ax=axes[1], color=entry.hex, edgecolor="none", antialiased=False)
        handles.append(Patch(color=entry.hex, label=entry.name))
    axes[1].set(xlim=axes[0].get_xlim(), ylim=axes[0].get_ylim(), aspect="equal")
    for axis in axes:
        axis.set_axis_off()
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 12), frameon=False)
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


def show_teaching(out: Path, minutes: float) -> None:
    """The demo scene with its labels, the map of the bundled model, and that of a model taught with the labels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ortho, _ = draw_demo(folder / "demo")
        taught = aerialseg.teach(ortho, ortho.with_name("labels.gpkg"), folder / "model", minutes=minutes)
        print(taught.text())
        aerialseg.segment(ortho, folder / "before.gpkg")
        aerialseg.segment(ortho, folder / "after.gpkg", model=taught.folder)
        draw_teaching(ortho, folder / "before.gpkg", folder / "after.gpkg", taught.folder, out / "teach.png")


def draw_teaching(ortho: Path, before: Path, after: Path, model: Path, picture: Path) -> None:
    """Labels, the map before and the map after, side by side; below them the classes of the labels."""
    layers = (ortho.with_name("labels.gpkg"), "labels"), (before, "landcover"), (after, "landcover")
    legends = [aerialseg.load_model(one).card.map_legend for one in (model, None, model)]
    with rasterio.open(ortho) as file:
        image, mask, edges = np.moveaxis(file.read(), 0, -1), file.dataset_mask() > 0, file.bounds
    image = np.where(mask[..., None], image, 255)
    figure, axes = pyplot.subplots(1, 3, figsize=(18, 5.2), layout="constrained")
    titles = ("labels", "the bundled model", "after teaching")
    for axis, (path, layer), legend, title in zip(axes, layers, legends, titles, strict=True):
        polygons = geopandas.read_file(path, layer=layer)
        names = polygons["class" if layer == "labels" else "class_name"]
        axis.imshow(image, extent=(edges.left, edges.right, edges.bottom, edges.top))
        colours = names.map({entry.name: entry.hex for entry in legend})
        polygons.plot(ax=axis, color=colours, edgecolor="none", antialiased=False)
        axis.set(xlim=(edges.left, edges.right), ylim=(edges.bottom, edges.top), title=title)
        axis.set_axis_off()
    patches = [Patch(color=entry.hex, label=entry.name) for entry in legends[2]]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.savefig(picture, dpi=80)
    pyplot.close(figure)


MODEL: Path | None = None


def find_card() -> Path:
    from aerialseg.model.folders import model_dir

    return model_dir(MODEL) / "card.json"


def show(source: Path, out: Path, **options: Any) -> None:
    picture = out / f"{source.stem}.png"
    with tempfile.TemporaryDirectory() as folder:
        layer = Path(folder) / "map.gpkg"
        try:
            result = aerialseg.segment(source, layer, model=MODEL, **options)
        except aerialseg.AerialsegError as error:
            print(f"{source.name}: refused ({type(error).__name__}): {error}")
            return
        draw(source, layer, picture)
    classes = ", ".join(f"{line.name} {line.share:.0%}" for line in result.classes[:4])
    spent = sum(spent for name, spent in result.seconds.items() if name not in ("read", "write"))
    print(f"{source.name}: {result.plan.view.note}; {result.polygons} polygons in {spent:.1f} s; {classes}")


def georeferenced(frame: Path, folder: Path, gsd_m: float) -> Path:
    """A drone frame as a GeoTIFF somewhere in Graz, where it was flown."""
    pixels = np.moveaxis(np.asarray(Image.open(frame).convert("RGB")), -1, 0)
    path = folder / f"drone-{frame.stem}.tif"
    place = Affine(gsd_m, 0, 533_000, 0, -gsd_m, 5_213_000)
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": place, "dtype": "uint8", "photometric": "RGB"}
    with rasterio.open(path, "w", count=3, height=pixels.shape[1], width=pixels.shape[2], **profile) as file:
        file.write(pixels)
    return path


def main() -> None:
    global MODEL
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("rasters", type=Path, nargs="*")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--resolution", default=None)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--teach", type=float, metavar="MINUTES")
    parser.add_argument("--shared", type=Path, help="../shared/data")
    parser.add_argument("--drone", type=int, default=4, help="so many drone frames")
    arguments = parser.parse_args()
    MODEL = arguments.model
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.teach is not None:
        show_teaching(arguments.out, arguments.teach)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rasters = list(arguments.rasters)
        if arguments.demo:
            rasters.append(draw_demo(folder / "demo")[0].rename(folder / "demo.tif"))
        if arguments.shared:
            frames = sorted((arguments.shared / "drone" / "original_images").glob("*.jpg"))
            gsd_m = aerialseg.ModelCard.read(find_card()).gsd_m
            rasters += [georeferenced(f, folder, gsd_m) for f in frames[:: max(1, len(frames) // arguments.drone)]]
            rasters += sorted((arguments.shared / "geo").rglob("*.tif*"))
        for raster in rasters:
            if raster.suffix in (".tif", ".tiff"):
                show(raster, arguments.out, resolution_m=arguments.resolution)


if __name__ == "__main__":
    sys.exit(main())

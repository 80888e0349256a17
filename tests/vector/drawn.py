"""Class rasters drawn for tests, and ways to look at what became of them."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from affine import Affine
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rasterio.errors import NotGeoreferencedWarning

from aerialseg.executor import TaskPool
from aerialseg.legend import NODATA, LandClass, Legend
from aerialseg.raster.classes import ClassRaster
from aerialseg.raster.georef import GeoGrid
from aerialseg.vector.layers import LayerInfo, Shapes, find_shapes, make_lines, polygonize
from aerialseg.vector.polygons import make_polygons

LEGEND = Legend(tuple(LandClass(i, f"class {i}", (i * 37 % 256, i * 91 % 256, 200 - i * 20)) for i in range(8)))
NORTH_UP = Affine(0.05, 0, 500_000, 0, -0.05, 5_000_000)
PIXELS = Affine(1, 0, 0, 0, 1, 0)
PIXEL_GRID = GeoGrid(1, 1, tuple(PIXELS)[:6], None)
"""Polygons on it have pixel coordinates; its size does not matter to them."""
TASK_STRIPS = 3
"""Strips that are read together, so that small rasters have seams of both kinds."""


def write(
    path: Path, classes: np.ndarray, transform: Affine = NORTH_UP, crs: str | None = "EPSG:32633", **profile: object
) -> Path:
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "nodata": NODATA, **profile}
    height, width = classes.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=height, width=width, transform=transform, crs=crs, **profile) as file:
            file.write(classes.astype(np.uint8), 1)
    return path


def shapes_of(classes: np.ndarray, *, min_pixels: int = 0, strip_rows: int = 1024, workers: int = 1) -> Shapes:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "classes.tif"), classes)
        with TaskPool(workers) as pool:
            raster = ClassRaster(path, strip_rows=strip_rows)
            raster.task_rows = TASK_STRIPS * raster.strip_rows
            return find_shapes(raster, LEGEND, min_pixels, pool=pool)


def polygons_of(
    classes: np.ndarray,
    tolerance_px: float = 0,
    *,
    smooth: int = 0,
    min_pixels: int = 0,
    strip_rows: int = 1024,
    workers: int = 1,
    transform: Affine = PIXELS,
) -> tuple[np.ndarray, np.ndarray]:
    """(polygons, their classes) in pixel coordinates unless there is another transform."""
    shapes = shapes_of(classes, min_pixels=min_pixels, strip_rows=strip_rows, workers=workers)
    geo = replace(PIXEL_GRID, transform=tuple(transform)[:6])
    with TaskPool(workers) as pool:
        lines = make_lines(shapes, tolerance_px, smooth, geo, pool)
        made = make_polygons(lines, shapes.rings, geo, batch=100, pool=pool)
        batches = [batch.polygons for batch in made]
    return np.concatenate([np.array([], object), *batches]), shapes.regions.classes


def layer_of(folder: Path, classes: np.ndarray, confidence: np.ndarray | None = None, **options):  # type: ignore[no-untyped-def]
    """(GeoDataFrame of the layer, LayerInfo, path)."""
    transform, crs = options.pop("transform", NORTH_UP), options.pop("crs", "EPSG:32633")
    raster = write(folder / "classes.tif", classes, transform, crs)
    rated = None if confidence is None else write(folder / "confidence.tif", confidence, transform, crs)
    output = folder / "landcover.gpkg"
    info: LayerInfo = polygonize(raster, rated, output, legend=LEGEND, **options)
    return pyogrio.read_dataframe(output, layer="landcover"), info, output


def assert_tiles(polygons: np.ndarray, classes: np.ndarray) -> None:
    """In pixel coordinates: valid, no gaps, no overlaps, exactly the valid pixels."""
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
    valid = int((classes != NODATA).sum())
    assert shapely.area(polygons).sum() == (valid if not len(polygons) else np.float64(valid))
    outline = shapely.coverage_union_all(polygons)
    assert shapely.area(outline) == valid


def noise(height: int, width: int, *, classes: int = 5, nodata: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, classes, (height, width), dtype=np.uint8)
    drawn[rng.random(drawn.shape) < nodata] = NODATA
    return drawn


def blobs(height: int, width: int, *, classes: int = 5, seed: int = 0, specks: float = 0.01) -> np.ndarray:
    """Smooth patches with slanted borders, specks on them, and a slanted edge of nodata."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:height, :width]
    waves = [
        np.sin(row * rng.uniform(0.02, 0.3) + col * rng.uniform(-0.3, 0.3) + rng.uniform(0, 6))
        + np.sin(row * rng.uniform(-0.2, 0.2) + col * rng.uniform(0.02, 0.3))
        for _ in range(classes)
    ]
    drawn = np.argmax(waves, axis=0).astype(np.uint8)
    spots = rng.random(drawn.shape) < specks
    drawn[spots] = rng.integers(0, classes, int(spots.sum()))
    drawn[row + 3 * col < height // 2] = NODATA
    return drawn


def spiral(size: int) -> np.ndarray:
    drawn = np.zeros((size, size), np.uint8)
    row, col, dr, dc = 0, 0, 0, 1
    drawn[0, 0] = 1
    turns = 0
    while turns < 2:
        ahead, beyond = (row + dr, col + dc), (row + 2 * dr, col + 2 * dc)
        free = 0 <= ahead[0] < size and 0 <= ahead[1] < size
        if free and 0 <= beyond[0] < size and 0 <= beyond[1] < size:
            free = drawn[beyond] == 0
        if free:
            row, col = ahead
            drawn[row, col] = 1
            turns = 0
        else:
            dr, dc = dc, -dr
            turns += 1
    return drawn


def rings_around(size: int, step: int = 2) -> np.ndarray:
    row, col = np.mgrid[:size, :size]
    middle = (size - 1) / 2
    return (np.maximum(abs(row - middle), abs(col - middle)) // step % 3).astype(np.uint8)


def islands(count: int) -> np.ndarray:
    side = int(np.ceil(count**0.5))
    drawn = np.zeros((2 * side + 1, 2 * side + 1), np.uint8)
    drawn[1::2, 1::2] = 1
    return drawn


def beside_a_border(length: int = 60) -> np.ndarray:
    """A ragged slanted border with islands of one pixel on both sides, so near that a straight line jumps over them."""
    row, col = np.mgrid[:length, :length]
    border = (row + row // 3 % 2 + col // 4 % 2) // 2
    drawn = (col > border).astype(np.uint8)
    drawn[(col == border + 2) & (row % 5 == 0)] = 2
    drawn[(col == border - 1) & (row % 7 == 0)] = 3
    return drawn


ADVERSARIES = {
    "checkerboard": np.indices((12, 15)).sum(axis=0).astype(np.uint8) % 2,
    "spiral": spiral(31),
    "diagonal touching": np.eye(9, dtype=np.uint8),
    "ring that touches itself": np.array([[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], np.uint8),
    "1 x 1": np.zeros((1, 1), np.uint8),
    "1 x N": np.array([[0, 0, 1, 1, 2, 255, 0]], np.uint8),
    "N x 1": np.array([[0, 0, 1, 1, 2, 255, 0]], np.uint8).T,
    "one class": np.full((9, 13), 3, np.uint8),
    "all nodata": np.full((5, 6), 255, np.uint8),
    "T junction": np.array([[1, 1, 1, 1], [2, 2, 3, 3]], np.uint8),
    "concentric rings": rings_around(40),
    "concentric rings, one pixel": rings_around(21, 1),
    "across band corners": np.kron([[0, 1], [1, 0]], np.ones((7, 64), int)).astype(np.uint8),
    "islands beside a border": beside_a_border(),
    "holes in nodata": np.where(islands(25) == 1, 255, islands(25)).astype(np.uint8),
    "blobs": blobs(90, 110),
    "noise": noise(50, 40),
}


def rasters(most: int = 24) -> st.SearchStrategy[np.ndarray]:
    """Small class rasters of up to 3 classes and nodata, single pixels or in patches."""
    values = st.sampled_from([0, 0, 1, 1, 2, NODATA])
    fine = hnp.arrays(np.uint8, st.tuples(st.integers(1, most), st.integers(1, most)), elements=values)
    patch = st.tuples(st.integers(1, 5), st.integers(1, 5))
    return st.one_of(fine, st.builds(lambda a, p: np.kron(a, np.ones(p, np.uint8)), fine, patch))

"""A drawn scene with its truth: somewhere to try things without an orthophoto, and what the tests stand on.

A street, houses, gardens, trees, cars and a pool, seen from above. Nothing in it is a photograph: shapes are implicit
functions and textures are value noise (Perlin's idea in its simplest form), so the scene may be shared freely.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.datasets.demo_labels import write_demo_labels
from aerialseg.errors import OutputError, UsageError
from aerialseg.legend import NODATA

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]

GSD_M = 0.035
WIDTH_M, HEIGHT_M = 60.0, 45.0
EPSG = 32633
UPPER_LEFT = (388_000.0, 5_820_000.0)
LABELS = "labels.gpkg"
CLASSES = (
    "paved-area",
    "grass",
    "gravel",
    "dirt",
    "vegetation",
    "roof",
    "pool",
    "tree",
    "car",
    "wall",
    "person",
    "rocks",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """pixels: uint8 (3, h, w); truth: uint8 (h, w) class ids, 255 where not flown over; valid: bool (h, w)."""

    pixels: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    valid: Mask


def draw_demo(
    folder: str | Path, *, width: int = 1200, height: int = 900, seed: int = 7, overwrite: bool = False
) -> tuple[Path, Path]:
    """The paths of ``ortho.tif`` (RGB with an internal mask) and ``truth.tif`` (class ids), written into ``folder``.

    The scene lies in UTM zone 33N at 3.5 cm per pixel. Its left and right edges are masked (no data). A few polygons of
    labels, in classes of their own, lie beside it in ``labels.gpkg``, for ``teach``.

    Parameters
    ----------
    folder : path
        Where to write; made if it does not exist.
    width, height : int, px
        Size of the scene, 64 or more; 1716 x 1286 px show all of it.
    seed : int
        Another seed draws another scene.
    overwrite : bool
        Replace files that exist.

    Raises
    ------
    UsageError
        The scene is too small, or the files exist.
    OutputError
        The files cannot be written.
    """
    from aerialseg.model.store import load_card
    from aerialseg.raster.georef import GeoGrid
    from aerialseg.raster.image import write_classes, write_rgb

    folder = Path(folder)
    ortho, truth = folder / "ortho.tif", folder / "truth.tif"
    labels = folder / LABELS
    there = [path for path in (ortho, truth, labels) if path.exists()]
    if there and not overwrite:
        raise UsageError(f"{there[0]} exists: add --overwrite to draw it again")
    card = load_card(None)
    ids = {entry.name: entry.id for entry in card.legend}
    scene = draw_scene(width, height, {name: ids[name] for name in CLASSES}, seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    geo = GeoGrid(height, width, (GSD_M, 0.0, UPPER_LEFT[0], 0.0, -GSD_M, UPPER_LEFT[1]), f"EPSG:{EPSG}")
    write_rgb(ortho, scene.pixels, scene.valid, geo)
    write_classes(truth, scene.truth, geo, card.map_legend)
    write_demo_labels(labels, scene.truth, {ids[name]: name for name in CLASSES}, geo, seed)
    return ortho, truth


def draw_scene(width: int, height: int, ids: dict[str, int], seed: int = 7) -> Scene:
    """The scene as arrays, for a legend that gives each of ``CLASSES`` an id."""
    if width < 64 or height < 64:
        raise UsageError(f"a scene of {width} x {height} px: wanted 64 x 64 or more")
    canvas = _Canvas(width, height, ids, np.random.default_rng(seed))
    _ground(canvas)
    _street(canvas)
    for plot in range(3):
        _garden(canvas, plot)
    _cars(canvas)
    return canvas.finish()


class _Canvas:
    """Layers of paint over a ground, in metres from the upper left corner of the whole scene (x right, y down)."""

    def __init__(self, width: int, height: int, ids: dict[str, int], rng: np.random.Generator) -> None:
        self.rng, self.ids = rng, ids
        self.shape = (height, width)
        rows, cols = np.mgrid[0:height, 0:width].astype(np.float32)
        # A small picture looks at the middle of the first two gardens.
        self.left, top = max(0.0, WIDTH_M - width * GSD_M) * 0.3, max(0.0, HEIGHT_M - height * GSD_M) * 0.4
        self.x, self.y = self.left + (cols + 0.5) * GSD_M, top + (rows + 0.5) * GSD_M
        self.right = self.left + width * GSD_M
        self.color = np.zeros((3, height, width), np.float32)
        self.truth = np.zeros((height, width), np.uint8)
        self.grain = 0.7 * self.noise(0.045) + 0.5 * self.noise(0.13)
        self.leaves = self.noise(0.22)
        self.patch = self.noise(1.6)
        self.broad = self.noise(7.0)

    def noise(self, cell_m: float) -> Field:
        """Value noise in -1..1 whose features are about ``cell_m`` metres wide."""
        rows, cols = (max(2, math.ceil(extent / cell_m) + 2) for extent in (HEIGHT_M, WIDTH_M))
        lattice = self.rng.uniform(-1, 1, (rows, cols)).astype(np.float32)
        fy, fx = self.y[:, :1] / cell_m % (rows - 1), self.x[:1] / cell_m % (cols - 1)
        top, left = fy.astype(int), fx.astype(int)
        wy, wx = _smooth(fy - top), _smooth(fx - left)
        upper = lattice[top, left] * (1 - wx) + lattice[top, left + 1] * wx
        lower = lattice[top + 1, left] * (1 - wx) + lattice[top + 1, left + 1] * wx
        return np.asarray(upper * (1 - wy) + lower * wy, np.float32)

    def paint(self, mask: Mask, name: str, rgb: tuple[int, int, int], grain: float, patch: float = 0.0) -> None:
        """Cover ``mask`` with a class: its colour with fine ``grain`` and coarse ``patch`` noise (grey levels)."""
        texture = grain * self.grain + patch * (0.6 * self.patch + 0.4 * self.broad)
        for band, level in enumerate(rgb):
            self.color[band][mask] = level + texture[mask]
        self.truth[mask] = self.ids[name]

    def shade(self, mask: Mask, factor: float) -> None:
        """Make darker (a shadow) or lighter without changing the class."""
        self.color[:, mask] *= factor

    def bar(self, x: float, y: float, length: float, width: float, degrees: float = 0.0) -> tuple[Mask, Field, Field]:
        """A turned rectangle as a mask, with its own coordinates along and across (metres from its centre)."""
        angle = math.radians(degrees)
        along = (self.x - x) * math.cos(angle) + (self.y - y) * math.sin(angle)
        across = -(self.x - x) * math.sin(angle) + (self.y - y) * math.cos(angle)
        return (abs(along) <= length / 2) & (abs(across) <= width / 2), along, across

    def blob(self, x: float, y: float, radius: float, rough: float = 0.25) -> Mask:
        """A disc with an uneven edge."""
        distance = np.hypot(self.x - x, self.y - y)
        return np.asarray(distance <= radius * (1 + rough * self.patch + 0.5 * rough * self.grain))

    def finish(self) -> Scene:
        pixels = np.clip(self.color * (1 + 0.05 * self.broad), 1, 255)
        for axis in (1, 2):  # a lens never draws an edge one pixel wide
            pixels = (np.roll(pixels, 1, axis) + 2 * pixels + np.roll(pixels, -1, axis)) / 4
        edge = 0.6 + 0.45 * self.broad[:, :1] + self.y[:, :1] * 0.02
        valid = (self.x > self.left + edge) & (self.x < self.right - edge)
        pixels = np.where(valid, pixels.round(), 0).astype(np.uint8)
        return Scene(pixels, np.where(valid, self.truth, NODATA).astype(np.uint8), valid)


def _smooth(t: Field) -> Field:
    eased: Field = t * t * (3 - 2 * t)
    return eased


def _ground(c: _Canvas) -> None:
    everywhere = np.ones(c.shape, bool)
    c.paint(everywhere, "grass", (104, 122, 66), 20, 16)
    c.shade(c.patch > 0.55, 1.10)


def _street(c: _Canvas) -> None:
    middle = 33.0 + 0.9 * np.sin(c.x / 13.0)
    offset = c.y - middle
    c.paint(abs(offset) < 4.9, "paved-area", (168, 163, 154), 9, 5)
    for side in (-4.0, 4.0):
        c.shade(abs(offset - side) < 0.08, 0.75)
    c.paint(abs(offset) < 3.9, "paved-area", (118, 117, 116), 8, 7)
    dash = (abs(offset) < 0.08) & (c.x % 4.0 < 2.0)
    c.paint(dash, "paved-area", (214, 212, 205), 6)
    c.paint((offset > 4.9) & (offset < 6.4 + 0.5 * c.patch), "gravel", (158, 148, 132), 32, 8)


def _garden(c: _Canvas, plot: int) -> None:
    left = 3.0 + 19.0 * plot
    _house(c, left + 7.0, 10.5, 10.5, 8.0, (-4, 3, 0)[plot], ((146, 88, 68), (104, 98, 95), (160, 103, 78))[plot])
    drive, *_ = c.bar(left + 14.6, 22.0, 3.0, 14.6)
    c.paint(drive, "paved-area", (176, 170, 160), 10, 6)
    terrace, along, across = c.bar(left + 5.0, 18.0, 6.0, 4.2)
    c.paint(terrace, "paved-area", (187, 172, 152), 7, 4)
    c.shade(terrace & ((along % 0.6 < 0.05) | (across % 0.6 < 0.05)), 0.9)
    (_pool, _beds, _beds)[plot](c, left)
    hedge = abs(c.x - (left + 17.6) - 0.2 * c.patch) < 0.55
    _plants(c, hedge & (c.y < 27.0), "vegetation", (70, 94, 46))
    for number in range(4):
        x, y = left + c.rng.uniform(0.5, 12.0), c.rng.uniform(20.5, 26.0) if number else c.rng.uniform(1.0, 3.0)
        _tree(c, x, y, c.rng.uniform(1.1, 2.3))
    _tree(c, left + c.rng.uniform(2, 15), c.rng.uniform(41.0, 43.5), c.rng.uniform(1.6, 2.6))
    person = c.blob(left + 4.0 + plot, 18.3, 0.27, 0.1)
    c.paint(person, "person", ((60, 70, 130), (170, 50, 50), (220, 215, 205))[plot], 10)


def _house(
    c: _Canvas, x: float, y: float, length: float, width: float, degrees: float, rgb: tuple[int, int, int]
) -> None:
    shadow, *_ = c.bar(x + 1.1, y + 1.1, length, width, degrees)
    c.shade(shadow, 0.55)
    wall, *_ = c.bar(x, y, length + 0.5, width + 0.5, degrees)
    c.paint(wall, "wall", (203, 196, 184), 8)
    roof, along, across = c.bar(x, y, length, width, degrees)
    c.paint(roof, "roof", rgb, 9, 6)
    c.shade(roof & (across > 0), 0.80)
    c.shade(roof & (across % 0.34 < 0.06), 0.88)
    c.shade(roof & (abs(across) < 0.12), 1.15)
    chimney, *_ = c.bar(x + length * 0.25, y - 1.2, 0.8, 0.8, degrees)
    c.paint(chimney, "roof", (120, 80, 70), 6)
    c.shade(roof & (abs(along) > length / 2 - 0.12), 0.85)


def _pool(c: _Canvas, left: float) -> None:
    rim, *_ = c.bar(left + 11.0, 19.0, 4.6, 6.6, 0)
    c.paint(rim, "paved-area", (201, 196, 186), 6)
    water, *_ = c.bar(left + 11.0, 19.0, 3.6, 5.6, 0)
    c.paint(water, "pool", (74, 166, 190), 7, 6)


def _beds(c: _Canvas, left: float) -> None:
    bed, along, across = c.bar(left + 10.8, 18.6, 4.0, 5.0, 0)
    c.paint(bed, "dirt", (112, 88, 66), 18, 6)
    rows = bed & (across % 1.0 < 0.45) & (along % 0.6 < 0.42)
    _plants(c, rows & (c.grain > -0.4), "vegetation", (88, 120, 58))
    for _ in range(5):
        stone = c.blob(left + c.rng.uniform(8.4, 13.2), c.rng.uniform(21.6, 22.6), c.rng.uniform(0.2, 0.45))
        c.paint(stone, "rocks", (146, 142, 136), 12, 6)


def _tree(c: _Canvas, x: float, y: float, radius: float) -> None:
    c.shade(c.blob(x + 0.45 * radius, y + 0.45 * radius, radius), 0.6)
    crown = c.blob(x, y, radius)
    _plants(c, crown, "tree", (66, 88, 44))
    c.shade(crown & (c.x - x + c.y - y > 0.35 * radius), 0.72)


def _plants(c: _Canvas, mask: Mask, name: str, rgb: tuple[int, int, int]) -> None:
    """Foliage: clumps of leaves in the light, gaps between them in the dark."""
    c.paint(mask, name, rgb, 45, 14)
    c.shade(mask & (c.leaves < -0.15), 0.42)
    c.shade(mask & (c.leaves > 0.35), 1.35)


def _cars(c: _Canvas) -> None:
    spots = [(10.0, 31.4, -2.0), (27.0, 36.2, 4.0), (46.0, 31.0, -3.0), (17.6, 24.5, 90.0), (55.6, 22.5, 90.0)]
    paints = [(196, 198, 200), (150, 34, 32), (44, 52, 72), (224, 224, 220), (70, 92, 120)]
    for (x, y, degrees), rgb in zip(spots, paints, strict=True):
        shadow, *_ = c.bar(x + 0.25, y + 0.3, 4.5, 1.8, degrees)
        c.shade(shadow, 0.55)
        body, along, across = c.bar(x, y, 4.4, 1.8, degrees)
        body &= (abs(along) / 2.2) ** 6 + (abs(across) / 0.9) ** 6 <= 1
        c.paint(body, "car", rgb, 5)
        glass = body & (abs(across) < 0.72) & ((abs(along - 0.75) < 0.3) | (abs(along + 1.35) < 0.25))
        c.paint(glass, "car", (38, 44, 52), 4)
        c.shade(body & (abs(across) > 0.78), 0.8)

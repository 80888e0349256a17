"""A small data set of drawn frames: a legend, images and masks, a split, a training configuration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from aerialseg.legend import LandClass, Legend

DRAWN = Legend(
    (
        LandClass(0, "void", (0, 0, 0)),
        LandClass(1, "ground", (128, 64, 128)),
        LandClass(2, "roof", (200, 40, 40)),
        LandClass(3, "water", (20, 40, 200)),
    )
)


def draw_pair(seed: int, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """(image (h, w, 3), class indices (h, w)): striped roofs and smooth water on speckled ground, a strip of void."""
    rng = np.random.default_rng(seed)
    image = rng.normal(110, 25, (side, side, 3))
    mask = np.ones((side, side), dtype=np.uint8)
    for class_id in (2, 3, 2, 3):
        top, left = rng.integers(0, side - 40, 2)
        box = np.s_[top : top + 40, left : left + 32]
        mask[box] = class_id
        stripes = (np.arange(32) % 8 < 4) * 90.0
        image[box] = (110, 60, 60) + stripes[:, None] if class_id == 2 else (60, 80, 150)
    mask[:4] = 0
    return np.clip(image, 0, 255).astype(np.uint8), mask


def write_drawn_data(folder: Path, learn: int = 20, held_out: int = 4) -> Path:
    """A data folder of drawn pairs, with masks as indices and as colours, and a configuration beside it."""
    palette = np.array([entry.color for entry in DRAWN], dtype=np.uint8)
    for name in ("images", "masks", "colors"):
        (folder / name).mkdir()
    for number in range(learn + held_out):
        image, mask = draw_pair(number)
        Image.fromarray(image).save(folder / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03}.png")
        Image.fromarray(palette[mask]).save(folder / "colors" / f"{number:03}.png")
    DRAWN.to_csv(folder / "legend.csv")
    rows = [f"{number:03},{int(number >= learn)}" for number in range(learn + held_out)]
    (folder / "split.csv").write_text("\n".join(["frame,held_out", *rows]) + "\n")
    (folder / "train.toml").write_text(CONFIG)
    return folder


CONFIG = """
name = "drawn"
seed = 1
precision = "fp32"

[data]
images = "images"
masks = "masks"
legend = "legend.csv"
split = "split.csv"
size = [96, 96]
gsd_m = 0.05
void = [0]

[encoder]
arch = "resnet18"
start = "scratch"

[augment]
lighting = 0.1

[[steps]]
size = [64, 64]
epochs = 6
batch = 2
lr = 1e-3

[[steps]]
size = [96, 96]
crop = [64, 64]
epochs = 2
batch = 4
lr = 1e-3
"""

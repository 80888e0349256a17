"""Drawn ground to take shots of: textured places of blots and slabs, and shots of them as a drone takes them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SHOT = (240, 360)
"""Rows and columns of a shot."""


def draw_place(seed: int, side: int = 900) -> np.ndarray:
    """uint8 (side, side, 3): blots of many sizes and slabs of many turns, over cloudy ground; no two seeds alike."""
    rng = np.random.default_rng(seed)
    clouds = rng.integers(60, 190, (side // 20, side // 20, 3), dtype=np.uint8)
    ground = cv2.resize(clouds, (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(side * side // 900):
        centre = tuple(int(value) for value in rng.integers(0, side, 2))
        axes = tuple(int(value) for value in rng.integers(3, 26, 2))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        cv2.ellipse(ground, centre, axes, float(rng.integers(0, 180)), 0, float(rng.integers(90, 361)), color, -1)
    return ground


def shoot(
    place: np.ndarray, at: tuple[float, float], *, turn: float = 0.0, zoom: float = 1.0, light: float = 1.0
) -> np.ndarray:
    """uint8 (240, 360, 3): the place seen from above ``at`` (x, y) px, turned by degrees, ``zoom`` times as large."""
    rows, cols = SHOT
    matrix = cv2.getRotationMatrix2D(at, turn, zoom)
    matrix[:, 2] += np.array([cols / 2, rows / 2]) - at
    seen = cv2.warpAffine(place, matrix, (cols, rows), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
    return np.clip(seen * light, 0, 255).astype(np.uint8)


def save(folder: Path, shots: dict[str, np.ndarray]) -> dict[str, Path]:
    """Name to path of each shot, written as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.png" for name in shots}
    for name, path in paths.items():
        cv2.imwrite(str(path), shots[name])
    return paths

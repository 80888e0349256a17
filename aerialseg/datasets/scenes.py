"""Which frames show the same place: local features matched between every two frames, checked by geometry, chained.

SIFT (Lowe 2004) with the Hellinger kernel (RootSIFT, Arandjelovic and Zisserman 2012). Two frames are linked where
enough of their matches agree on one similarity (shift, turn, scale), which is what nadir shots of one ground differ
by, and where those matches lie in many parts of both frames: a marker, a car or a chair that was carried from place
to place gives many matches on few pixels. Needs opencv-python-headless (the extra ``scenes``), but no fastai.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerialseg.errors import InputError, UsageError
from aerialseg.progress import Progress, Silent

WIDTH_PX = 768
"""Frames are reduced to this width before features are found: finer detail costs time and links nothing more."""
FEATURES = 1500
RATIO = 0.8
"""A match must be this much nearer than the second nearest (Lowe's ratio test)."""
TOLERANCE_PX = 10.0
"""How far a match may lie from where the similarity puts it; roofs and walls stand above the plane of the ground."""
TURN_DEGREES, SCALE_FACTOR = 25.0, 1.6
"""How far a keypoint's own orientation and size may differ from the similarity's."""
CELL_PX = 48
"""Side of the cells in which inliers are counted once, so that one object cannot link two places."""
LEAST = 5
"""Cells that inliers must lie in, in both frames, for a link; docs/splits.md says why."""
_NEEDED = 6
"""Matches below which there is nothing to check."""


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """Keypoints of a frame: places (n, 2) float32 (x, y) px, sizes (n,) px, angles (n,) degrees, unit descriptors."""

    points: NDArray[np.float32]
    sizes: NDArray[np.float32]
    angles: NDArray[np.float32]
    descriptors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Link:
    """Two frames and how well they agree: matches, those that fit one similarity, and the cells those lie in."""

    first: str
    second: str
    matches: int
    inliers: int
    cells: int
    scale: float
    turn: float


def find_features(path: str | Path) -> LocalFeatures:
    """The strongest keypoints of the image, reduced to ``WIDTH_PX``. Raises InputError, UsageError without OpenCV."""
    cv2 = _cv2()
    gray = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if gray is None:
        raise InputError(f"cannot read the image {path}: wanted a JPEG, PNG or TIFF")
    factor = WIDTH_PX / gray.shape[1]
    if factor < 1:
        gray = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    points, raw = cv2.SIFT_create(FEATURES, contrastThreshold=0.02).detectAndCompute(gray, None)
    points, raw = points[:FEATURES], np.zeros((0, 128), np.float32) if raw is None else raw[:FEATURES]
    roots = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9))
    return LocalFeatures(
        np.array([point.pt for point in points], np.float32).reshape(-1, 2),
        np.array([point.size for point in points], np.float32),
        np.array([point.angle for point in points], np.float32),
        np.ascontiguousarray(roots, np.float32),
    )


def find_links(images: Mapping[str, Path], progress: Progress | None = None) -> list[Link]:
    """Every two frames that ``_NEEDED`` or more matches tie to one similarity, weak links included."""
    progress = progress or Silent()
    progress.stage("features", len(images))
    features: dict[str, LocalFeatures] = {}
    for name, path in images.items():
        features[name] = find_features(path)
        progress.advance(1)
    names = list(features)
    progress.stage("links", len(names) * (len(names) - 1) / 2)
    links: list[Link] = []
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            link = compare(first, features[first], second, features[second])
            links += [link] if link else []
        progress.advance(len(names) - 1 - at)
    return links


def compare(first: str, a: LocalFeatures, second: str, b: LocalFeatures) -> Link | None:
    """How two frames agree, or None where too few matches do."""
    rows, cols = match(a.descriptors, b.descriptors)
    if len(rows) < _NEEDED:
        return None
    matrix, _ = _cv2().estimateAffinePartial2D(
        a.points[rows], b.points[cols], ransacReprojThreshold=TOLERANCE_PX, maxIters=2000, confidence=0.995
    )
    if matrix is None:
        return None
    scale, turn = float(np.hypot(matrix[0, 0], matrix[1, 0])), float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    if not 1 / 8 < scale < 8:
        return None
    fits = _fitting(a, b, rows, cols, matrix, scale, turn)
    rows, cols, found = rows[fits], cols[fits], len(rows)
    if len(rows) < _NEEDED:
        return None
    return Link(first, second, found, len(rows), min(_cells(a.points[rows]), _cells(b.points[cols])), scale, turn)


def match(a: NDArray[np.float32], b: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Row numbers in ``a`` and in ``b`` of descriptors that are each other's nearest and pass the ratio test."""
    if len(a) < _NEEDED or len(b) < _NEEDED:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    likeness = a @ b.T
    nearest = likeness.argmax(axis=1)
    rows = np.arange(len(a))
    best = likeness[rows, nearest]
    likeness[rows, nearest] = -1.0
    # |a - b|^2 = 2 - 2 a.b; the millionth keeps rounding from telling two equals apart
    clear = np.flatnonzero(1.0 - best + 1e-6 < RATIO**2 * (1.0 - likeness.max(axis=1)))
    likeness[rows, nearest] = best
    mutual = likeness[:, nearest[clear]].argmax(axis=0) == clear
    return clear[mutual], nearest[clear][mutual]


def _fitting(a: LocalFeatures, b: LocalFeatures, rows: Any, cols: Any, matrix: Any, scale: float, turn: float) -> Any:
    """Which matches the similarity puts in their place, with their orientation and their size."""
    away = np.linalg.norm(a.points[rows] @ matrix[:, :2].T + matrix[:, 2] - b.points[cols], axis=1)
    turned = (b.angles[cols] - a.angles[rows] - turn + 180.0) % 360.0 - 180.0
    grown = np.abs(np.log(b.sizes[cols] / a.sizes[rows] / scale))
    tolerance = TOLERANCE_PX * max(1.0, scale)  # a pixel of the coarser frame is several of the finer one
    return (away < tolerance) & (np.abs(turned) < TURN_DEGREES) & (grown < np.log(SCALE_FACTOR))


def _cells(points: NDArray[np.float32]) -> int:
    return len(np.unique((points // CELL_PX).astype(np.int64), axis=0))


def join(frames: Sequence[str], links: Iterable[Link], least: int = LEAST) -> dict[str, int]:
    """Frame to place, places numbered from the largest: frames that a chain of links of ``least`` cells ties."""
    root = {frame: frame for frame in frames}

    def top(frame: str) -> str:
        while root[frame] != frame:
            root[frame] = frame = root[root[frame]]
        return frame

    for link in links:
        if link.cells >= least:
            root[top(link.second)] = top(link.first)
    members: dict[str, list[str]] = {}
    for frame in frames:
        members.setdefault(top(frame), []).append(frame)
    ordered = sorted(members.values(), key=lambda group: (-len(group), group[0]))
    return {frame: number for number, group in enumerate(ordered) for frame in group}


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise UsageError(
            f"finding places needs OpenCV ({error}): pip install 'aerialseg[scenes]', or give --groups"
        ) from error
    return cv2

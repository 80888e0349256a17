"""Splits kept as files: which frames are learned from and which are held out, at random or by whole places.

At random a place may be on both sides, so that the score is kinder than any new place will be. By scene none is.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aerialseg.datasets.layout import DataConfig
from aerialseg.datasets.masks import load_mask
from aerialseg.datasets.pairs import Pairs, find_pairs
from aerialseg.errors import InputError, UsageError
from aerialseg.files import absolute, check_new, read_table
from aerialseg.progress import Progress, Silent

BY = ("scene", "random")
DRAWS = 4000
"""Sets of places that the search looks at."""
_EVERY_PX = 4
"""Masks are counted on every such row and column: shares of classes need no more."""


def make_split(
    data_dir: str | Path,
    out: str | Path,
    *,
    by: str = "scene",
    held_out: float = 0.2,
    held_scenes: Sequence[str] = (),
    seed: int = 2026,
    groups: str | Path | None = None,
    links: str | Path | None = None,
    images: str = "original_images",
    masks: str = "label_images_semantic",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """The files made: the split (CSV, columns ``frame, held_out, scene``) and, where wanted, the pairs that are linked.

    by: "random" holds out ``held_out`` of the frames; "scene" whole places, as near to that share of the frames and of
    each class's pixels as a seeded search finds, or those that ``held_scenes`` names. groups: CSV file with the columns
    ``frame, scene`` (as an earlier split has) to take places from instead of matching the frames; frames without a
    scene are on neither side. links: CSV file for every two frames that look alike. Raises UsageError, OutputError and
    InputError before anything is written.
    """
    paths = [absolute(path) for path in (out, links) if path is not None]
    if held_scenes and by != "scene":
        raise UsageError("test scenes are given, and the split is random: leave out one of the two")
    _check(by, held_out, paths, matching=by == "scene" and groups is None, overwrite=overwrite)
    folders = DataConfig(legend=Path(), split=Path(), size=(1, 1), gsd_m=1.0, images=images, masks=masks)
    pairs = find_pairs(data_dir, folders)
    if len(pairs) < 2:
        raise InputError(f"{data_dir} holds {len(pairs)} pair of image and mask: a split needs at least 2")
    progress = progress or Silent()
    found: list[tuple[object, ...]] = []
    if groups is not None:
        scenes = read_groups(groups, pairs)
        pairs = {name: pair for name, pair in pairs.items() if scenes[name] or by == "random"}
        scenes = {name: scenes[name] for name in pairs}
    elif by == "scene":
        scenes = _match(pairs, found, progress)
    else:
        scenes = dict.fromkeys(pairs, "")
    if held_scenes:
        held = named(scenes, held_scenes)
    elif by == "scene":
        held = _by_scene(pairs, scenes, held_out, seed, progress)
    else:
        held = at_random(pairs, held_out, seed)
    _write(paths[0], ("frame", "held_out", "scene"), ((name, int(name in held), scenes[name]) for name in pairs))
    if links is not None:
        _write(paths[1], ("first", "second", "matches", "inliers", "cells", "scale", "turn"), found)
    progress.note(_told(scenes, held))
    return paths


def _told(scenes: Mapping[str, str], held: set[str]) -> str:
    """What the split is, in a sentence."""
    told = f"{len(held)} of {len(scenes)} frames are held out"
    if not any(scenes.values()):
        return f"{told}, wherever they were taken"
    learnt = {scene for frame, scene in scenes.items() if frame not in held}
    out, shared = {scenes[frame] for frame in held}, sum(scenes[frame] in learnt for frame in held)
    return f"{told}, of {len(out)} of {len(set(scenes.values()))} scenes; {shared} of them show a scene that is learned"


def _check(by: str, held_out: float, paths: Sequence[Path], *, matching: bool, overwrite: bool) -> None:
    if by not in BY:
        raise UsageError(f"a split by {by!r} is not known; wanted one of {', '.join(BY)}")
    if not 0 < held_out < 1:
        raise UsageError(f"the share of test frames is {held_out}; wanted a number between 0 and 1, such as 0.2")
    if len(paths) > 1 and not matching:
        raise UsageError("links come from matching frames, and --by random and --groups match none: leave out --links")
    if len(set(paths)) < len(paths):
        raise UsageError(f"two outputs have the same name: {paths[0]}")
    for path in paths:
        check_new(path, overwrite=overwrite)


def _match(pairs: Pairs, found: list[tuple[object, ...]], progress: Progress) -> dict[str, str]:
    from aerialseg.datasets.scenes import find_links, join

    links = find_links({name: image for name, (image, _) in pairs.items()}, progress)
    found += [
        (link.first, link.second, link.matches, link.inliers, link.cells, f"{link.scale:.3f}", f"{link.turn:.1f}")
        for link in links
    ]
    return {name: str(place) for name, place in join(list(pairs), links).items()}


def read_groups(path: str | Path, frames: Iterable[str]) -> dict[str, str]:
    """Frame to scene, for each of ``frames``, of a CSV file with the columns ``frame, scene``; "" to leave a frame out.

    Raises InputError where it says nothing of a frame.
    """
    scenes = {row["frame"]: row["scene"] for _, row in read_table(path, "groups", ("frame", "scene"))}
    missing = [frame for frame in frames if frame not in scenes]
    if missing:
        raise InputError(f"{path} lacks {len(missing)} frames, the first of them {missing[0]}: add them")
    return {frame: scenes[frame] for frame in frames}


def at_random(frames: Iterable[str], share: float, seed: int) -> set[str]:
    """Frames to hold out: ``share`` of them, at least one, and at least one is left."""
    names = sorted(frames)
    count = min(max(1, round(share * len(names))), len(names) - 1)
    return {names[at] for at in np.random.default_rng(seed).permutation(len(names))[:count]}


def named(scenes: Mapping[str, str], wanted: Sequence[str]) -> set[str]:
    """Frames of the scenes that are named. Raises UsageError where one is unknown, or none is left to learn from."""
    there = set(scenes.values())
    if unknown := sorted(set(wanted) - there):
        raise UsageError(f"no frame is of scene {unknown[0]!r}; there are {', '.join(sorted(there)[:20])}")
    if not there - set(wanted):
        raise UsageError("all scenes are in the test set: leave at least one for training")
    return {frame for frame, scene in scenes.items() if scene in wanted}


def _by_scene(pairs: Pairs, scenes: Mapping[str, str], share: float, seed: int, progress: Progress) -> set[str]:
    """Frames of the scenes to hold out. Raises InputError where there is one scene only."""
    names = sorted(set(scenes.values()))
    if len(names) < 2:
        raise InputError(
            f"all {len(pairs)} frames belong to one scene: nothing can be held out by scene; add frames of another "
            "place, give --groups, or split --by random"
        )
    frames = np.array([sum(scene == name for scene in scenes.values()) for name in names])
    pixels = _pixels(pairs, scenes, names, progress)
    held = {names[at] for at in choose(frames, pixels, share, seed)}
    return {frame for frame in pairs if scenes[frame] in held}


def choose(
    frames: NDArray[np.int64], pixels: NDArray[np.int64], share: float, seed: int, draws: int = DRAWS
) -> list[int]:
    """Numbers of the scenes to hold out: the best of ``draws`` sets, scenes in random order up to the share wanted.

    frames: (scenes,), pixels: (scenes, classes). The best is nearest, in squares, to ``share`` of each class's pixels
    and, weighed as all classes together, to ``share`` of the frames.
    """
    rng = np.random.default_rng(seed)
    sizes = frames / frames.sum()
    parts = pixels / np.maximum(pixels.sum(axis=0), 1)
    best: tuple[float, list[int]] = (np.inf, [])
    for _ in range(draws):
        order = rng.permutation(len(frames))
        count = int(np.argmin(np.abs(np.cumsum(sizes[order])[:-1] - share))) + 1
        held = np.sort(order[:count])
        cost = float(((parts[held].sum(axis=0) - share) ** 2).sum())
        cost += max(1, parts.shape[1]) * float((sizes[held].sum() - share) ** 2)
        if cost < best[0]:
            best = cost, [int(at) for at in held]
    return best[1]


def _pixels(pairs: Pairs, scenes: Mapping[str, str], names: Sequence[str], progress: Progress) -> NDArray[np.int64]:
    """(scenes, classes) pixels, counted on a coarser grid; a class is whatever value or colour a mask holds."""
    progress.stage("classes", len(pairs))
    counts: dict[tuple[str, int], int] = {}
    for frame, (_, path) in pairs.items():
        for value, count in zip(*np.unique(_values(path), return_counts=True), strict=True):
            key = scenes[frame], int(value)
            counts[key] = counts.get(key, 0) + int(count)
        progress.advance(1)
    values = sorted({value for _, value in counts})
    return np.array([[counts.get((name, value), 0) for value in values] for name in names], dtype=np.int64)


def _values(path: Path) -> NDArray[np.int64]:
    """Numbers, or packed colours, of a mask on a coarser grid: an index means nothing without its palette."""
    mask = load_mask(path).colors[::_EVERY_PX, ::_EVERY_PX].astype(np.int64)
    return mask if mask.ndim == 2 else mask @ np.array([1 << 16, 1 << 8, 1])


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    from aerialseg.files import write_atomically

    with write_atomically(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)

"""What a training run sees of its data: checked, prepared, on one side or the other."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from aerialseg.datasets.pairs import (
    Pairs,
    check_pairs,
    find_pairs,
    hash_pairs,
    prepare,
    read_scenes,
    read_split,
    split_pairs,
)
from aerialseg.errors import InputError
from aerialseg.legend import Legend
from aerialseg.progress import Progress
from aerialseg.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Sides:
    """Prepared pairs to learn from and to watch, no frame in both; the held-out ones as they are.

    sha256: over names and bytes of all that the split names.
    """

    legend: Legend
    learn: Pairs
    watched: Pairs
    held: Pairs
    sha256: str


def load_sides(config: TrainingConfig, data_dir: str | Path, folder: Path, progress: Progress) -> Sides:
    """The sides of the configuration's split, prepared under ``folder``. Raises InputError."""
    legend = Legend.from_csv(config.data.legend)
    pairs = find_pairs(data_dir, config.data)
    split = read_split(config.data.split)
    learn, held = split_pairs(pairs, split)
    watched = choose_watched(config, learn, held)
    seen = {**learn, **watched}
    progress.stage("prepare", len(seen))
    check_pairs({name: held[name] for name in held if name not in watched}, legend, config.data.void)
    prepared = prepare(seen, config.data, legend, folder, lambda: progress.advance(1))
    progress.note(
        f"{len(set(learn) - set(watched))} frames to learn from, {len(watched)} watched, {len(held)} held out"
    )
    return Sides(
        legend=legend,
        learn={name: prepared[name] for name in learn if name not in watched},
        watched={name: prepared[name] for name in watched},
        held=held,
        sha256=hash_pairs({**learn, **held}),
    )


def choose_watched(config: TrainingConfig, learn: Pairs, held: Pairs) -> Pairs:
    """The frames looked at after each epoch: held-out ones, unless something is chosen by them.

    Then whole scenes of the learning side, as many as make ``watch`` frames, in an order drawn by the seed; scenes of
    more than twice that are passed over. Raises InputError where no scene is small enough.
    """
    count = config.data.watch
    if not config.chooses:
        return dict(list(held.items())[:: max(1, round(len(held) / count))]) if count else held
    scenes: defaultdict[str, list[str]] = defaultdict(list)
    for name, scene in read_scenes(config.data.split).items():
        if name in learn:
            scenes[scene].append(name)
    names = sorted(scenes)
    random.Random(config.seed).shuffle(names)
    chosen: list[str] = []
    for scene in names:
        if len(chosen) < count and len(scenes[scene]) <= 2 * count:
            chosen += scenes[scene]
    if not chosen or len(chosen) >= len(learn):
        raise InputError(
            f"no scene of the learning side has {2 * count} frames or less to watch ({len(scenes)} scenes): "
            "set data.watch higher, or keep the last weights"
        )
    return {name: learn[name] for name in sorted(chosen)}

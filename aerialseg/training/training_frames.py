"""What a training run sees of its data: checked, prepared, on one side or the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aerialseg.datasets.layout import Normalisation
from aerialseg.datasets.pairs import (
    Pairs,
    check_pairs,
    count_pixels,
    find_pairs,
    hash_pairs,
    measure_bands,
    note_greys,
    prepare,
    split_pairs,
)
from aerialseg.errors import InputError
from aerialseg.legend import NODATA, Legend
from aerialseg.progress import Progress, counted
from aerialseg.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class TrainingFrames:
    """Prepared pairs to learn from, and held-out ones to watch; all held-out ones as they are.

    sha256: over names and bytes of all that the split names. normalisation: of the bands, measured on those to learn
    from where they are not red, green and blue.
    """

    legend: Legend
    learn: Pairs
    watched: Pairs
    held: Pairs
    sha256: str
    normalisation: Normalisation


def load_training_frames(
    config: TrainingConfig, data_dir: str | Path, folder: Path, progress: Progress
) -> TrainingFrames:
    """The sides of the configuration's split, prepared under ``folder``. Raises InputError."""
    legend = Legend.from_csv(config.data.legend)
    _check_ids(legend, config)
    pairs = find_pairs(data_dir, config.data)
    learn, held = split_pairs(pairs, config.data.split)
    if unnamed := len(set(pairs) - set(learn) - set(held)):
        progress.note(f"{counted(unnamed, 'frame')} that no line of {config.data.split.name} names: left out")
    count = config.data.watch
    watched = dict(list(held.items())[:: max(1, round(len(held) / count))]) if count else held
    seen = {**learn, **watched}
    note_greys(pairs, legend, progress)
    progress.stage("prepare", len(seen))
    check_pairs(
        {name: held[name] for name in held if name not in watched}, legend, config.data.void, len(config.data.bands)
    )
    prepared = prepare(seen, config.data, legend, folder, lambda: progress.advance(1))
    progress.note(
        f"{counted(len(learn), 'training frame')}, {counted(len(held), 'test frame')}, "
        f"{len(watched)} of them scored after each epoch"
    )
    learned = {name: prepared[name] for name in learn}
    sides = TrainingFrames(
        legend=legend,
        learn=learned,
        watched={name: prepared[name] for name in watched},
        held=held,
        sha256=hash_pairs({**learn, **held}),
        normalisation=measure_bands(learned, config.data.bands),
    )
    _check_classes(sides, config.data.void, progress)
    return sides


def data_sha256(config: TrainingConfig, data_dir: str | Path) -> str:
    """Over names and bytes of all that the configuration's split names. Raises InputError."""
    learn, held = split_pairs(find_pairs(data_dir, config.data), config.data.split)
    return hash_pairs({**learn, **held})


def _check_ids(legend: Legend, config: TrainingConfig) -> None:
    """Raise InputError where no model could have the legend: before the training, not when its card is written."""
    ids = [entry.id for entry in legend]
    if not 2 <= len(ids) <= NODATA or ids != list(range(len(ids))):
        shown = ", ".join(map(str, ids[:6])) + (" ..." if len(ids) > 6 else "")
        raise InputError(
            f"the legend {config.data.legend} has the class ids {shown}; a model has 2 to {NODATA} classes with the "
            "ids 0, 1, 2 ...: number them so, in masks of ids as well"
        )


def _check_classes(sides: TrainingFrames, void: tuple[int, ...], progress: Progress) -> None:
    """Say which classes no mask to learn from holds. Raises InputError where fewer than two are left."""
    pixels = count_pixels(sides.learn)
    wanted = [entry for entry in sides.legend if entry.id not in void]
    there = [entry.name for entry in wanted if pixels[entry.id]]
    missing = [entry.name for entry in wanted if not pixels[entry.id]]
    if len(there) < 2:
        found = f"only the class {there[0]!r}" if there else "no class"
        raise InputError(
            f"the masks of the {len(sides.learn)} training frames hold {found} "
            f"({pixels[NODATA] / max(1, pixels.sum()):.0%} of the pixels are unlabelled: {NODATA} or void) and none of "
            f"{', '.join(missing[:6])}; wanted at least two classes. Masks hold class ids or the legend's colours: "
            f"for masks of 0 and {NODATA}, give the legend the colours 0,0,0 and 255,255,255"
        )
    if missing:
        progress.note(f"no training mask holds {', '.join(missing)}: the model cannot learn them")

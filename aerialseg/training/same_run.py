"""What a training's folder was begun with, and whether it may go on there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aerialseg.datasets.layout import RGB_NORMALISATION, Normalisation
from aerialseg.datasets.pairs import hash_file
from aerialseg.errors import OutputError
from aerialseg.files import remove_if_there, write_json
from aerialseg.model.lineage import Parent
from aerialseg.model.store import load_card
from aerialseg.raster.bands import RGB
from aerialseg.training.checkpoint import read_checkpoint
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.teacher import Teacher
from aerialseg.training.encoder import describe_start

RUN = "run.json"
_WORDS = {
    "data_sha256": "data",
    "split_sha256": "split",
    "legend_sha256": "legend",
    "encoder_weights": "start of the encoder",
    "teachers": "teacher",
}


def describe_training(
    config: TrainingConfig,
    data_sha256: str,
    encoder_weights: str | Path | None,
    teachers: Sequence[Teacher],
    normalisation: Normalisation = RGB_NORMALISATION,
) -> dict[str, Any]:
    """All that decides a training, and the parents of its model, JSON-ready. Raises ModelError."""
    return {
        "config": config.to_json(),
        "data_sha256": data_sha256,
        "split_sha256": hash_file(config.data.split),
        "legend_sha256": hash_file(config.data.legend),
        "encoder_weights": describe_start(config, encoder_weights),
        **({"normalisation": asdict(normalisation)} if normalisation.bands != RGB else {}),
        **({"teachers": [teacher.described() for teacher in teachers]} if teachers else {}),
        "parents": [asdict(one) for one in _parents(config, encoder_weights, teachers)],
    }


def _parents(config: TrainingConfig, encoder_weights: str | Path | None, teachers: Sequence[Teacher]) -> list[Parent]:
    """The models that a training's model is made from: the one that it starts from, and its teachers."""
    first = [Parent.of(load_card(encoder_weights))] if config.encoder.start == "model" else []
    return first + [teacher.parent for teacher in teachers]


def check_same_run(work: Path, ours: Mapping[str, Any], *, finished: bool = False) -> None:
    """Raise OutputError where the folder holds epochs, or is the ``finished`` one, of another configuration or data.

    ours: of `describe_training`, which is noted. What ended before its first epoch did is forgotten: nothing is lost.
    """
    path = work / RUN
    if path.exists():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        changed = _changes(theirs, ours)
        if changed and (finished or _has_epochs(work)):
            raise OutputError(
                f"{work} holds a training with another {changed[0]}: give another folder, or delete this one"
            )
        if changed:
            remove_checkpoints(work)
        elif "sha256" not in ours["encoder_weights"]:
            ours = {**ours, "encoder_weights": theirs["encoder_weights"]}
    if not finished:
        write_json(path, dict(ours))


def _changes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    changed = [key for key in ours["config"] if theirs["config"].get(key) != ours["config"][key]]
    unsaid = [] if "sha256" in ours["encoder_weights"] else ["encoder_weights"]  # weights were not given again
    return changed + [word for key, word in _WORDS.items() if key not in unsaid and theirs.get(key) != ours.get(key)]


def _has_epochs(work: Path) -> bool:
    saved = read_checkpoint(work)
    return saved is not None and bool(saved.history)


def remove_checkpoints(work: Path) -> None:
    """Remove what only a training that goes on needs."""
    for path in work.glob("*.safetensors"):
        remove_if_there(path)


def has_checkpoints(work: Path) -> bool:
    """Whether there is anything to go on from."""
    return any(work.glob("*.safetensors"))

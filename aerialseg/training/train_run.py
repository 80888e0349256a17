"""A training run as a whole: from a configuration and a data folder to a model folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from aerialseg.errors import UsageError
from aerialseg.locks import locked
from aerialseg.model.folders import CARD
from aerialseg.progress import Progress, Silent
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.teacher import NAME as TEACHER
from aerialseg.training.distillation.teacher import export_teacher, followed_teachers
from aerialseg.training.export import export, provenance
from aerialseg.training.loop import TrainingLoop
from aerialseg.training.same_run import RUN, check_same_run, describe_training, has_checkpoints, remove_checkpoints
from aerialseg.training.training_frames import data_sha256, load_training_frames

CHECKPOINTS, PREPARED = "training", "prepared"
"""Folder inside the model's folder, and the one of the frames in it."""


def train(
    config: str | Path | Mapping[str, Any] | TrainingConfig,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    encoder_weights: str | Path | None = None,
    teachers: Sequence[str | Path] = (),
    seed: int | None = None,
    keep_checkpoints: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The folder of the trained model (``card.json``, ``weights.safetensors``), which is ``out_dir``.

    An interrupted training resumes after the last epoch found in ``out_dir``/training, with the same result as without
    the interruption. At the end, the test set is scored through the project's own tiling and the scores are written
    into the card. With ``decoder.kind`` "pyramid" a teacher is trained, and ``out_dir`` holds its file
    (``aerialseg.training.distillation``) instead of a model.

    Parameters
    ----------
    config : path, dict or TrainingConfig
        Training configuration (TOML), see docs/training.md; paths in a dict are relative to the current directory.
    data_dir : path
        Folder of images and masks.
    out_dir : path
        Folder to write; it may hold an interrupted training of the same configuration.
    encoder_weights : path
        Weights that the encoder starts from.
    teachers : sequence of paths
        Folders of the teachers, if the configuration follows any.
    seed : int
        Seed of the random numbers. Default: the configuration's.
    keep_checkpoints : bool
        Leave the checkpoints and the prepared frames in ``out_dir``/training when the model is finished.
    progress : Progress
        Listener for stages and messages.

    Raises
    ------
    InputError
        The data cannot be read, or masks and images do not fit together.
    ModelError
        A teacher or the encoder's weights do not fit the configuration.
    UsageError
        The configuration is invalid, ``out_dir`` holds another model, or ``aerialseg[train]`` is not installed.
    OutputError
        ``out_dir`` cannot be written, is in use, or holds the training of another configuration.
    ResourceError
        Not enough memory.
    """
    progress, config, out_dir = progress or Silent(), TrainingConfig.of(config), Path(out_dir)
    work = out_dir / CHECKPOINTS
    if (out_dir / CARD).exists() and not (work / RUN).exists():
        raise UsageError(f"output {out_dir} holds a model that was not trained there: give another folder")
    config = config if seed is None else replace(config, seed=seed)
    teachers = [teachers] if isinstance(teachers, str) else teachers  # or each of its letters would be one
    followed = followed_teachers(config, teachers)
    with locked_folder(work):
        if is_finished(out_dir, work):
            facts = describe_training(config, data_sha256(config, data_dir), encoder_weights, followed)
            check_same_run(work, facts, finished=True)
            progress.note(f"the training in {out_dir} is finished")
            return out_dir
        sides = load_training_frames(config, data_dir, work / PREPARED, progress)
        saved = TrainingLoop(config, sides, work, encoder_weights, progress, followed).run()
        if config.teaches:
            notes = provenance(config, saved, work)
            folder = export_teacher(config, data_dir, out_dir, saved.weights, notes, progress)
        else:
            folder = export(config, saved, data_dir, out_dir, work, progress)
        if not keep_checkpoints:
            remove_checkpoints(work)
            shutil.rmtree(work / PREPARED, ignore_errors=True)
        return folder


def is_finished(out_dir: Path, work: Path) -> bool:
    """Whether a training has left its model, or its teacher, and nothing to go on with."""
    made = (out_dir / CARD).exists() or (out_dir / TEACHER).exists()
    return made and (work / RUN).exists() and not has_checkpoints(work)


def locked_folder(folder: Path) -> AbstractContextManager[None]:
    """The folder, made if need be, for this process alone. Raises OutputError where another one is at work in it."""
    busy = f"{folder} is in use by another training: wait for it, or give another folder"
    return locked(folder / "lock", lambda: busy)

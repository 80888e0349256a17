"""fastai's own Learner for a configuration and a data folder, and a model of what it has learned.

>>> import aerialseg
>>> learn = aerialseg.learner("train.toml", "mydata")
>>> learn.dls.show_batch()
>>> learn.fine_tune(10, learn.lr_find().valley)
>>> aerialseg.save_model(learn, "mymodel")

All of fastai works with it: ``show_results``, callbacks, ``SegmentationInterpretation.from_learner``.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerialseg.datasets.layout import Normalisation
from aerialseg.errors import UsageError
from aerialseg.model.folders import CARD, WEIGHTS
from aerialseg.model.lineage import Parent, derived_from
from aerialseg.model.store import load_card, save, write_history
from aerialseg.progress import Progress, Silent

try:
    from aerialseg.training.checkpoint import plain_state
    from aerialseg.training.config import FIND, TrainingConfig
    from aerialseg.training.learner import find_weights, make_learner, seed_everything, start_encoder
    from aerialseg.training.trained_card import make_card, network_state
    from aerialseg.training.training_frames import load_training_frames
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("aerialseg"):
        raise
    raise UsageError(f"training needs {error.name}: pip install 'aerialseg[train]'") from error

BATCH = 8
"""Crops of a batch where the configuration says "find"."""


@dataclass(frozen=True, slots=True)
class LearnerOrigin:
    """What a learner was made of: what its model's card will say."""

    config: TrainingConfig
    normalisation: Normalisation
    parents: tuple[Parent, ...]


def learner(
    config: str | Path | Mapping[str, Any] | TrainingConfig,
    data_dir: str | Path,
    *,
    model: str | Path | None = None,
    encoder_weights: str | Path | None = None,
    prepared: str | Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """fastai's ``Learner`` over a data folder: crops of the training set, the test set to validate on, a U-Net.

    The last of the configuration's steps says size, crop and batch; how long and how fast is for you to say, with
    ``fit_one_cycle``, ``fine_tune`` and what else fastai has. Void pixels count neither in the loss nor in the Dice.

    Parameters
    ----------
    config : path, dict or TrainingConfig
        Training configuration, see docs/training.md; paths in a dict are relative to the current directory.
    data_dir : path
        Folder of images and masks.
    model : path or name
        Start from this model of aerialseg instead of what the configuration says.
    encoder_weights : path
        Weights that the encoder starts from, as of ``train``.
    prepared : path
        Folder to keep the frames in as they are learnt from. Default: a temporary one.
    progress : Progress
        Listener for stages and messages.

    Raises
    ------
    InputError
        The data cannot be read, or masks and images do not fit together.
    ModelError
        The model or the weights do not fit the configuration.
    UsageError
        The configuration is invalid, or weights are missing.
    """
    found = TrainingConfig.of(config)
    if found.teaches:
        raise UsageError("decoder.kind is 'pyramid', which makes a teacher: 'aerialseg train' does that")
    if model is not None:
        found = replace(found, encoder=replace(found.encoder, start="model"))
    weights = encoder_weights if model is None else model
    find_weights(found, weights)
    folder = Path(tempfile.mkdtemp(prefix="aerialseg-learner-") if prepared is None else prepared)
    sides = load_training_frames(found, data_dir, folder, progress or Silent())
    step = replace(found.steps[-1], stride=1)
    seed_everything(found.seed)
    learn = make_learner(found, sides, step, BATCH if step.batch == FIND else int(step.batch))
    start_encoder(learn.model, learn.dls, found, weights)
    learn.model.to(learn.dls.device)
    learn.path, learn.model_dir = Path(), "models"
    from fastai.vision.all import ProgressCallback

    learn.add_cb(ProgressCallback())
    parents = (Parent.of(load_card(weights)),) if found.encoder.start == "model" else ()
    learn.origin = LearnerOrigin(found, sides.normalisation, parents)
    if prepared is None:
        weakref.finalize(learn, shutil.rmtree, folder, ignore_errors=True)
    return learn


def save_model(learner: Any, folder: str | Path, *, overwrite: bool = False) -> Path:
    """The folder of a model, for ``segment``, ``evaluate`` and ``learner(..., model=folder)``, of what was learned.

    learner: one that ``aerialseg.learner`` has made; another one's file is read by 'aerialseg model convert'. The
    model is neither scored nor calibrated: ``evaluate`` and 'aerialseg calibrate' do that. Raises UsageError,
    ModelError, OutputError.
    """
    origin, folder = getattr(learner, "origin", None), Path(folder)
    if not isinstance(origin, LearnerOrigin):
        raise UsageError(
            "the learner is not one of aerialseg.learner(): export it and use 'aerialseg model convert FILE'"
        )
    if any((folder / file).exists() for file in (CARD, WEIGHTS)) and not overwrite:
        raise UsageError(f"{folder} holds a model already: give overwrite=True to replace it")
    card = make_card(origin.config, origin.normalisation)
    card = derived_from(card, origin.parents, "Trained on from the model")
    save(folder, card, network_state(origin.config, plain_state(learner.model)))
    write_history(folder, {"config": origin.config.to_json()})
    return folder

"""From a checkpoint to a model folder: card, weights, scores."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from aerialseg.datasets.layout import RGB_NORMALISATION, Normalisation
from aerialseg.errors import InputError
from aerialseg.evaluation.calibrate import calibrate_on
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD
from aerialseg.model.lineage import Parent, derived_from
from aerialseg.model.store import load_network, save, write_history
from aerialseg.progress import Progress
from aerialseg.training.checkpoint import Saved
from aerialseg.training.config import TrainingConfig
from aerialseg.training.same_run import RUN
from aerialseg.training.trained_card import make_card, network_state


def export(
    config: TrainingConfig, saved: Saved, data_dir: str | Path, out_dir: Path, work: Path, progress: Progress
) -> Path:
    """The folder ``out_dir`` with the model of a training's last checkpoint.

    work: the training's folder. The held-out frames are scored, the confidence is calibrated on them, and both go into
    the card. Raises InputError, ModelError, OutputError.
    """
    card = save_trained(out_dir, config, saved, work)
    load_network(out_dir)  # what was written is what loads
    found = evaluate(out_dir, data_dir, config=config.data, progress=progress)
    replace(card, scores={"held_out": found.confusion.to_json(found.legend, found.void)}).write(out_dir / CARD)
    progress.note(f"held out: {found.confusion.spoken(found.legend, found.void)}")
    _calibrate(out_dir, data_dir, config, progress)
    progress.note(f"model in {out_dir}")
    return out_dir


def _calibrate(model: Path, data_dir: str | Path, config: TrainingConfig, progress: Progress) -> None:
    try:
        progress.note(calibrate_on(model, data_dir, config=config.data, progress=progress).text())
    except InputError as error:  # one scene alone cannot be both fitted on and judged by
        progress.note(f"the confidence is not calibrated: {error}")


def save_trained(folder: Path, config: TrainingConfig, saved: Saved, work: Path) -> ModelCard:
    """The card of the model of a checkpoint, written into ``folder`` with weights and history.

    Raises ModelError, OutputError.
    """
    parents = [Parent.from_json(one) for one in _run(work).get("parents", [])]
    card = derived_from(make_card(config, _normalisation(work)), parents, "Trained on from, or taught by, the model")
    card = save(folder, card, network_state(config, saved.weights))
    write_history(folder, provenance(config, saved, work))
    return card


def _run(work: Path) -> dict[str, Any]:
    """What the training's folder says it is of."""
    run = work / RUN
    known: dict[str, Any] = json.loads(run.read_text(encoding="utf-8")) if run.exists() else {}
    return known


def _normalisation(work: Path) -> Normalisation:
    """What the bands were normalised by: measured, where they were not red, green and blue."""
    known = _run(work).get("normalisation")
    return Normalisation(**{key: tuple(values) for key, values in known.items()}) if known else RGB_NORMALISATION


_KNOWN = ("data_sha256", "split_sha256", "encoder_weights", "teachers")


def provenance(config: TrainingConfig, saved: Saved, work: Path) -> dict[str, Any]:
    """What the run can be repeated from: configuration, seed, hash of the data; and how it went."""
    known = _run(work)
    return {
        "config": config.to_json(),
        **{name: known[name] for name in _KNOWN if name in known},
        "versions": {"torch": torch.__version__, "fastai": version("fastai")},
        "searches": saved.searches,
        "history": saved.history,
    }

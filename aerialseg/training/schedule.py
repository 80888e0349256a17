"""The training run: progressive resizing, from a configuration and a data folder to a model folder."""

from __future__ import annotations

import logging
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerialseg.legend import Legend
from aerialseg.training.config import TrainingConfig
from aerialseg.training.dataset import make_loaders
from aerialseg.training.learner import Autocast, Checkpoint, fit_step, make_learner, read_checkpoint, start_encoder
from aerialseg.training.pairs import Progress, class_weights, find_pairs, prepare, read_split, split_pairs

logger = logging.getLogger(__name__)


def train(
    config_path: str | Path,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    encoder_weights: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of the trained model (card.json, weights.safetensors), which is ``out_dir``.

    Goes on after the last epoch found in ``out_dir``/training. When done, scores the held-out frames through the
    project's own tiling and writes the scores into the card. Raises InputError, ModelError, UsageError.
    """
    progress = progress or logger.info
    config, out_dir = TrainingConfig.read(config_path), Path(out_dir)
    work = out_dir / "training"
    work.mkdir(parents=True, exist_ok=True)
    seed_everything(config.seed)
    legend = Legend.from_csv(config.data.legend)
    pairs = find_pairs(data_dir, config.data)
    learn, held = split_pairs(pairs, read_split(config.data.split))
    progress(f"{len(learn)} frames to learn from, {len(held)} held out")
    prepared = prepare(learn | held, config.data, legend, work / "prepared")
    watched = list(held)[:: max(1, round(len(held) / config.data.watch))] if config.data.watch else list(held)
    sides = {name: prepared[name] for name in learn}, {name: prepared[name] for name in watched}
    _run_steps(config, legend, sides, work, encoder_weights, progress)
    from aerialseg.training.export import export

    return export(config_path, data_dir, out_dir, progress=progress)


def _run_steps(
    config: TrainingConfig,
    legend: Legend,
    sides: Any,
    work: Path,
    encoder_weights: str | Path | None,
    progress: Progress,
) -> None:
    found = read_checkpoint(work)
    history: list[dict[str, Any]] = found[1] if found else []
    learner = None
    for number, step in enumerate(config.steps):
        done = sum(record["step"] == number for record in history)
        if done >= step.epochs:
            continue
        loaders = make_loaders(sides[0], sides[1], legend, step, config.augment)
        if learner is None:
            weights = torch.from_numpy(class_weights(sides[0], len(legend), config.balance)) if config.balance else None
            learner = make_learner(loaders, config, len(legend), weights)
            if found:
                learner.model.load_state_dict(found[0])
                progress(f"going on after epoch {len(history)}")
            else:
                start_encoder(learner, config, encoder_weights)
        learner.dls = loaders
        progress(f"step {number}: frames {step.size}, crops {step.crop}, {step.epochs} epochs, batch {step.batch}")
        callbacks = [Checkpoint(work, number, history, progress, start_epoch=done)]
        callbacks += [Autocast()] if use_bf16(config.precision) else []
        fit_step(learner, step, start_epoch=done, callbacks=callbacks)
        shutil.copyfile(work / "checkpoint.safetensors", work / f"step{number}.safetensors")


def use_bf16(precision: str) -> bool:
    """Whether to compute in bf16: "auto" does where the processor or GPU has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""


def seed_everything(seed: int) -> None:
    """Fix every random number generator that training uses."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (fastai draws from the global generator)
    torch.manual_seed(seed)

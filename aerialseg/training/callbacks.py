"""What happens around an epoch: told, saved."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aerialseg.memory import peak_bytes, reset_peak
from aerialseg.progress import Progress
from aerialseg.training.checkpoint import Saved, optimizer_tensors, plain_state, write_checkpoint
from aerialseg.training.torchvision_compat import patch_torchvision
from aerialseg.training.training_bar import TrainingBar

patch_torchvision()

from fastai.vision.all import Callback  # noqa: E402

SHOWN = ("train_loss", "valid_loss", "dice_shown")


class Reporter(Callback):
    """Moves the training's bar along a step, of which ``done`` epochs are behind it."""

    order = 50

    def __init__(self, bar: TrainingBar, step: int, done: int) -> None:
        super().__init__()
        self.bar, self.step, self.done = bar, step, done

    def before_fit(self) -> None:
        self.bar.begin(self.step, self.done)

    def after_batch(self) -> None:
        self.bar.batch(self.step, len(self.x), learning=bool(self.training))

    def after_epoch(self) -> None:
        if self.epoch >= self.done:
            self.bar.epoch_ended(self.step, int(self.epoch))


class Records(Callback):
    """The history of the run, and a checkpoint after each epoch."""

    order = 60

    def __init__(self, folder: Path, saved: Saved, notes: dict[str, Any], progress: Progress, skip: int) -> None:
        super().__init__()
        self.folder, self.saved, self.notes, self.progress, self.skip = folder, saved, notes, progress, skip
        self.history = list(saved.history)

    def before_epoch(self) -> None:
        self.started = time.monotonic()
        reset_peak()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def after_epoch(self) -> None:
        if self.epoch < self.skip:  # fastai announces the epochs that it skips, too
            return
        values = shown_values(self.learn.recorder.log)
        record = {**self.notes, "epoch": int(self.epoch), **dict(zip(SHOWN, values, strict=True))}
        record["seconds"] = round(time.monotonic() - self.started, 1)
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_bytes()
        record["peak_mb"] = round(peak / 1e6)
        self.history.append(record)
        self.progress.note(
            f"step {record['step']}, epoch {self.epoch + 1} of {self.learn.n_epoch}: loss {_shown(values[0])} to "
            f"learn, {_shown(values[1])} watched, Dice {_shown(values[2])}, {record['seconds']:.0f} s"
        )

    def write(self) -> None:
        """The checkpoint of now."""
        optimizer = optimizer_tensors(self.learn.opt)
        now = replace(
            self.saved, weights=plain_state(self.learn.model), optimizer=optimizer, history=list(self.history)
        )
        write_checkpoint(self.folder, now)


class Save(Callback):
    """The checkpoint of an epoch, when all has been said about it."""

    order = 70

    def __init__(self, records: Records) -> None:
        super().__init__()
        self.records = records

    def after_epoch(self) -> None:
        if self.epoch >= self.records.skip:
            self.records.write()


def shown_values(log: list[Any]) -> list[float | None]:
    """Those of SHOWN from a line of fastai's Recorder; None for what is no number."""
    return [_number(value) for value in log[1 : 1 + len(SHOWN)]]


def _number(value: Any) -> float | None:
    number = float(value)
    return round(number, 5) if math.isfinite(number) else None


def _shown(value: float | None) -> str:
    return "no number" if value is None else f"{value:.3f}"

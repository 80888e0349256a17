"""What happens around batches and epochs beside the learning itself: precision, seeds, norms; told, saved."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aerialseg.memory import peak_bytes, reset_peak
from aerialseg.progress import Progress
from aerialseg.training.checkpoint import Saved, optimizer_tensors, plain_state, write_checkpoint
from aerialseg.training.learner import autocast, seed_everything
from aerialseg.training.torchvision_compat import patch_torchvision
from aerialseg.training.training_bar import TrainingBar

patch_torchvision()

from fastai.vision.all import Callback, GradientAccumulation  # noqa: E402

SHOWN = ("train_loss", "valid_loss", "dice_shown")


class Autocast(Callback):
    """bf16 where the forward pass and the loss allow it; it needs no scaling of the loss."""

    order = 10

    def before_batch(self) -> None:
        self.learn.xb = tuple(x.contiguous(memory_format=torch.channels_last) for x in self.xb)
        self._context = autocast(self.x.device, True)
        self._context.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self.leave()

    def after_cancel_batch(self) -> None:
        self.leave()

    def after_batch(self) -> None:
        self.leave()

    def leave(self) -> None:
        context, self._context = getattr(self, "_context", None), None
        if context is not None:
            context.__exit__(None, None, None)


class KeepNorms(Callback):
    """BatchNorm with the statistics that it has: of small batches its own are far from those of all frames."""

    def before_train(self) -> None:
        for module in self.learn.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class Frozen(Callback):
    """A part keeps its weights and its BatchNorm statistics: layers that are new would spoil them."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def before_fit(self) -> None:
        self.part.requires_grad_(False)

    def before_train(self) -> None:
        self.part.eval()


def leave_autocast(callbacks: Iterable[Callback]) -> None:
    """Leave what an error has left open: fastai tells no callback of errors. Left open, weights stay as first cast."""
    for callback in callbacks:
        if isinstance(callback, Autocast):
            callback.leave()


class Accumulate(GradientAccumulation):
    """fastai's accumulation to ``n_acc`` items, in which nothing is carried from one epoch to the next."""

    def before_train(self) -> None:
        self.count = 0
        self.learn.opt.zero_grad()


class Reseed(Callback):
    """An epoch draws the same random numbers whatever went before it: what resuming exactly needs."""

    order = 55

    def __init__(self, seed: int, step: int) -> None:
        super().__init__()
        self.seed, self.step = seed, step

    def before_train(self) -> None:
        seed_everything(hash((self.seed, self.step, self.epoch)) % 2**31)
        for loader in self.dls.loaders:
            loader.rng = random.Random(self.epoch)
        self.learn.recorder.smooth_loss.reset()  # or the loss that is shown would hold that of earlier epochs


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

"""The loop of a training: step after step of progressive resizing, each going on from the checkpoint before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from aerialseg.errors import ResourceError
from aerialseg.memory import keep_freed_memory
from aerialseg.progress import Progress, Silent, counted
from aerialseg.training.callbacks import (
    Accumulate,
    Autocast,
    Frozen,
    KeepNorms,
    Records,
    Reporter,
    Reseed,
    Save,
    leave_autocast,
)
from aerialseg.training.checkpoint import Saved, plain_state, read_checkpoint, restore_optimizer, write_checkpoint
from aerialseg.training.config import FIND, Step, TrainingConfig
from aerialseg.training.distillation.teacher import Teacher
from aerialseg.training.distillation.teacher_loss import TeacherLoss
from aerialseg.training.growing import weight_averaging as averaging
from aerialseg.training.growing.partial_unet import load_weights
from aerialseg.training.learner import known_part, seed_everything, use_bf16
from aerialseg.training.same_run import check_same_run, describe_training
from aerialseg.training.search import Finder, collect, keep_plot, shape_text
from aerialseg.training.step_learners import StepLearners, step_file
from aerialseg.training.training_bar import TrainingBar
from aerialseg.training.training_frames import TrainingFrames

ENCODER_LR = 0.2
"""Learning rate of the encoder's first layers, as a part of the others'."""

USUAL_BATCH = 8
"""From batches of so many BatchNorm is estimated at the start, where the batch has still to be found."""


class TrainingLoop:
    """One training run in its folder: step after step, each from the checkpoint that the one before it left."""

    def __init__(
        self,
        config: TrainingConfig,
        sides: TrainingFrames,
        work: Path,
        encoder_weights: str | Path | None = None,
        progress: Progress | None = None,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.config, self.sides, self.work, self.teachers = config, sides, work, teachers
        self.encoder_weights, self.progress = encoder_weights, progress or Silent()
        self.bf16 = use_bf16(config.precision)
        self.learners = StepLearners(config, sides, work, self.bf16)
        self.bar = TrainingBar(self.progress, config.steps, len(sides.learn), len(sides.watched))

    def run(self) -> Saved:
        """The last checkpoint when every step is done. Raises as ``train`` does."""
        known = self.sides.sha256, self.encoder_weights, self.teachers, self.sides.normalisation
        facts = describe_training(self.config, *known)
        check_same_run(self.work, facts)
        with keep_freed_memory():
            for number, step in enumerate(self.config.steps):
                if not (self.work / step_file(number)).exists():
                    self._run_step(number, step)
            if self.config.average > 1 and not (self.work / averaging.NAME).exists():
                self._average()
        return _there(averaging.read_finished(self.work))

    def _saved(self) -> Saved:
        """The checkpoint of the last finished epoch or search."""
        return _there(read_checkpoint(self.work))

    def _average(self) -> None:
        """Leave the mean of the weights that the last steps ended with."""
        last, count = len(self.config.steps) - 1, self.config.average
        at_once = next(found["at_once"] for found in self._saved().searches if found["step"] == last)
        seed_everything(self.config.seed)
        learner = self.learners.bare(self.config.steps[last], at_once)
        files = [step_file(last - back) for back in reversed(range(count))]
        estimate = not self.config.steps[last].keep_norms
        averaging.write_average(self.work, files, learner, bf16=self.bf16, estimate=estimate)
        self.progress.note(f"averaged the weights after the last {counted(count, 'step')}")

    def _run_step(self, number: int, step: Step) -> None:
        step, at_once = self._searched(number, step)
        while not self._fits(number, step, at_once):
            if at_once == 1:
                raise ResourceError("out of memory with one crop at a time: train with a smaller crop")
            at_once //= 2
            self._remember(number, at_once)
            self.progress.note(f"out of memory: going on with {at_once} crops at once, accumulated to {step.batch}")
        write_checkpoint(self.work, replace(self._saved(), optimizer={}), step_file(number))

    def _remember(self, number: int, at_once: int) -> None:
        """Keep what fits in the checkpoint: a run that goes on need not run out of memory again."""
        saved = self._saved()
        searches = [{**s, "at_once": at_once} if s["step"] == number else s for s in saved.searches]
        write_checkpoint(self.work, replace(saved, searches=searches))

    def _fits(self, number: int, step: Step, at_once: int) -> bool:
        """Train the rest of the step; False where memory ran out. Nothing of a failed attempt outlives this call."""
        learner, saved = self._learner(number, step, at_once)
        done = sum(record["step"] == number for record in saved.history)
        if done:
            restore_optimizer(learner.opt, saved.optimizer)
        callbacks = _callbacks(self, number, step, at_once, saved, done)
        callbacks += [Frozen(known_part(learner.model, self.config))] if step.frozen else []
        failed = False
        try:
            rates = slice(float(step.lr) * ENCODER_LR, float(step.lr))
            with learner.no_bar(), learner.no_logging():
                learner.fit_one_cycle(step.epochs, rates, start_epoch=done, cbs=callbacks)
        except torch.OutOfMemoryError:
            failed = True
        finally:
            leave_autocast(callbacks)
        if failed:
            del learner, saved, callbacks
            collect()
        return not failed

    def _learner(self, number: int, step: Step, at_once: int) -> tuple[Any, Saved]:
        """The learner of a step with the last checkpoint's weights and a fresh optimizer, and that checkpoint."""
        collect()  # learners and their callbacks hold each other: an earlier one would stay for a while
        seed_everything(self.config.seed + number)
        learner = self.learners.bare(step, at_once)
        saved = read_checkpoint(self.work)
        if saved is None:
            self.learners.start(learner, self.encoder_weights)
            saved = Saved(plain_state(learner.model), {}, [], [])
        load_weights(learner.model, saved.weights)
        if number and saved.history[-1]["step"] < number:
            self.learners.begin(learner, number, step, saved)
        learner.model.to(learner.dls.device)  # before the optimizer, whose state goes where the weights are
        learner.create_opt()
        return learner, saved

    def _searched(self, number: int, step: Step) -> tuple[Step, int]:
        """The step with numbers where it said "find", and how many crops to compute at once.

        What was found is kept in the checkpoint, so that a run that goes on finds the same.
        """
        usual = min(USUAL_BATCH, len(self.sides.learn))
        learner, saved = self._learner(number, step, usual if step.batch == FIND else int(step.batch))
        for found in saved.searches:
            if found["step"] == number:
                return replace(step, lr=found["lr"], batch=found["batch"]), found["at_once"]
        finder = Finder(self.config, len(self.sides.learn), self.learners.bare, self.bf16, self.progress)
        self.bar.interrupt()
        found = finder.find(learner, step)
        keep_plot(self.work, number, step, found, self.progress)
        step = replace(step, lr=found["lr"], batch=found["batch"])
        write_checkpoint(self.work, replace(saved, searches=[*saved.searches, {"step": number, **found}]))
        self.progress.note(_spoken(number, step, found["at_once"]))
        return step, int(found["at_once"])


def _spoken(number: int, step: Step, at_once: int) -> str:
    return (
        f"step {number}: frames {shape_text(step.size)}, crops {shape_text(step.seen)}, "
        f"{counted(step.epochs, 'epoch')}, batch {step.batch} ({at_once} at once), learning rate {step.lr:g}"
    )


def _there(saved: Saved | None) -> Saved:
    assert saved is not None
    return saved


def _callbacks(loop: TrainingLoop, number: int, step: Step, at_once: int, saved: Saved, done: int) -> list[Any]:
    notes = {"step": number, "lr": step.lr, "batch": step.batch, "at_once": at_once}
    records = Records(loop.work, saved, notes, loop.progress, done)
    callbacks: list[Any] = [Reseed(loop.config.seed, number), Reporter(loop.bar, number, done), records, Save(records)]
    together = accumulated(int(step.batch), at_once, len(loop.sides.learn))
    callbacks += [Accumulate(together)] if together > at_once else []
    callbacks += [Autocast()] if loop.bf16 else []
    callbacks += [KeepNorms()] if step.keep_norms else []
    networks = [teacher.network for teacher in loop.teachers]
    return callbacks + ([TeacherLoss(networks, loop.config.follow)] if networks else [])


def accumulated(batch: int, at_once: int, frames: int) -> int:
    """Crops whose gradients are added before an update: ``batch`` to the next multiple of what is computed at once.

    Less where an epoch has not so many: without an update nothing is learnt.
    """
    at_once = min(at_once, frames)
    return min(-(-batch // at_once), frames // at_once) * at_once

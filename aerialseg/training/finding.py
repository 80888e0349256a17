"""What a step leaves to be found: how many crops fit at once, the batch, the learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from aerialseg.errors import ResourceError
from aerialseg.model.device import free_bytes
from aerialseg.progress import Progress, spoken_bytes
from aerialseg.training.config import FIND, Step, TrainingConfig
from aerialseg.training.learner import Autocast, autocast, leave_autocast
from aerialseg.training.search import batch_fits, collect, find_batch, find_learning_rate


@dataclass(frozen=True, slots=True)
class Finder:
    """Searches before a step begins. make: a learner of a step over batches of a size, with weights of its own."""

    config: TrainingConfig
    frames: int
    make: Callable[[Step, int], Any]
    bf16: bool
    progress: Progress

    def find(self, learner: Any, step: Step) -> dict[str, Any]:
        """{"batch", "at_once", "lr"}, found where the step says "find", and how the search for the rate went.

        learner: with the weights that the step begins with; they stay as they are. Raises ResourceError where not even
        one crop fits.
        """
        most = self.config.max_batch if step.batch == FIND else int(step.batch)
        device = learner.dls.device
        free = free_bytes(device)
        at_once = find_batch(
            lambda batch: batch_fits(learner, step.seen, batch, lambda: autocast(device, self.bf16)), most
        )
        batch = min(at_once, self.frames) if step.batch == FIND else int(step.batch)
        at_once = min(at_once, batch) if batch & (batch - 1) == 0 else batch if at_once * 2 > batch else at_once
        self.progress.note(f"{at_once} crops of {shape_text(step.seen)} fit at once into {spoken_bytes(int(free))}")
        if step.lr != FIND:
            return {"batch": batch, "at_once": at_once, "lr": step.lr}
        while (rates := self._rates(learner, step, at_once)) is None:
            if at_once == 1:
                raise ResourceError("out of memory with one crop at a time: train with a smaller crop")
            at_once //= 2
        return {"batch": batch, "at_once": at_once, **rates}

    def _rates(self, learner: Any, step: Step, at_once: int) -> dict[str, Any] | None:
        """What a search for the learning rate found; None where memory ran out."""
        searching = self.make(step, at_once)
        searching.model.load_state_dict(learner.model.state_dict())
        callbacks = [Autocast()] if self.bf16 else []
        try:
            return find_learning_rate(searching, self.config.search_steps, callbacks)
        except torch.OutOfMemoryError:
            pass
        finally:
            leave_autocast(callbacks)
        del searching
        collect()
        return None


def shape_text(shape: tuple[int, int]) -> str:
    """Rows and columns as a person writes them."""
    return f"{shape[0]} x {shape[1]}"

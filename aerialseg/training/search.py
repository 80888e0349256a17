"""Looking for the learning rate and for the batch that fits into memory."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from fastai.vision.all import Callback, Learner, valley
from torch import Tensor, nn

from aerialseg.errors import ResourceError
from aerialseg.evaluation.charts import standalone
from aerialseg.evaluation.curves import searches
from aerialseg.files import write_atomically
from aerialseg.model.device import free_bytes
from aerialseg.progress import Progress, spoken_bytes
from aerialseg.training.callbacks import Autocast, leave_autocast
from aerialseg.training.config import FIND, Step, TrainingConfig
from aerialseg.training.learner import autocast
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()

MEMORY_SHARE = 0.5
"""Of the memory that is free: what the activations of a batch may take on a CPU, where too much is fatal."""
_OVERHEAD = 1.6
"""Memory in use over what is kept for the backward pass: gradients, buffers of the convolutions."""
_LEAST = 2
"""Images of a trial: of a single small one BatchNorm would see a single value."""
LOWEST_LR, HIGHEST_LR = 1e-5, 1e-2


class _Counted(Callback):
    """Says each batch to a listener."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self.progress = progress

    def after_batch(self) -> None:
        self.progress.advance(1)


def find_learning_rate(
    learner: Learner, updates: int, callbacks: Sequence[Callback], progress: Progress
) -> dict[str, Any]:
    """{"lr", "lrs", "losses"}: fastai's ``lr_find`` over so many batches, and the rate in the longest valley.

    The learner is as it was afterwards. (Smith 2017, arXiv 1506.01186, section 3.3.) The rate is kept between 1e-5 and
    1e-2: outside, a search of few updates has seen noise.
    """
    updates = max(updates, 20)
    progress.stage("search", updates)
    with learner.no_bar(), learner.added_cbs([*callbacks, _Counted(progress)]), _too_short():
        found = learner.lr_find(start_lr=LOWEST_LR, end_lr=1.0, num_it=updates, show_plot=False, suggest_funcs=valley)
    pairs = zip(learner.recorder.lrs, learner.recorder.losses, strict=True)
    finite = list(takewhile(lambda pair: math.isfinite(pair[1]), ((float(lr), float(loss)) for lr, loss in pairs)))
    lrs, losses = ([float(f"{value:.4g}") for value in values] for values in zip(*finite, strict=True))
    learner.opt = None
    return {"lr": float(f"{min(max(found.valley, LOWEST_LR), HIGHEST_LR):.3g}"), "lrs": lrs, "losses": losses}


@contextmanager
def _too_short() -> Iterator[None]:
    """fastai finds no valley in a search that broke off at once."""
    try:
        yield
    except (IndexError, ValueError) as error:
        raise ResourceError(
            "the search for the learning rate failed, because the loss is NaN from the start: give lr as a "
            "number, or another precision"
        ) from error


def find_batch(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to ``most`` that fits. Raises ResourceError where not even 1 does."""
    batch = 0
    while max(1, batch * 2) <= most and fits(max(1, batch * 2)):
        batch = max(1, batch * 2)
    if not batch:
        raise ResourceError(
            "not even one crop at a time fits into memory: train with a smaller crop, or close other programs"
        )
    return batch


def batch_fits(learner: Learner, shape: tuple[int, int], batch: int, context: Callable[[], Any]) -> bool:
    """Whether a forward and a backward pass over ``batch`` images of ``shape`` fit into memory.

    Tried out on a GPU; on a CPU, where trying would be fatal, reckoned from what one image keeps for the backward pass.
    """
    device = learner.dls.device
    if device.type == "cuda":
        return not runs_out(lambda: forward_backward(learner, shape, max(batch, _LEAST), context))
    kept = KeptBytes()
    with kept:
        forward_backward(learner, shape, _LEAST, context)
    return kept.total / _LEAST * _OVERHEAD * batch <= MEMORY_SHARE * free_bytes(str(device))


def runs_out(work: Callable[[], object]) -> bool:
    """Whether the work ends for want of memory; what it held is given back."""
    try:
        work()
        failed = False
    except torch.OutOfMemoryError:
        failed = True
    collect()
    return failed


def collect() -> None:
    """Give back what nobody holds any more: to be called where no reference to a failed pass is left."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def forward_backward(learner: Learner, shape: tuple[int, int], batch: int, context: Callable[[], Any]) -> None:
    """One pass there and back over noise; weights and statistics stay as they are."""
    model: nn.Module = learner.model
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to(learner.dls.device).train()
    bands = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    image = torch.randn(batch, bands, *shape, device=learner.dls.device).contiguous(memory_format=torch.channels_last)
    truth = torch.zeros(batch, *shape, dtype=torch.long, device=learner.dls.device)
    try:
        with context():
            loss = learner.loss_func(model(image).float(), truth)
        loss.backward()
    finally:
        for hook in getattr(model, "sfs", ()):  # of fastai's DynamicUnet: they would keep the encoder's features
            hook.stored = None
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


class KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that the passes inside keep for going back, each piece of memory once."""

    def __init__(self) -> None:
        self._pieces: dict[int, int] = {}
        super().__init__(self._note, lambda tensor: tensor)

    def _note(self, tensor: Tensor) -> Tensor:
        piece = tensor.untyped_storage()
        self._pieces[piece.data_ptr()] = piece.nbytes()
        return tensor

    @property
    def total(self) -> int:
        return sum(self._pieces.values())


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
        free = free_bytes(str(device))
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
            return find_learning_rate(searching, self.config.search_steps, callbacks, self.progress)
        except torch.OutOfMemoryError:
            pass
        finally:
            leave_autocast(callbacks)
        del searching
        collect()
        return None


def keep_plot(work: Path, number: int, step: Step, found: dict[str, Any], progress: Progress) -> None:
    """Leave the plot of a search that found a learning rate in ``work``, for people, at once. Raises OutputError."""
    for chart in searches({"searches": [{**found, "step": 0}], "steps": [{"size": list(step.size)}]}):
        path = work / f"learning-rate-{number}.svg"
        with write_atomically(path) as part:
            part.write_text(standalone(chart), encoding="utf-8")
        progress.note(f"learning rate {found['lr']:g}: {path}")


def shape_text(shape: tuple[int, int]) -> str:
    """Rows and columns as a person writes them."""
    return f"{shape[0]} x {shape[1]}"

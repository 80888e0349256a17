"""fastai's U-Net learner, as this project trains it: on CPU or GPU, in bf16 where that is fast, saved at each epoch."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aerialseg.errors import ModelError, UsageError
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.encoder import calibrate, load_encoder
from aerialseg.training.pairs import VOID, Progress
from aerialseg.training.torchvision_fix import mend_torchvision

mend_torchvision()

from fastai.vision.all import (  # noqa: E402
    Callback,
    CrossEntropyLossFlat,
    DataLoaders,
    DiceMulti,
    Learner,
    NormType,
    unet_learner,
)
from torchvision import models  # noqa: E402


def make_learner(loaders: DataLoaders, config: TrainingConfig, classes: int, weights: Tensor | None = None) -> Learner:
    """A ``unet_learner`` over the configured encoder, from random weights; void does not count in its loss."""
    arch = getattr(models, config.encoder.arch, None)
    if arch is None or not config.encoder.arch.startswith("resnet"):
        raise UsageError(f"encoder.arch is {config.encoder.arch!r}; wanted a ResNet of torchvision, such as resnet34")
    learner = unet_learner(
        loaders,
        arch,
        n_out=classes,
        pretrained=False,
        normalize=False,
        blur=config.decoder.blur,
        self_attention=config.decoder.self_attention,
        norm_type=None if config.decoder.norm == "none" else NormType[config.decoder.norm.title()],
        loss_func=CrossEntropyLossFlat(
            axis=1, ignore_index=VOID, weight=None if weights is None else weights.to(loaders.device)
        ),
        metrics=DiceMulti(),
        wd=config.weight_decay,
    )
    learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ in ("ProgressCallback",)])
    learner.model.to(memory_format=torch.channels_last)
    return learner


def start_encoder(learner: Learner, config: TrainingConfig, weights: str | Path | None) -> None:
    """Load and calibrate the encoder as the configuration says. Raises UsageError where the weights are missing."""
    if config.encoder.start == "scratch":
        return
    if weights is None:
        raise UsageError(
            f"encoder.start is {config.encoder.start!r}: give --encoder-weights FILE (torchvision's "
            "resnet34 file, or a shallower one for 'deepen'), or set it to 'scratch'"
        )
    body = learner.model.layers[0].to(learner.dls.device)
    load_encoder(body, config.encoder.arch, config.encoder.start, weights)
    if config.encoder.calibrate:
        calibrate(body, _some_batches(learner.dls, config.encoder.calibrate))


def _some_batches(loaders: DataLoaders, frames: int) -> Any:
    seen = 0
    for batch in loaders.train:
        yield torch.Tensor(batch[0]).contiguous(memory_format=torch.channels_last)
        seen += len(batch[0])
        if seen >= frames:
            return


class Autocast(Callback):
    """bf16 where the forward pass and the loss allow it; it needs no scaling of the loss."""

    order = 10

    def before_batch(self) -> None:
        self.learn.xb = tuple(x.contiguous(memory_format=torch.channels_last) for x in self.xb)
        autocast: Any = torch.autocast
        self._context = autocast(self.x.device.type, dtype=torch.bfloat16)
        self._context.__enter__()

    def after_pred(self) -> None:
        self.learn.pred = self.pred.float()

    def after_loss(self) -> None:
        self._leave()

    def after_cancel_batch(self) -> None:
        self._leave()

    def _leave(self) -> None:
        context, self._context = getattr(self, "_context", None), None
        if context is not None:
            context.__exit__(None, None, None)


class Checkpoint(Callback):
    """Weights and history after each epoch, whole or not at all: written beside, then renamed."""

    order = 60

    def __init__(
        self, folder: Path, step: int, history: list[dict[str, Any]], progress: Progress, *, start_epoch: int = 0
    ) -> None:
        super().__init__()
        self.start_epoch = start_epoch
        self.folder, self.step, self.history, self.progress = folder, step, history, progress

    def before_epoch(self) -> None:
        self._started = time.monotonic()

    def after_epoch(self) -> None:
        if self.epoch < self.start_epoch:  # fastai announces the epochs that it skips, too
            return
        names = ["train_loss", "valid_loss", "dice_shown"]
        values = [float(value) for value in self.learn.recorder.log[1 : 1 + len(names)]]
        record = {"step": self.step, "epoch": int(self.epoch), **dict(zip(names, values, strict=False))}
        record["seconds"] = round(time.monotonic() - self._started, 1)
        self.history.append(record)
        write_checkpoint(self.folder, self.learn.model, self.history)
        shown = " ".join(f"{key} {value:.4g}" for key, value in record.items())
        self.progress(shown)


def write_checkpoint(folder: Path, model: nn.Module, history: list[dict[str, Any]]) -> None:
    """``checkpoint.safetensors`` (float32) and ``checkpoint.json`` in ``folder``."""
    part = folder / "checkpoint.part"
    save_file(plain_state(model), part, metadata={"history": json.dumps(history)})
    part.replace(folder / "checkpoint.safetensors")
    text = folder / "checkpoint.json.part"
    text.write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    text.replace(folder / "checkpoint.json")


def read_checkpoint(folder: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]]] | None:
    """(state, history) of the last finished epoch, or None if there is none. Raises ModelError if it cannot be read."""
    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    try:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            history = json.loads((file.metadata() or {})["history"])
        return load_file(path), history
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}; delete it to start anew") from error


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as contiguous CPU tensors, nothing shared."""
    state: Mapping[str, Tensor] = model.state_dict()
    return {
        name: torch.Tensor(t).detach().cpu().contiguous().clone() if t.is_floating_point() else t.detach().cpu().clone()
        for name, t in state.items()
    }


def fit_step(learner: Learner, step: Step, *, start_epoch: int, callbacks: list[Callback]) -> None:
    """Train one step with the one-cycle policy, the encoder's first layers at a fraction of the learning rate."""
    rates = slice(step.lr * step.encoder_lr, step.lr)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(step.epochs, rates, start_epoch=start_epoch, cbs=callbacks)

"""fastai's U-Net learner, as this project trains it: on CPU or GPU, in bf16 where that is fast."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aerialseg.errors import UsageError
from aerialseg.legend import NODATA
from aerialseg.model.light_unet import SHARED
from aerialseg.model.networks import build
from aerialseg.training.config import TrainingConfig
from aerialseg.training.encoder import calibrate, encoder_state, load_encoder, load_model_weights
from aerialseg.training.metrics import LabelledDice
from aerialseg.training.norm_folding import CLASSIFIER
from aerialseg.training.partial_unet import PartialUNet
from aerialseg.training.pyramid import WIDTH, Pyramid
from aerialseg.training.torchvision_compat import patch_torchvision
from aerialseg.training.torchvision_encoders import bare_resnet, fill_weights, is_v1

patch_torchvision()

from fastai.vision.all import (  # noqa: E402
    Callback,
    CrossEntropyLossFlat,
    DataLoaders,
    GradientAccumulation,
    Learner,
    NormType,
    unet_learner,
)
from torchvision import models  # noqa: E402


def make_learner(
    loaders: DataLoaders, config: TrainingConfig, classes: int, weights: Tensor | None = None, stride: int = 1
) -> Learner:
    """A learner of the configured network, from random weights; void does not count in its loss.

    With a ``stride`` above 1 it trains fastai's U-Net without its finest layers, and gives hints where a teacher's are
    followed.
    """
    weights = None if weights is None else weights.to(loaders.device)
    loss = CrossEntropyLossFlat(axis=1, ignore_index=NODATA, weight=weights)
    learner = _LEARNERS[config.decoder.kind](loaders, config, classes, loss)
    learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ in ("ProgressCallback",)])
    if stride > 1:
        hints = WIDTH if config.follow.hints else 0
        learner.model = PartialUNet(learner.model, stride, classes, hints).to(loaders.device)
    learner.model.to(memory_format=torch.channels_last)
    return learner


def _pyramid_learner(loaders: DataLoaders, config: TrainingConfig, classes: int, loss: Any) -> Learner:
    return _plain_learner(
        loaders, config, Pyramid(bare_resnet(config.encoder.arch, v1=config.encoder.v1), classes), loss
    )


def _unet_learner(loaders: DataLoaders, config: TrainingConfig, classes: int, loss: Any) -> Learner:
    arch = getattr(models, config.encoder.arch, None)
    if arch is None or not config.encoder.arch.startswith("resnet"):
        raise UsageError(f"encoder.arch is {config.encoder.arch!r}; wanted a ResNet of torchvision, such as resnet34")
    learner = unet_learner(
        loaders,
        arch,
        n_out=classes,
        n_in=len(config.data.bands),
        pretrained=False,
        normalize=False,
        norm_type=NormType.Batch if config.decoder.norm == "batch" else None,
        loss_func=loss,
        metrics=LabelledDice(),
        wd=config.weight_decay,
    )
    if config.decoder.norm == "batch":  # on the logits it would hold them near zero for hundreds of updates
        last = learner.model.layers[CLASSIFIER][0]
        learner.model.layers[CLASSIFIER] = nn.Sequential(nn.Conv2d(last.in_channels, classes, 1)).to(loaders.device)
    return learner


def _network_learner(loaders: DataLoaders, config: TrainingConfig, classes: int, loss: Any) -> Learner:
    network = build(classes=classes, bands=len(config.data.bands), **asdict(config.architecture))
    return _plain_learner(loaders, config, network, loss)


def _plain_learner(loaders: DataLoaders, config: TrainingConfig, model: nn.Module, loss: Any) -> Learner:
    """fastai's Learner, whose first parameter group is the part that starts from weights."""

    def splitter(model: nn.Module) -> list[list[nn.Parameter]]:
        first = list(known_part(model, config).parameters())
        known = {id(parameter) for parameter in first}
        return [first, [parameter for parameter in model.parameters() if id(parameter) not in known]]

    model = model.to(loaders.device)
    return Learner(loaders, model, loss, splitter=splitter, metrics=LabelledDice(), wd=config.weight_decay)


_LEARNERS = {
    "unet": _unet_learner,
    "light-unet": _network_learner,
    "smp-unet": _network_learner,
    "pyramid": _pyramid_learner,
}
"""The learner of each ``decoder.kind``."""


def encoder_of(model: Any, config: TrainingConfig) -> Any:
    """stem, pooling, stages: the part of a learner's network that starts from weights of a ResNet."""
    return model.layers[0] if config.decoder.kind in ("unet", "light-unet") else model.encoder


def known_part(model: Any, config: TrainingConfig) -> Any:
    """The part that knows something when training begins: the encoder, or what a light U-Net has from another model."""
    if config.decoder.kind == "light-unet" and config.encoder.start == "model":
        return model.layers[:SHARED]
    return encoder_of(model, config)


def start_encoder(learner: Learner, config: TrainingConfig, weights: str | Path | None) -> None:
    """Load and calibrate the encoder as the configuration says. Raises UsageError where the weights are missing."""
    if config.encoder.start == "scratch":
        return
    if config.encoder.start == "model":
        load_model_weights(learner.model, encoder_of(learner.model, config), weights, config)
        return
    encoder, file = config.encoder, find_weights(config, weights)
    if config.teaches:
        body = learner.model.encoder
        if encoder.v1 != is_v1(file):
            raise UsageError(f"encoder.v1 is {encoder.v1}, and {file} says otherwise: set it to {not encoder.v1}")
        fill_weights(body.network, encoder_state(encoder.arch, encoder.start, file), file)
    else:
        body = encoder_of(learner.model, config).to(learner.dls.device)
        load_encoder(body, encoder.arch, encoder.start, file, config.data.bands)
    if encoder.calibrate:
        calibrate(body, some_batches(learner.dls, config.encoder.calibrate))


def find_weights(config: TrainingConfig, weights: str | Path | None) -> Any:
    """The weights that the encoder starts from, to be asked for before any image is prepared. Raises UsageError."""
    if weights is None and config.encoder.start == "deepen":
        raise UsageError(
            "encoder.start is 'deepen': give --encoder-weights FILE, those of a shallower ResNet, or set it to "
            "'scratch'"
        )
    if weights is None and config.encoder.start == "pretrained":
        return torchvisions_file(config.encoder.arch)
    return weights


def torchvisions_file(arch: str) -> Path:
    """torchvision's own ImageNet weights of a network: from its cache, else from its site. Raises UsageError."""
    url = str(models.get_model_weights(arch).DEFAULT.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1], progress=False)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"encoder.start is 'pretrained', and torchvision's weights of {arch} are neither in {path.parent} nor "
                f"at {url}: give --encoder-weights FILE, or set it to 'scratch'"
            ) from error
    return path


def some_batches(loaders: DataLoaders, frames: int) -> Iterator[Tensor]:
    """Batches of images to learn from, of so many crops in all; fewer where an epoch has not so many."""
    seen = 0
    for batch in loaders.train:
        yield torch.Tensor(batch[0]).contiguous(memory_format=torch.channels_last)
        seen += len(batch[0])
        if seen >= frames:
            return


def autocast(device: torch.device, bf16: bool) -> Any:
    """A context in which torch computes in bf16, or as it is."""
    kind: Any = torch.autocast
    return kind(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()


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


def seed_everything(seed: int) -> None:
    """Fix every random number generator that training uses."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (fastai draws from the global generator)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True


def use_bf16(precision: str) -> bool:
    """Whether to compute in bf16: "auto" does where the processor or GPU has instructions for it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""

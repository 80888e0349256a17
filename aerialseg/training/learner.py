"""fastai's U-Net learner, as this project trains it: on CPU or GPU, in bf16 where that is fast."""

from __future__ import annotations

import multiprocessing
import os
import random
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aerialseg.datasets.pairs import class_weights
from aerialseg.errors import UsageError
from aerialseg.legend import NODATA
from aerialseg.model.light_unet import SHARED
from aerialseg.model.networks import build
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.dataset import make_loaders
from aerialseg.training.encoder import calibrate, load_encoder, load_model_weights
from aerialseg.training.metrics import LabelledDice
from aerialseg.training.norm_folding import CLASSIFIER
from aerialseg.training.torchvision_compat import patch_torchvision
from aerialseg.training.training_frames import TrainingFrames

patch_torchvision()

from fastai.vision.all import (  # noqa: E402
    CrossEntropyLossFlat,
    DataLoaders,
    Learner,
    NormType,
    unet_learner,
)
from torchvision import models  # noqa: E402


def make_learner(
    config: TrainingConfig, sides: TrainingFrames, step: Step, at_once: int, network_learner: Any = None
) -> Learner:
    """A learner of the configured network from random weights, over crops as a step sees them; void does not count.

    at_once: crops of a batch. network_learner: (loaders, config, classes, loss) -> Learner, by default that of the
    configuration's decoder.
    """
    legend = sides.legend
    loaders = make_loaders(
        sides.learn,
        sides.watched,
        legend,
        step,
        config.augment,
        batch=min(at_once, len(sides.learn)),
        workers=_worker_count(),
        normalisation=sides.normalisation,
    )
    weights = torch.from_numpy(class_weights(sides.learn, len(legend), config.balance)) if config.balance else None
    loss = CrossEntropyLossFlat(
        axis=1, ignore_index=NODATA, weight=None if weights is None else weights.to(loaders.device)
    )
    learner = (network_learner or _LEARNERS[config.decoder.kind])(loaders, config, len(legend), loss)
    learner.remove_cbs([cb for cb in learner.cbs if type(cb).__name__ in ("ProgressCallback",)])
    learner.model.to(memory_format=torch.channels_last)
    return learner


def _worker_count() -> int:
    """Processes that load images beside a GPU, where they can be forked: what the loaders look up cannot be pickled."""
    forks = multiprocessing.get_start_method() == "fork"
    return min(8, os.cpu_count() or 1) if torch.cuda.is_available() and forks else 0


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
    return plain_learner(loaders, config, network, loss)


def plain_learner(loaders: DataLoaders, config: TrainingConfig, model: nn.Module, loss: Any) -> Learner:
    """fastai's Learner, whose first parameter group is the part that starts from weights."""

    def splitter(model: nn.Module) -> list[list[nn.Parameter]]:
        first = list(known_part(model, config).parameters())
        known = {id(parameter) for parameter in first}
        return [first, [parameter for parameter in model.parameters() if id(parameter) not in known]]

    model = model.to(loaders.device)
    return Learner(loaders, model, loss, splitter=splitter, metrics=LabelledDice(), wd=config.weight_decay)


_LEARNERS = {"unet": _unet_learner, "light-unet": _network_learner, "smp-unet": _network_learner}
"""The learner of each ``decoder.kind`` that makes a model."""


def encoder_of(model: Any, config: TrainingConfig) -> Any:
    """stem, pooling, stages: the part of a learner's network that starts from weights of a ResNet."""
    return model.layers[0] if config.decoder.kind in ("unet", "light-unet") else model.encoder


def known_part(model: Any, config: TrainingConfig) -> Any:
    """The part that knows something when training begins: the encoder, or what a light U-Net has from another model."""
    if config.decoder.kind == "light-unet" and config.encoder.start == "model":
        return model.layers[:SHARED]
    return encoder_of(model, config)


def start_encoder(network: nn.Module, loaders: DataLoaders, config: TrainingConfig, weights: str | Path | None) -> None:
    """Load and calibrate the encoder as the configuration says. Raises UsageError where the weights are missing."""
    start, body = config.encoder.start, encoder_of(network, config)
    if start == "model":
        load_model_weights(network, body, weights, config)
    elif start != "scratch":
        file = find_weights(config, weights)
        load_encoder(body.to(loaders.device), config.encoder.arch, start, file, config.data.bands)
        if config.encoder.calibrate:
            calibrate(body, some_batches(loaders, config.encoder.calibrate))


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

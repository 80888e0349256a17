"""An encoder that has learnt to see as a stronger one does: features of a ResNet-50 distilled into a ResNet-34.

For where no ImageNet weights of the wanted encoder are to be had, but those of another one are. No labels are needed.
(Romero et al. 2015, "FitNets", arXiv 1412.6550; Heo et al. 2019, arXiv 1904.01866.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from aerialseg.errors import UsageError
from aerialseg.progress import Progress, Silent
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.dataset import make_loaders
from aerialseg.training.encoder import calibrate
from aerialseg.training.learner import autocast, seed_everything, use_bf16
from aerialseg.training.resnets import STAGES, Features, load_student, load_teacher
from aerialseg.training.sides import load_sides

HIGHEST_LR = 1e-3
_STATISTICS = 8
"""Batches from which the teacher's mean and spread are estimated."""


def distil(
    config_path: str | Path,
    data_dir: str | Path,
    out: str | Path,
    *,
    teacher: str | Path,
    student: str | Path | None = None,
    crops: int = 4800,
    side: int = 224,
    batch: int = 16,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The file ``out``: weights of the configuration's encoder, trained to give the teacher's features.

    teacher: file of a ResNet-50 with torchvision's names; where its metadata says that the stride sits in the first
    convolution of a bottleneck (v1), it does. student: weights to start from, deepened if need be; random without.
    crops: how many are seen, of ``side`` px, from frames that the split learns from. The loss is the mean squared
    difference of the four stages' features, each channel of the teacher's scaled to mean 0 and spread 1, after a 1x1
    convolution that is thrown away. Raises InputError, ModelError, UsageError.
    """
    progress, config, out = progress or Silent(), TrainingConfig.read(config_path), Path(out)
    if out.exists() and not overwrite:
        raise UsageError(f"output {out} exists: add --overwrite to replace it")
    seed_everything(config.seed)
    sides = load_sides(config, data_dir, out.parent / "prepared", progress)
    batch = min(batch, len(sides.learn))
    if crops < batch:
        raise UsageError(f"{crops} crops: wanted at least {batch}, one batch")
    step = Step(config.data.size, 1, batch, HIGHEST_LR, crop=(side, side))
    loaders = make_loaders(sides.learn, sides.watched, sides.legend, step, config.augment, batch=batch)
    device = loaders.device
    wise = Features(load_teacher(teacher)).to(device).eval().requires_grad_(False)
    keen = Features(load_student(config.encoder.arch, student)).to(device)
    calibrate(keen, _images(loaders, 4))
    _teach(wise, keen, loaders, crops // batch, use_bf16(config.precision), progress)
    calibrate(keen, _images(loaders, 16))
    part = out.with_name(out.name + ".part")
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in keen.network.state_dict().items()}
    save_file(state, part, metadata={"note": f"distilled from {Path(teacher).name}, {crops} crops of {side} px"})
    part.replace(out)
    return out


def _teach(wise: Features, keen: Features, loaders: Any, updates: int, bf16: bool, progress: Progress) -> None:
    bridges = nn.ModuleList(nn.Conv2d(n, m, 1) for n, m in zip(keen.channels, wise.channels, strict=True))
    bridges.to(loaders.device)
    spread = _spread(wise, _images(loaders, _STATISTICS), bf16)
    optimizer = torch.optim.AdamW([*keen.parameters(), *bridges.parameters()], lr=HIGHEST_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, HIGHEST_LR, updates, pct_start=0.15)
    progress.stage("train", updates)
    keen.train()
    losses: list[float] = []
    for number, image in enumerate(_images(loaders, updates), start=1):
        with autocast(image.device, bf16):
            with torch.no_grad():
                wanted = [(f.float() - mean) / std for f, (mean, std) in zip(wise(image), spread, strict=True)]
            given = [bridge(f) for bridge, f in zip(bridges, keen(image), strict=True)]
        loss = torch.stack([F.mse_loss(g.float(), w) for g, w in zip(given, wanted, strict=True)]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        progress.advance(1)
        if number % 50 == 0:
            progress.note(f"update {number} of {updates}: {sum(losses[-50:]) / 50:.3f} of the variance not explained")


@torch.no_grad()
def _spread(wise: Features, images: Iterable[Tensor], bf16: bool) -> list[tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each channel of each stage, over the images."""
    sums: list[list[Tensor]] = [[] for _ in STAGES]
    squares: list[list[Tensor]] = [[] for _ in STAGES]
    for image in images:
        with autocast(image.device, bf16):
            features = wise(image)
        for stage, feature in enumerate(features):
            values = feature.float()
            sums[stage].append(values.mean((0, 2, 3), keepdim=True))
            squares[stage].append((values**2).mean((0, 2, 3), keepdim=True))
    means = [torch.stack(part).mean(0) for part in sums]
    variances = [torch.stack(part).mean(0) - mean**2 for part, mean in zip(squares, means, strict=True)]
    return [(mean, variance.clamp(min=1e-4).sqrt()) for mean, variance in zip(means, variances, strict=True)]


def _images(loaders: Any, count: int) -> Iterator[Tensor]:
    """``count`` batches of normalised images, epoch after epoch."""
    while count > 0:
        for batch in loaders.train:
            if count > 0:
                yield batch[0].as_subclass(Tensor).contiguous(memory_format=torch.channels_last)
            count -= 1

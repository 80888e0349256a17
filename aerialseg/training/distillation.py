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

from aerialseg.errors import ModelError, UsageError
from aerialseg.progress import Progress, Silent
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.encoder import DEPTHS, blocks_of, calibrate, deepen, read_encoder_weights
from aerialseg.training.learner import autocast, seed_everything, use_bf16
from aerialseg.training.sides import load_sides
from aerialseg.training.torchvision_fix import mend_torchvision

mend_torchvision()

from torchvision import models  # noqa: E402

from aerialseg.training.dataset import make_loaders  # noqa: E402

STAGES = ("layer1", "layer2", "layer3", "layer4")
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


class Features(nn.Module):
    """The output of each of the four stages of a torchvision ResNet."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network.fc = nn.Identity()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        last = [list(getattr(network, stage)[-1].modules()) for stage in STAGES]
        self.channels = [[m for m in part if isinstance(m, nn.Conv2d)][-1].out_channels for part in last]

    def forward(self, x: Tensor) -> list[Tensor]:
        net: Any = self.network
        x, features = net.maxpool(net.relu(net.bn1(net.conv1(x)))), []
        for stage in STAGES:
            x = getattr(net, stage)(x)
            features.append(x)
        return features


def load_teacher(path: str | Path) -> nn.Module:
    """torchvision's ResNet-50 with the weights of a file. Raises ModelError where they do not fit."""
    network, state = models.resnet50(weights=None), read_encoder_weights(path)
    if _is_v1(path):
        for stage in STAGES[1:]:
            block = getattr(network, stage)[0]
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return _filled(network, state, path)


def _is_v1(path: str | Path) -> bool:
    from safetensors import safe_open

    if Path(path).suffix != ".safetensors":
        return False
    with safe_open(path, "pt") as file:
        return "v1" in (file.metadata() or {}).get("note", "")


def load_student(arch: str, path: str | Path | None) -> nn.Module:
    """torchvision's network of that name, with the weights of a file (deepened if need be) or random ones."""
    network: nn.Module = getattr(models, arch)(weights=None)
    if path is None:
        return network
    state = read_encoder_weights(path)
    shallow = tuple(blocks_of(state, stage) for stage in range(1, 5)) != DEPTHS[arch]
    return _filled(network, deepen(state, DEPTHS[arch]) if shallow else state, path)


def _filled(network: nn.Module, state: dict[str, Tensor], path: str | Path) -> nn.Module:
    missing, unexpected = network.load_state_dict(state, strict=False)
    lost = [name for name in missing if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    if lost or unexpected:
        raise ModelError(f"{path} does not fit: missing {lost[:3]}, unexpected {list(unexpected)[:3]}")
    return network

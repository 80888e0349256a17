"""torchvision's ResNets as encoders, with its parameter names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.model.reach import Composed


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """A ResNet as numbers: blocks a stage, channels a stage, and whether blocks are bottlenecks (expansion 4).

    groups, group_width: of the 3x3 convolution of a bottleneck (ResNeXt, wide ResNet), for a stage of 64 channels.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    bottleneck: bool = False
    groups: int = 1
    group_width: int = 64

    @property
    def stem(self) -> int:
        return self.widths[0]

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(width * (4 if self.bottleneck else 1) for width in self.widths)


ENCODERS = {
    "resnet18": EncoderShape((2, 2, 2, 2)),
    "resnet34": EncoderShape((3, 4, 6, 3)),
    "resnet50": EncoderShape((3, 4, 6, 3), bottleneck=True),
    "resnet101": EncoderShape((3, 4, 23, 3), bottleneck=True),
    "resnet152": EncoderShape((3, 8, 36, 3), bottleneck=True),
    "resnext50_32x4d": EncoderShape((3, 4, 6, 3), bottleneck=True, groups=32, group_width=4),
    "resnext101_32x8d": EncoderShape((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
    "resnext101_64x4d": EncoderShape((3, 4, 23, 3), bottleneck=True, groups=64, group_width=4),
    "wide_resnet50_2": EncoderShape((3, 4, 6, 3), bottleneck=True, group_width=128),
    "wide_resnet101_2": EncoderShape((3, 4, 23, 3), bottleneck=True, group_width=128),
    "resnet10-narrow": EncoderShape((1, 1, 1, 1), (8, 16, 24, 32)),
}
"""Torchvision's encoders by the name that a model card gives; the last one is for tests and trials."""

Norm = Callable[[int], nn.Module]


class EncoderBlock(Composed):
    """A residual block of torchvision's ResNet, basic or bottleneck."""

    def __init__(self, n_in: int, width: int, stride: int, shape: EncoderShape, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        n_out, inner, groups = width * (4 if shape.bottleneck else 1), width, 1
        if shape.bottleneck:
            inner, groups = width * shape.group_width // 64 * shape.groups, shape.groups
        sizes = [(n_in, inner, 1, 1), (inner, inner, 3, stride), (inner, n_out, 1, 1)]
        sizes = sizes if shape.bottleneck else [(n_in, width, 3, stride), (width, width, 3, 1)]
        self.convs = len(sizes)
        for number, (before, after, kernel, step) in enumerate(sizes, start=1):
            conv = nn.Conv2d(before, after, kernel, step, kernel // 2, groups=groups if kernel > 1 else 1, bias=False)
            setattr(self, f"conv{number}", conv)
            setattr(self, f"bn{number}", norm(after))
        self.downsample: nn.Module | None = None
        if stride > 1 or n_in != n_out:
            self.downsample = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), norm(n_out))

    def branches(self) -> Iterable[nn.Module]:
        parts = [getattr(self, f"{kind}{number}") for number in range(1, self.convs + 1) for kind in ("conv", "bn")]
        yield nn.Sequential(*parts)
        yield self.downsample or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for number in range(1, self.convs + 1):
            out = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(out))
            if number < self.convs:
                out = F.relu(out, inplace=True)
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


def make_encoder(shape: EncoderShape, n_in: int, norm: Norm) -> nn.Sequential:
    """torchvision's ResNet without its head, as fastai cuts it: stem (0-2), pooling (3), four stages."""
    layers: list[nn.Module] = [nn.Conv2d(n_in, shape.stem, 7, 2, 3, bias=False), norm(shape.stem)]
    layers += [nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    before = shape.stem
    for stage, (depth, width, after) in enumerate(zip(shape.depths, shape.widths, shape.channels, strict=True)):
        stride = 1 if stage == 0 else 2
        blocks = [EncoderBlock(before, width, stride, shape, norm)]
        blocks += [EncoderBlock(after, width, 1, shape, norm) for _ in range(depth - 1)]
        layers.append(nn.Sequential(*blocks))
        before = after
    return nn.Sequential(*layers)

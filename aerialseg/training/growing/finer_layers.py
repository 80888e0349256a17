"""Finer layers that begin by passing on what coarser ones say, and learn from there.

A step with a stride leaves a coarse classifier beside the network. Where a finer step follows, layers that have learned
nothing would first have to find again what that classifier knows, and spoil it meanwhile. Instead as many of their
channels as there are classes carry its logits through to the finest resolution; the other channels are random, and
nobody listens to them at first. (Function-preserving growth, as in Chen et al. 2016, "Net2Net", arXiv 1511.05641.)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from aerialseg.errors import UsageError
from aerialseg.model.network import Network
from aerialseg.training.encoder import calibrate
from aerialseg.training.growing.partial_unet import PartialUNet, layers_down_to
from aerialseg.training.norm_folding import CLASSIFIER

OFFSET = 12.0
"""Added to logits where no norm follows; the classifier takes it away again. ReLUs cut off the least likely.

The larger it is, the more a change of any kernel shifts what is carried."""
SAME, TENT = (0.0, 1.0, 0.0), (0.25, 0.5, 0.25)
"""What a 3x3 convolution does along rows and columns: nothing, or soften the squares that a pixel shuffle makes."""
SPREADS = 4.0
"""The same where a BatchNorm follows, in standard deviations."""


@torch.no_grad()
def initialise_finer_layers(model: Any, coarse: Tensor, bias: Tensor, stride: int, images: Iterable[Tensor]) -> None:
    """Let a U-Net, or a ``PartialUNet`` finer than ``stride``, say what a classifier reads at that stride.

    coarse, bias: its weights (classes, channels, 1, 1) and (classes,). images: normalised batches (B, 3, h, w) from
    which BatchNorm is estimated, where the decoder has any. Logits are interpolated, but for the last doubling.
    """
    classes = len(bias)
    end, head = _head(model)
    carriers: list[tuple[Any, int]] = []
    finer: Any = nn.ModuleList(model.layers[layers_down_to(stride) : end])
    for layer in finer:
        if hasattr(layer, "shuf") or isinstance(layer, nn.Sequential):
            enlarging = layer.shuf[0] if hasattr(layer, "shuf") else layer[0]
            kernel = torch.eye(classes, device=coarse.device)[..., None, None] if carriers else coarse
            _carry(enlarging, kernel.repeat_interleave(4, dim=0), 0.0 if carriers else OFFSET)
            carriers.append((enlarging, 4 * classes))
        if hasattr(layer, "shuf"):
            for convolution, shape in ((layer.conv1, TENT), (layer.conv2, SAME)):
                _carry(convolution, _through(classes, shape, coarse.device), 0.0)
                carriers.append((convolution, classes))
        elif hasattr(layer, "convpath"):
            _silence(layer.convpath[-1], classes)
    factor, summand = _way_back(carriers, bias, model, finer, images)
    head.weight[:classes] = 0
    through = _through(classes, TENT, factor.device)  # of a head of single pixels the middle, which is a quarter
    through = through if head.kernel_size == (3, 3) else 4 * through[..., 1:2, 1:2]
    head.weight[:classes, :classes] = factor.view(-1, 1, 1, 1) * through
    head.bias[:classes] = summand


def _head(model: Any) -> tuple[int, Any]:
    """What gives a network's classes, and how many of its layers come before."""
    if isinstance(model, PartialUNet):
        return model.last, model.aside
    place = int(model.classifier.split(".")[1]) if isinstance(model, Network) else CLASSIFIER
    return place, model.layers[place][0]


def _carry(layer: Any, kernel: Tensor, offset: float) -> None:
    """Let the first channels that a convolution gives be those of ``kernel``, which looks at its first channels."""
    count, used, convolution, norm = len(kernel), kernel.shape[1], layer[0], _norm(layer)
    if count > convolution.out_channels:
        raise UsageError(
            f"the network's finer layers, of {convolution.out_channels} channels, are too narrow for so many classes: "
            "leave out stride"
        )
    convolution.weight[:count] = 0
    convolution.weight[:count, :used] = kernel
    if convolution.bias is not None:
        convolution.bias[:count] = offset
    if norm is not None:
        norm.weight[:count], norm.bias[:count] = 1, SPREADS


def _through(classes: int, shape: tuple[float, ...], device: torch.device) -> Tensor:
    kernel = torch.zeros(classes, classes, 3, 3, device=device)
    line = torch.tensor(shape, device=device)
    kernel[range(classes), range(classes)] = line[:, None] * line
    return kernel


def _silence(layer: Any, classes: int) -> None:
    """Let the last layer beside a shortcut add nothing to the classes."""
    for module in layer:
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d)):
            module.weight[:classes] = 0
            if module.bias is not None:
                module.bias[:classes] = 0


def _way_back(
    carriers: Any, bias: Tensor, model: nn.Module, finer: nn.Module, images: Iterable[Tensor]
) -> tuple[Tensor, Tensor]:
    """(factor, summand) by which the classifier makes logits again of what is carried."""
    norm, cells = _norm(carriers[0][0]), slice(0, 4 * len(bias), 4)
    if norm is None:
        return torch.ones_like(bias), bias - OFFSET
    calibrate(model, images, finer)
    for layer, count in carriers[1:]:  # what the first one has normed goes on as it is
        _norm(layer).running_mean[:count], _norm(layer).running_var[:count] = SPREADS, 1 - _norm(layer).eps
    spread = torch.sqrt(norm.running_var[cells] + norm.eps)
    return spread, norm.running_mean[cells] + bias - SPREADS * spread


def _norm(layer: Any) -> Any:
    """The BatchNorm of a layer, or None."""
    return next((module for module in layer if isinstance(module, nn.BatchNorm2d)), None)

"""The same function in fewer steps: a network made ready for inference."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aerialseg.model.encoders import EncoderBlock
from aerialseg.model.unet import UNet


def fold_for_inference(network: UNet, *, channels: int = 1) -> UNet:
    """A copy for inference, in eval mode: BatchNorm is folded into the convolution before it.

    The 99 channels of fastai's last layers are padded with zeros to a multiple of ``channels``, where that suits the
    device. The logits are the same but for rounding (about 1e-6 of their size).
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    for parent, conv, norm in list(_followed_by_norm(network)):
        setattr(parent, conv, fuse_conv_bn_eval(getattr(parent, conv), getattr(parent, norm)))
        setattr(parent, norm, nn.Identity())
    if not network.inexact:  # a norm over channels would see those that are added
        _pad_channels(network, channels)
    return network


def _followed_by_norm(network: nn.Module) -> Iterator[tuple[Any, str, str]]:
    """(module, name of a convolution in it, name of the BatchNorm that follows)."""
    for module in network.modules():
        if isinstance(module, EncoderBlock):
            pairs = [(f"conv{number}", f"bn{number}") for number in range(1, module.convs + 1)]
        elif isinstance(module, nn.Sequential):
            pairs = list(pairwise(name for name, _ in module.named_children()))
        else:
            continue
        for first, second in pairs:
            one, two = getattr(module, first), getattr(module, second)
            if isinstance(one, nn.Conv2d) and isinstance(two, nn.BatchNorm2d):
                yield module, first, second


def _pad_channels(network: UNet, channels: int) -> None:
    """Let the layers at full resolution have a multiple of ``channels``; what is added is zero and stays zero."""
    residual: Any = network.layers[11]
    first, second, last = residual.convpath[0], residual.convpath[1], cast(Any, network.layers[12])
    network.spare = -first[0].in_channels % channels
    more = network.spare
    first[0], second[0] = _widened(first[0], more, more), _widened(second[0], more, more)
    last[0] = _widened(last[0], more, 0)


def _widened(conv: nn.Conv2d, more_in: int, more_out: int) -> nn.Conv2d:
    """The convolution with so many more channels, of zero weights and biases."""
    wide = nn.Conv2d(
        conv.in_channels + more_in,
        conv.out_channels + more_out,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=True,
        dtype=conv.weight.dtype,
    ).requires_grad_(False)
    for parameter in wide.parameters():
        parameter.zero_()
    wide.weight[: conv.out_channels, : conv.in_channels] = conv.weight
    if conv.bias is not None and wide.bias is not None:
        wide.bias[: conv.out_channels] = conv.bias
    return wide

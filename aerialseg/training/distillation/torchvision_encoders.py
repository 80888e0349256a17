"""torchvision's ResNets, filled with the weights of a file, and the features of their stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from aerialseg.errors import ModelError, UsageError
from aerialseg.training.encoder import DEPTHS
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()

from torchvision import models  # noqa: E402

STAGES = ("layer1", "layer2", "layer3", "layer4")


class StageFeatures(nn.Module):
    """The output of each of the four stages of a torchvision ResNet, at strides 4, 8, 16 and 32."""

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


def bare_resnet(arch: str, *, v1: bool = False) -> nn.Module:
    """torchvision's ResNet of that name with random weights; ``v1`` strides where the first paper has them.

    There a bottleneck halves the resolution in its first convolution (He et al. 2015, arXiv 1512.03385), in torchvision
    in its second. Raises UsageError.
    """
    if arch not in DEPTHS:
        raise UsageError(f"encoder.arch is {arch!r}; wanted one of {', '.join(DEPTHS)}")
    network: nn.Module = getattr(models, arch)(weights=None)
    if v1:
        for stage in STAGES[1:]:
            block = getattr(network, stage)[0]
            if not hasattr(block, "conv3"):
                raise UsageError(f"encoder.v1 is set, and {arch} has no bottlenecks whose stride it could move")
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    return network


def is_v1(path: str | Path) -> bool:
    """Whether a file of weights says of itself that it is of a ResNet v1."""
    if Path(path).suffix != ".safetensors":
        return False
    with safe_open(path, "pt") as file:
        return "v1" in (file.metadata() or {}).get("note", "")


def fill_weights(network: nn.Module, state: dict[str, Tensor], path: str | Path) -> nn.Module:
    """The network with the weights of ``state``, read from ``path``. Raises ModelError where they do not fit."""
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelError(f"{path} does not fit: {str(error).splitlines()[-1].strip()}") from error
    lost = [name for name in missing if not name.startswith("fc.") and not name.endswith("num_batches_tracked")]
    if lost or unexpected:
        raise ModelError(f"{path} does not fit: missing {lost[:3]}, unexpected {list(unexpected)[:3]}")
    return network

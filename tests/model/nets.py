"""Random networks whose activations neither fade nor explode, so that every part of them matters to the answer."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aerialseg.legend import LandClass, Legend
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.folders import NETWORK, WEIGHTS
from aerialseg.model.global_layers import SelfAttention
from aerialseg.model.network import Network
from aerialseg.model.networks import build
from aerialseg.model.onnx_writer import network_graph

NARROW = "resnet10-narrow"


def lively_network(encoder: str = NARROW, classes: int = 5, *, seed: int = 0, **options: Any) -> Network:
    """A network in eval mode whose convolutions give values of unit size (layer-wise, on noise)."""
    torch.manual_seed(seed)
    network = build(encoder, classes, **options)
    for module in network.modules():
        if isinstance(module, SelfAttention):
            module.gamma.data.fill_(1.0)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean over the batches seen
    hooks = [m.register_forward_hook(_to_unit_size) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network.train()(smooth_noise(2, 3, 128, 128))
    for hook in hooks:
        hook.remove()
    return network.eval().requires_grad_(False)


def _to_unit_size(module: nn.Module, _: Any, out: Tensor) -> Tensor:
    size = out.std()
    for parameter in module.parameters():
        parameter.data /= size
    return out / size


def smooth_noise(*shape: int, seed: int = 1) -> Tensor:
    """Values around 0 of about unit size, with structure at several scales."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    coarse = torch.randn((*shape[:2], -(-shape[2] // 16), -(-shape[3] // 16)), generator=generator)
    return noise * 0.5 + nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear")


_STORED = tempfile.TemporaryDirectory()


def stored(network: Network) -> Path:
    """A folder with the network's weights, whatever they are, and its network.onnx, until the process ends."""
    folder = Path(tempfile.mkdtemp(dir=_STORED.name))
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, folder / WEIGHTS)
    (folder / NETWORK).write_bytes(network_graph(network, folder / WEIGHTS))
    return folder


def for_runtime(network: Network, runtime: str) -> Network | Path:
    """What a ModelPredictor takes: OpenVINO reads files."""
    return stored(network) if runtime == "openvino" else network


def legend(classes: int = 5) -> Legend:
    return Legend(
        tuple(LandClass(i, f"class-{i}", (i * 40 % 256, 255 - i * 30 % 256, i * 70 % 256)) for i in range(classes))
    )


def card(network: Network, *, encoder: str = NARROW, blur: bool = False, **changes: Any) -> ModelCard:
    values: dict[str, Any] = {
        "name": "test",
        "legend": legend(network.classes),
        "gsd_m": 0.05,
        "exact": not network.inexact,
        "halo": 64 if network.inexact else network.reach.halo,
        "architecture": Architecture(encoder=encoder, blur=blur),
    }
    return ModelCard(**(values | changes))

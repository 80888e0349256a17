"""Weights for other bands than a network was trained on: its first convolution grows by the mean of its kernels.

What an encoder knows of edges and textures in colours holds in infrared, too. The mean of its kernels begins with that;
noise would have to learn it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aerialseg.errors import ModelError


def grow_kernels(kernels: Tensor, given: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """(out, wanted, h, w) of kernels (out, given, h, w): those of a band's own name, for others the mean of all."""
    mean = kernels.mean(dim=1)
    return torch.stack([kernels[:, given.index(name)] if name in given else mean for name in wanted], dim=1)


def fit_bands(
    state: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], given: tuple[str, ...], wanted: tuple[str, ...]
) -> dict[str, Tensor]:
    """The weights of a network over the bands ``given``, for one over the bands ``wanted``; others stay as they are.

    shapes: those of the network wanted, by name. The layers of fastai's decoder that see the image beside its features
    get zeros for the new bands, which so begin without a say. Raises ModelError where there are such layers and the
    wanted bands do not begin with those given.
    """
    if given == wanted:
        return dict(state)
    return {
        name: _fitted(name, tensor, shapes.get(name, tensor.shape), given, wanted) for name, tensor in state.items()
    }


def _fitted(name: str, tensor: Tensor, shape: torch.Size, given: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    channels = (len(given), len(wanted))
    if tensor.ndim == len(shape) == 4 and (tensor.shape[1], shape[1]) == channels:
        return grow_kernels(tensor, given, wanted)
    more = channels[1] - channels[0]
    grown = [new - old for old, new in zip(tensor.shape, shape, strict=False)]
    if not any(grown) or tensor.ndim != len(shape) or not {*grown[:2]} <= {0, more} or any(grown[2:]):
        return tensor
    if wanted[: len(given)] != given:
        raise ModelError(
            f"a model of the bands {', '.join(given)} cannot start one of {', '.join(wanted)}: wanted the same bands "
            "first, and the others after them"
        )
    norm = tensor.ndim == 1 and name.endswith(("weight", "running_var"))
    wide = tensor.new_full(shape, 1.0 if norm else 0.0)
    wide[tuple(slice(length) for length in tensor.shape)] = tensor
    return wide

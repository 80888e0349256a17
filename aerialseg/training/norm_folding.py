"""What is trained otherwise than it is kept: norms of weights, which are folded, and a classifier without a norm."""

from __future__ import annotations

from collections.abc import Container, Mapping

import torch
from torch import Tensor

CLASSIFIER = 12
"""Place of the classifier among the layers of fastai's DynamicUnet."""
_CONV, _NORM = f"layers.{CLASSIFIER}.0.", f"layers.{CLASSIFIER}.1."
_EPS = 1e-5


def fold_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the same network without weight norm and spectral norm, as torch.nn.utils writes them.

    (Salimans & Kingma 2016, arXiv 1602.07868; Miyato et al. 2018, arXiv 1802.05957.)
    """
    plain = {name: tensor for name, tensor in state.items() if not name.endswith(_PARTS)}
    for name, tensor in state.items():
        base = name.removesuffix("_g").removesuffix("_orig")
        if name.endswith("weight_g"):
            direction = state[base + "_v"]
            rest = tuple(range(1, direction.ndim))
            plain[base] = tensor * direction / torch.linalg.vector_norm(direction, dim=rest, keepdim=True)
        elif name.endswith("weight_orig"):
            plain[base] = tensor / torch.dot(state[base + "_u"], tensor.flatten(1) @ state[base + "_v"])
    return plain


def with_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of the same network with a BatchNorm after its classifier, which adds the bias and nothing else."""
    if _CONV + "bias" not in state:
        return dict(state)
    bias = state[_CONV + "bias"]
    norm = {"weight": torch.ones_like(bias), "bias": bias, "running_mean": torch.zeros_like(bias)}
    norm |= {"running_var": torch.full_like(bias, 1 - _EPS), "num_batches_tracked": torch.tensor(0)}
    rest = {name: tensor for name, tensor in state.items() if name != _CONV + "bias"}
    return rest | {_NORM + name: tensor for name, tensor in norm.items()}


def fold_batch_norms(given: Mapping[str, Tensor], wanted: Container[str]) -> dict[str, Tensor]:
    """The state of the same network with each BatchNorm folded into its convolution where ``wanted`` names none.

    A network computes the same with the state that comes out, apart from rounding, as long as it is not trained.
    """
    state = dict(given)
    for name in given:
        base = name.removesuffix(".1.running_var")
        if base == name or name in wanted or f"{base}.0.weight" not in given:
            continue
        weight, bias, mean, var = (given[f"{base}.1.{one}"] for one in _OF_A_NORM)
        scale = weight / torch.sqrt(var + _EPS)
        own = given.get(f"{base}.0.bias", torch.zeros_like(bias))
        state = {key: tensor for key, tensor in state.items() if not key.startswith(f"{base}.1.")}
        state[f"{base}.0.weight"] = given[f"{base}.0.weight"] * scale.view(-1, 1, 1, 1)
        state[f"{base}.0.bias"] = (own - mean) * scale + bias
    return state


_OF_A_NORM = ("weight", "bias", "running_mean", "running_var")
_PARTS = ("weight_g", "weight_v", "weight_orig", "weight_u")

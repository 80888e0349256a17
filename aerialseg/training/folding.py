"""Norms of the weights (not of what flows through them) are folded into the weights once the training is over."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FOLDED = ("weight", "spectral")
"""Of fastai's NormTypes, those that are gone from a finished model."""


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


_PARTS = ("weight_g", "weight_v", "weight_orig", "weight_u")

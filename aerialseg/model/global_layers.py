"""Layers that look at everything at once: a network with one of them cannot be computed tile by tile exactly."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

_AT_ONCE = 2**24
"""Entries of the attention's matrix that are held at a time."""


class SelfAttention(nn.Module):
    """fastai's self-attention, with its spectral norm folded: every cell looks at every other one.

    (Zhang et al. 2019, "Self-attention generative adversarial networks", arXiv 1805.08318.)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Sequential(nn.Conv1d(channels, n_out, 1, bias=False))
            for n_out in (channels // 8, channels // 8, channels)
        )
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        query, key, value = self.query(flat), self.key(flat), self.value(flat)
        # A column of the matrix belongs to one cell of the answer: so many at a time need no more memory than this.
        step = max(1, _AT_ONCE // flat.shape[2])
        seen = [value @ torch.softmax(query.transpose(1, 2) @ part, dim=1) for part in torch.split(key, step, dim=2)]
        out: Tensor = self.gamma * torch.cat(seen, dim=2) + flat
        return out.view_as(x)


class InstanceNorm(nn.InstanceNorm2d):
    """torch's, which refuses a single cell; of that nothing but the shift is left."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):
            return self.bias.view(1, -1, 1, 1).expand_as(x)
        return super().forward(x)


def _group_norm(channels: int) -> nn.Module:
    groups = math.gcd(32, channels)
    return nn.GroupNorm(groups // 2 if groups == channels > 1 else groups, channels)  # one cell is not a statistic


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: nn.Identity(),
    "batch": nn.BatchNorm2d,
    "instance": InstanceNorm,
    "group": _group_norm,
}
"""Norms by the name that a model card gives. The last two take their statistics from the whole image."""

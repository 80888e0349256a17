"""int8: what a network's convolutions are fed with, as ranges found on images, so that integers can stand for it.

Weights are rounded per output channel to 255 steps around zero, inputs per layer to 256 steps between the ends of their
range (post-training quantization as in Krishnamoorthi 2018, arXiv 1806.08342). Ranges are the same wherever a tile
lies, so int8 tiles equal the whole image as others do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from aerialseg.model.card import INT8_STEPS
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.network import Network

Ranges = Mapping[str, tuple[float, float]]
"""(low, high) of the input of each convolution, by the module's name."""


@torch.inference_mode()
def find_ranges(network: Network, images: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """The range of each convolution's input: lowest and highest value, each the mean over the images.

    images: normalised, float32 (1, bands, h, w), like those that the model is to be used on. Their labels are not
    needed.
    """
    folded = fold_for_inference(network)
    met: dict[str, list[tuple[float, float]]] = {}

    def note(name: str) -> Any:
        return lambda _, given: met.setdefault(name, []).append((float(given[0].min()), float(given[0].max())))

    for name, module in folded.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(note(name))
    for image in images:
        folded(image)
    return {
        name: _around_zero(*(sum(ends) / len(ends) for ends in zip(*pairs, strict=True))) for name, pairs in met.items()
    }


def _around_zero(low: float, high: float) -> tuple[float, float]:
    """The range widened to hold zero, and shifted by less than a step so that zero, the padding, is a step itself."""
    low, high = min(low, 0.0), max(high, 1e-6)
    step = (high - low) / INT8_STEPS
    below = round(-low / step)
    return -below * step, (INT8_STEPS - below) * step

"""The NaN probe: what the network says about its own reach, against what was derived from its layers.

NaN spreads through whatever a kernel touches, whatever the weights are. So poison laid around a core shows which
pixels the core's answer depends on. A core of one cell of the lattice holds every phase of a pixel against the
network's strides, so one core stands for all of them; a strip one cell wide is enough to look along one axis, which
makes the probe of a ResNet-34 a matter of a second or two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aerialseg.errors import ModelError
from aerialseg.model.network import Network
from aerialseg.model.tile_crops import STRIDE

_AXES = (2, 3)
_BEYOND = 2 * STRIDE
"""Poisoned pixels at each end. Whatever looks further than the reach meets them within one period of the strides."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the probe found. halo: pixels, a multiple of the stride. tight: one cell of the lattice less is too little.

    image: pixels beyond a core's edge that its answer depends on; the halo is that, rounded up to the lattice.
    """

    halo: int
    image: int
    tight: bool


def probe(network: Network) -> ProbeResult:
    """What ``network`` depends on, once it is certain that nothing beyond its derived reach touches an answer.

    Raises ModelError where poison beyond the reach comes through (naming the layer for a network without a reach), so
    that no tile would be exact.
    """
    reach = network.reach
    for axis in _AXES:
        if touches(network, reach.image, axis):
            raise ModelError(
                f"the answer of this network depends on pixels more than {reach.image} px away, its derived reach: it "
                'cannot be tiled exactly; set "exact" to false in its card and use --tiling approximate'
            )
    tight = any(touches(network, max(0, reach.halo - STRIDE), axis) for axis in _AXES)
    exactly = tight and any(touches(network, reach.image - 1, axis) for axis in _AXES)
    return ProbeResult(reach.halo, reach.image if exactly else reach.halo, tight)


@torch.inference_mode()
def touches(network: Network, margin: int, axis: int) -> bool:
    """Whether anything further than ``margin`` pixels from a cell of the lattice, along ``axis``, decides its answer.

    The network is asked as it is for a whole image, on the CPU in float32.
    """
    core = slice(start := (margin // STRIDE + 1) * STRIDE + _BEYOND, start + STRIDE)
    strip = torch.zeros(1, network.bands, STRIDE, core.stop + start)
    strip[..., : core.start - margin] = torch.nan
    strip[..., core.stop + margin :] = torch.nan
    answer: Tensor = network(strip if axis == 3 else strip.mT.contiguous())
    seen = answer if axis == 3 else answer.mT
    return not bool(torch.isfinite(seen[..., core]).all())

"""The work of exact tiles: operations per pixel of the answer, counted by torch itself on a network without numbers."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from aerialseg.model.network import Network
from aerialseg.model.tile_crops import STRIDE
from aerialseg.raster.grid import Box


def operations_per_pixel(network: Network) -> float:
    """Multiplications per pixel of a whole image, computed at once."""
    whole = Box(0, 0, 8 * STRIDE, 8 * STRIDE)
    return _flops(network, whole, whole) / whole.area / 2  # torch counts an addition with each


def work_per_pixel(network: Network, core_px: int, halo: int | None = None) -> float:
    """Operations per output pixel of a tile in the middle of a raster, against those of the whole image at once.

    core_px: side of the tile's core, a multiple of 32. halo: pixels around it, the network's own reach unless told.
    Counts multiplications of convolutions (and of attention), as torch's FLOP counter does; takes well under a second.
    """
    halo = network.reach.halo if halo is None else halo
    core = Box(halo, halo, halo + core_px, halo + core_px)
    window = Box(0, 0, core_px + 2 * halo, core_px + 2 * halo)
    return _flops(network, window, core) / 2 / core.area / operations_per_pixel(network)


def _flops(network: Network, window: Box, core: Box) -> int:
    image = torch.empty(1, network.bands, *window.shape, device="meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        _on_meta(network).forward_tile(image, window, core)
    return int(counter.get_total_flops())


def _on_meta(network: Network) -> Network:
    if next(network.parameters()).device.type == "meta":
        return network
    import copy

    with torch.device("meta"):
        return copy.deepcopy(network).to("meta")

"""The steps of one tile, as torch.fx sees them: the one definition of the network, for other runtimes to follow."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from aerialseg.model.network import Network, TilePass
from aerialseg.raster.grid import Box


def trace_network(network: Network, window: Box, core: Box) -> fx.Graph:
    """The steps of a tile of an exact network. Each crop is a ``getitem``; all else is the same for every tile."""
    return _Tracer().trace(_Tile(network, window, core))


class _Tile(nn.Module):
    def __init__(self, network: Network, window: Box, core: Box) -> None:
        super().__init__()
        self.network, self.window, self.core = network, window, core

    def forward(self, x: Tensor) -> Tensor:
        return TilePass(self.network, self.window, self.core).run(x)


class _Tracer(fx.Tracer):
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """As the base class does, but what is not a leaf need not have a name (a slice of a Sequential has none)."""
        return super().call_module(m, forward, args, kwargs) if self.is_leaf_module(m, "") else forward(*args, **kwargs)

"""How far the network looks, derived from its own kernels, strides and paddings.

A margin is a number of cells, at some stride, around a core whose edges are multiples of the network's stride. Going
backwards through a layer, ``m`` cells of its output need ``stride * m + rim`` cells of its input, where ``rim`` is what
the kernel reaches over on that side. (Araujo et al. 2019, "Computing receptive fields of convolutional neural
networks", 10.23915/distill.00021; Majurski & Bajcsy 2021, 10.6028/jres.126.009.) probe.py checks what comes out of this
against the network itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Branching(Protocol):
    """A module whose output is a cell-wise function of several branches that start from the same input."""

    def branches(self) -> Iterable[nn.Module]: ...


class Composed(nn.Module):
    """A module that looks no further than its parts, one after the other, do: the base of the networks' modules."""


class Margin(NamedTuple):
    """Cells beyond the core towards its upper left and its lower right; stride-2 kernels reach further up and left."""

    low: int
    high: int

    @property
    def cells(self) -> int:
        """The same number on all sides."""
        return max(self)


def margin_before(module: nn.Module, margin: Margin) -> Margin:
    """Cells of the input of ``module`` for ``margin`` cells of its output. Raises TypeError for an unknown module."""
    if isinstance(module, nn.Sequential):
        for layer in reversed(module):
            margin = margin_before(layer, margin)
        return margin
    if isinstance(module, Branching):
        return widest(margin_before(branch, margin) for branch in module.branches())
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return _before_kernel(module, margin)
    if isinstance(module, nn.PixelShuffle):
        return Margin(*(-(-side // module.upscale_factor) for side in margin))
    if isinstance(module, nn.UpsamplingNearest2d):
        return Margin(*(-(-side // _first(module.scale_factor)) for side in margin))
    if isinstance(module, nn.ReplicationPad2d):
        return Margin(margin.low + module.padding[0], margin.high - module.padding[0])  # moves every cell
    if isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.Identity):
        return margin
    raise TypeError(f"the reach of {type(module).__name__} is not known: the model cannot be exact")


def widest(margins: Iterable[Margin]) -> Margin:
    """What suffices for all of them."""
    low, high = zip(*margins, strict=True)
    return Margin(max(low), max(high))


_LOCAL = (
    *(nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.PixelShuffle, nn.ReplicationPad2d),
    nn.UpsamplingNearest2d,
    *(nn.BatchNorm2d, nn.ReLU, nn.Identity),
)


def unbounded_layers(module: nn.Module, name: str = "") -> Iterator[str]:
    """The layers whose reach is not known or has no bound, as "name (type)", in the order of the network."""
    if isinstance(module, nn.Sequential | nn.ModuleList | Composed):
        for part, child in module.named_children():
            yield from unbounded_layers(child, f"{name}.{part}" if name else part)
    elif not isinstance(module, _LOCAL):
        yield f"{name} ({type(module).__name__})"


def _before_kernel(module: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, margin: Margin) -> Margin:
    kernel, stride, padding, dilation = (
        _first(value) for value in (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    )
    span = dilation * (kernel - 1)
    return Margin(stride * margin.low + padding, stride * margin.high + span - padding - (stride - 1))


def _first(value: object) -> int:
    number = value[0] if isinstance(value, tuple) else value
    number = int(number) if isinstance(number, float) and number.is_integer() else number
    if not isinstance(number, int):
        raise TypeError(f"{value!r} is not a number of cells: the reach is not known")
    return number

"""The exact-tile network on OpenVINO: on a CPU faster than torch, and in bf16 where the processor has that.

The steps are those of the torch network (trace.py), so there is one definition of it. Where it crops its feature maps
this graph crops by numbers that come in beside the pixels: one compiled graph serves tiles of any shape. Normalisation,
softmax, argmax and confidence are part of the graph: uint8 goes in and uint8 comes out.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as op
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from aerialseg.errors import ModelError, ResourceError
from aerialseg.files import one_line
from aerialseg.model.card import ModelCard
from aerialseg.model.cpu import has_bf16, multiplies_int8
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.fx_trace import find_crops, trace_network
from aerialseg.model.groups import members_of
from aerialseg.model.int8_ranges import STEPS, Ranges
from aerialseg.model.interface import NOT_FINITE
from aerialseg.model.network import STRIDE, Network
from aerialseg.raster.grid import Box

Node = Any
"""A value in an OpenVINO graph (its bindings are not typed)."""

_NEVER = -1e30


class OpenVinoNetwork:
    """An exact network compiled for this machine's processor, for labels or for logits. One call at a time."""

    def __init__(self, network: Network, card: ModelCard, precision: str, *, logits: bool = False) -> None:
        self._network = fold_for_inference(network)
        _check_finite(self._network, card)
        model = build_graph(self._network, card, int8=precision == "int8", logits=logits)
        bf16 = precision == "bf16" or (precision == "int8" and has_bf16())  # what int8 leaves over
        config = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = ov.Core().compile_model(model, "CPU", config)
        except RuntimeError as error:
            raise ResourceError(
                f"OpenVINO cannot compile the model here: {one_line(error)}; free memory, or say --runtime torch"
            ) from error
        self._request = self._compiled.create_infer_request()
        self._network.to("meta")  # the graph has the weights; the torch network still tells where to crop

    def labels(self, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box) -> NDArray[np.uint8]:
        """uint8 (B, 2, h', w') of the core, class and per cent, for uint8 (B, C, h, w) and bool (B, h, w)."""
        return self._infer(pixels, valid, window, core)

    def logits(
        self, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box
    ) -> NDArray[np.float32]:
        """float32 (B, classes, h', w') of the core, from a graph that was made for them."""
        return self._infer(pixels, valid, window, core)

    def _infer(self, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box) -> NDArray[Any]:
        crops = find_crops(self._network, window, core)
        found = self._request.infer([pixels, valid[:, None].view(np.uint8), crops], share_inputs=True)
        return np.array(found[0])

    def release(self) -> None:
        """Give the memory of the last tile back; the next one takes it again."""
        self._compiled.release_memory()


def _check_finite(network: Network, card: ModelCard) -> None:
    """Raise ModelError where torch's network is not finite on noise: OpenVINO's ReLU makes 0 of NaN, and hides it."""
    box = Box(0, 0, 2 * STRIDE, 2 * STRIDE)
    levels = torch.randint(0, 2, (1, len(card.bands), *box.shape), generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (card.mean, card.std))
    with torch.inference_mode():
        if not network.forward_tile((levels - mean) / std, box, box).isfinite().all():
            raise ModelError(
                f"the model {card.name!r} computes NaN or infinity from black and white pixels: its weights are not "
                "those it was trained with; fetch or export it again"
            )


def build_graph(network: Network, card: ModelCard, *, int8: bool = False, logits: bool = False) -> ov.Model:
    """Inputs: uint8 pixels (B, C, h, w), uint8 valid (B, 1, h, w), int64 crops as ``find_crops`` gives them.

    Output: uint8 (B, 2, h', w'), class and confidence per cent (`NOT_FINITE` where a logit is not); or ``logits``,
    float32 (B, classes, h', w'). int8: the convolutions compute in 8-bit integers, by the ranges in the card.
    ModelError where one is missing.
    """
    pixels = op.parameter([-1, len(card.bands), -1, -1], np.uint8)
    valid = op.parameter([-1, 1, -1, -1], np.uint8)
    crops = op.parameter([-1, 2, 2], np.int64)
    ranges = card.ranges if int8 else None
    answer = _grouped(_Translation(network, crops, ranges).run(_normalised(pixels, valid, card)), card)
    out = op.convert(answer, "f32") if logits else _labels(answer, card)
    return ov.Model([out], [pixels, valid, crops])


def _normalised(pixels: Node, valid: Node, card: ModelCard) -> Node:
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (card.mean, card.std))
    image = op.subtract(op.multiply(op.convert(pixels, "f32"), _constant(1 / (255 * std))), _constant(mean / std))
    return op.multiply(image, op.convert(valid, "f32"))


def _grouped(logits: Node, card: ModelCard) -> Node:
    """As `group_logits` of groups.py; OpenVINO has no operation for the logarithm of a sum of exponentials."""
    if not card.groups:
        return logits
    scaled = op.divide(op.convert(logits, "f32"), _constant(np.float32(card.temperature)))
    channel, parts = _constant(np.array([1], np.int64)), []
    for members in members_of(card):
        some = op.gather(scaled, _constant(np.array(members, np.int64)), _constant(np.int64(1)))
        best = op.reduce_max(some, channel, True)
        total = op.reduce_sum(op.exp(op.subtract(some, best)), channel, True)
        parts.append(op.add(op.log(total), best))
    return op.multiply(op.concat(parts, 1), _constant(np.float32(card.temperature)))


def _labels(logits: Node, card: ModelCard) -> Node:
    never = np.zeros((1, len(card.legend), 1, 1), np.float32)
    never[:, list(card.void)] = _NEVER
    logits = op.convert(logits, "f32")
    finite = op.is_finite(op.reduce_sum(logits, _constant(np.array([1], np.int64)), True))
    logits = op.add(logits, _constant(never))
    best = op.topk(logits, _constant(np.int64(1)), 1, "max", "none", index_element_type="i32")
    below = op.subtract(logits, best.output(0))
    if card.temperature != 1.0:
        below = op.multiply(below, _constant(np.float32(1 / card.temperature)))
    total = op.reduce_sum(op.exp(below), _constant(np.array([1], np.int64)), True)
    percent = op.round(op.divide(_constant(np.float32(100)), total), "half_to_even")
    percent = op.select(finite, percent, _constant(np.float32(NOT_FINITE)))
    return op.concat([op.convert(best.output(1), "u8"), op.convert(percent, "u8")], 1)


def _constant(values: Any) -> Node:
    return op.constant(np.asarray(values))


class _Translation:
    """Torch's steps as OpenVINO's, one by one."""

    def __init__(self, network: Network, crops: Node, ranges: Ranges | None = None) -> None:
        self._network, self._crops, self._cropped, self._ranges = network, crops, 0, ranges

    def run(self, image: Node) -> Node:
        window = Box(0, 0, STRIDE, STRIDE)
        values: dict[fx.Node, Node] = {}
        for step in trace_network(self._network, window, window).nodes:
            if step.op == "placeholder":
                values[step] = image
            elif step.op == "output":
                return values[step.args[0]]
            else:
                values[step] = self._translate(step, values)
        raise AssertionError("a traced network has no output")

    def _translate(self, step: fx.Node, values: dict[fx.Node, Node]) -> Node:
        if step.op == "call_module":
            name, given = str(step.target).removeprefix("network."), values[step.args[0]]  # type: ignore[index]
            module = self._network.get_submodule(name)
            if isinstance(module, nn.Conv2d) and self._ranges is not None:
                return _conv(module, _rounded(given, name, self._ranges), int8=True)
            return _MODULES[type(module)](module, given)
        if step.target is operator.getitem:
            return self._crop(values[step.args[0]])  # type: ignore[index]
        given = fx.node.map_arg(step.args, lambda node: values[node])
        return _FUNCTIONS[step.target](*given)

    def _crop(self, x: Node) -> Node:
        bounds = op.gather(self._crops, _constant(np.int64(self._cropped)), _constant(np.int64(0)))
        start, stop = (op.gather(bounds, _constant(np.int64(end)), _constant(np.int64(0))) for end in (0, 1))
        self._cropped += 1
        return op.slice(x, start, stop, _constant(np.array([1, 1])), _constant(np.array([2, 3])))


def _conv(module: nn.Conv2d, x: Node, *, int8: bool = False) -> Node:
    pad, weight, convolve = list(module.padding), module.weight.numpy(), op.convolution
    kernel = _rounded_kernel(weight) if int8 else _constant(weight)
    if module.groups > 1:
        shape = _constant(np.array([module.groups, len(weight) // module.groups, *weight.shape[1:]]))
        kernel, convolve = op.reshape(kernel, shape, False), op.group_convolution
    out = convolve(x, kernel, list(module.stride), pad, pad, list(module.dilation))
    return out if module.bias is None else op.add(out, _per_channel(module.bias))


def _rounded(x: Node, name: str, ranges: Ranges) -> Node:
    """x in 256 steps: OpenVINO makes integers of it where the processor multiplies them right.

    Elsewhere it would add products in 16 bits, which overflow without a word: there the same steps are taken in floats.
    """
    if name not in ranges:
        raise ModelError(
            f"the card has no int8 range for {name}: run 'aerialseg quantize' again, or use --precision fp32"
        )
    low, high = (np.full((1, 1, 1, 1), end, np.float32) for end in ranges[name])
    if multiplies_int8():
        ends = _constant(low), _constant(high)
        return op.fake_quantize(x, *ends, *ends, STEPS + 1)
    step = (high - low) / np.float32(STEPS)
    steps = op.round(op.multiply(x, _constant(1 / step)), "half_to_even")
    below, above = (float(np.round(end / step).item()) for end in (low, high))
    return op.multiply(op.clamp(steps, below, above), _constant(step))


def _rounded_kernel(weight: NDArray[np.float32]) -> Node:
    """The kernels in 255 steps around zero, as wide for each output channel as that needs."""
    most = np.maximum(np.abs(weight).reshape(len(weight), -1).max(axis=1), 1e-8).reshape(-1, 1, 1, 1)
    if multiplies_int8():
        ends = _constant(-most), _constant(most)
        return op.fake_quantize(_constant(weight), *ends, *ends, STEPS)
    step = most / np.float32(STEPS // 2)
    return _constant((np.round(weight / step) * step).astype(np.float32))


def _affine(module: nn.BatchNorm2d, x: Node) -> Node:
    """What is left of a BatchNorm that follows no convolution."""
    assert module.running_mean is not None
    assert module.running_var is not None
    scale = module.weight * torch.rsqrt(module.running_var + module.eps)
    return op.add(op.multiply(x, _per_channel(scale)), _per_channel(module.bias - module.running_mean * scale))


def _per_channel(values: Tensor) -> Node:
    return _constant(values.detach().numpy().reshape(1, -1, 1, 1))


def _max_pool(module: nn.MaxPool2d, x: Node) -> Node:
    kernel, stride, pad = ([int(value)] * 2 for value in (module.kernel_size, module.stride, module.padding))  # type: ignore[arg-type]
    return op.max_pool(x, stride, [1, 1], pad, pad, kernel).output(0)


def _average_pool(module: nn.AvgPool2d, x: Node) -> Node:
    kernel, stride = ([int(value)] * 2 for value in (module.kernel_size, module.stride))  # type: ignore[arg-type]
    return op.avg_pool(x, stride, [0, 0], [0, 0], kernel, exclude_pad=False)


def _nearest(module: nn.UpsamplingNearest2d, x: Node) -> Node:
    scales = _constant(np.array([module.scale_factor] * 2, np.float32))
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return op.interpolate(x, scales, "nearest", "scales", axes=_constant(np.array([2, 3])), **how)


def _repeat_edge(module: nn.ReplicationPad2d, x: Node) -> Node:
    left, right, top, bottom = module.padding
    return op.pad(x, _constant(np.array([0, 0, top, left])), _constant(np.array([0, 0, bottom, right])), "edge")


def _pad(x: Node, padding: tuple[int, ...]) -> Node:
    """torch's order: pairs (before, after) from the last dimension backwards."""
    pairs = [(0, 0)] * (4 - len(padding) // 2) + list(zip(padding[::2], padding[1::2], strict=True))[::-1]
    before, after = (_constant(np.array(side)) for side in zip(*pairs, strict=True))
    return op.pad(x, before, after, "constant", _constant(np.float32(0)))


_MODULES: dict[type[nn.Module], Callable[[Any, Node], Node]] = {
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _affine,
    nn.ReLU: lambda _, x: op.relu(x),
    nn.Identity: lambda _, x: x,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.PixelShuffle: lambda module, x: op.depth_to_space(x, "depth_first", module.upscale_factor),
    nn.ReplicationPad2d: _repeat_edge,
    nn.UpsamplingNearest2d: _nearest,
}
_FUNCTIONS: dict[Any, Callable[..., Node]] = {
    F.relu: op.relu,
    F.pad: _pad,
    torch.cat: lambda parts: op.concat(list(parts), 1),
    operator.add: op.add,
}

"""The exact network on OpenVINO, out of ``network.onnx``: on a CPU faster than torch, which it does without.

The file gives logits for normalised images; what lies before and behind is added here, from the card: uint8 goes in and
uint8 comes out, or logits. Crops come in as numbers beside the pixels: one compiled graph serves tiles of any shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import openvino.opset13 as op
from numpy.typing import NDArray

from aerialseg.errors import AerialsegError, ModelError, ResourceError
from aerialseg.files import one_line
from aerialseg.model.card import INT8_STEPS, ModelCard
from aerialseg.model.cpu import cpu_threads, has_bf16, multiplies_int8
from aerialseg.model.folders import NETWORK
from aerialseg.model.groups import members_of
from aerialseg.model.interface import NOT_FINITE
from aerialseg.model.tile_crops import STRIDE, Reach, find_crops
from aerialseg.raster.grid import Box

Node = Any
"""A value in an OpenVINO graph (its bindings are not typed)."""

LABELS, LOGITS, PROBABILITIES = "labels", "logits", "probabilities"
"""What a graph can give."""
_NEVER = -1e30
_CONVOLUTIONS = ("Convolution", "GroupConvolution")


class OpenVinoNetwork:
    """An exact network compiled for this machine's processor. One call at a time.

    folder: with ``network.onnx`` and the weights that it points into. Raises ModelError, ResourceError.
    """

    def __init__(self, folder: Path, card: ModelCard, precision: str, *, output: str = LABELS) -> None:
        network, self._reach = read_network(folder)
        _check_finite(network.clone(), self._reach, card)
        bf16 = precision == "bf16" or (precision == "int8" and has_bf16())  # what int8 leaves over
        graph = build_graph(network, card, int8=precision == "int8", output=output)
        self._compiled = _compile(graph, "bf16" if bf16 else "f32")
        self._request = self._compiled.create_infer_request()

    def answer(self, pixels: NDArray[np.uint8], valid: NDArray[np.bool_], window: Box, core: Box) -> NDArray[Any]:
        """What the graph gives of the core (see `build_graph`), for uint8 (B, C, h, w) and bool (B, h, w)."""
        crops = find_crops(self._reach, window, core)
        found = self._request.infer([pixels, valid[:, None].view(np.uint8), crops], share_inputs=True)
        return np.array(found[0])

    def release(self) -> None:
        """Give the memory of the last tile back; the next one takes it again."""
        self._compiled.release_memory()


def read_network(folder: Path) -> tuple[ov.Model, Reach]:
    """The graph of ``network.onnx``, and how far it looks. Raises ModelError.

    OpenVINO itself refuses external data outside the folder.
    """
    path = (folder / NETWORK).resolve()
    try:
        network = ov.Core().read_model(path)
        reach = Reach.from_json(json.loads(network.get_rt_info(["framework", "reach"]).astype(str)))
        _named(network, "image"), _named(network, "crops")
    except (RuntimeError, KeyError, ValueError, AerialsegError) as error:
        raise ModelError(
            f"{folder / NETWORK} cannot be used ({one_line(error)}): 'aerialseg model update {folder}' writes it anew"
        ) from error
    return network, reach


def _named(network: ov.Model, name: str) -> Node:
    """The input of that name, as what it gives to the graph."""
    return network.input(name).get_node().output(0)


def _compile(graph: ov.Model, hint: str) -> Any:
    config = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": cpu_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        return ov.Core().compile_model(graph, "CPU", config)
    except RuntimeError as error:
        raise ResourceError(
            f"OpenVINO cannot compile the model here: {one_line(error)}; free memory, or say --runtime torch"
        ) from error


def _check_finite(network: ov.Model, reach: Reach, card: ModelCard) -> None:
    """Raise ModelError where a layer is not finite on noise: OpenVINO's ReLU makes 0 of NaN, and hides it.

    The graph, which changes, is asked whether each layer's output is finite, before any ReLU.
    """
    layers = [node for node in network.get_ops() if node.get_type_name() in (*_CONVOLUTIONS, "BatchNormInference")]
    finite = [op.reduce_logical_and(op.is_finite(layer), _constant(np.arange(4))) for layer in layers]
    checked = _compile(ov.Model(finite, network.get_parameters()), "f32")
    box = Box(0, 0, 2 * STRIDE, 2 * STRIDE)
    levels = np.random.default_rng(0).integers(0, 2, (1, len(card.bands), *box.shape))
    mean, std = (np.array(values).reshape(-1, 1, 1) for values in (card.mean, card.std))
    with np.errstate(over="ignore"):
        image = ((levels - mean) / std).astype(np.float32)
    found = checked({"image": image, "crops": find_crops(reach, box, box)})
    if not all(bool(value) for value in found.values()):
        raise ModelError(
            f"the model {card.name!r} computes NaN or infinity from black and white pixels: its weights are not those "
            "it was trained with; fetch or export it again"
        )


def build_graph(network: ov.Model, card: ModelCard, *, int8: bool = False, output: str = LABELS) -> ov.Model:
    """Inputs: uint8 pixels (B, C, h, w), uint8 valid (B, 1, h, w), int64 crops as ``find_crops`` gives them.

    output: LABELS, uint8 (B, 2, h', w'), class and confidence per cent (`NOT_FINITE` where a logit is not); LOGITS or
    PROBABILITIES, float32 (B, classes, h', w'). int8: the convolutions compute in 8-bit integers, by the ranges in the
    card. ``network`` is used up. ModelError where a range is missing.
    """
    pixels = op.parameter([-1, len(card.bands), -1, -1], np.uint8)
    valid = op.parameter([-1, 1, -1, -1], np.uint8)
    crops = network.input("crops").get_node()
    if int8:
        for node in network.get_ordered_ops():
            if node.get_type_name() in _CONVOLUTIONS:
                _round_inputs(node, card)
    image = _normalised(pixels, valid, card).output(0)
    for target in _named(network, "image").get_target_inputs():
        target.replace_source_output(image)
    logits = _grouped(op.convert(network.get_results()[0].input_value(0), "f32"), card)
    out = logits if output == LOGITS else _probabilities(logits, card)
    return ov.Model([_labels(logits, card) if output == LABELS else out], [pixels, valid, crops])


def _normalised(pixels: Node, valid: Node, card: ModelCard) -> Node:
    mean, std = (np.array(values, np.float32).reshape(1, -1, 1, 1) for values in (card.mean, card.std))
    image = op.subtract(op.multiply(op.convert(pixels, "f32"), _constant(1 / (255 * std))), _constant(mean / std))
    return op.multiply(image, op.convert(valid, "f32"))


def _grouped(logits: Node, card: ModelCard) -> Node:
    """As `group_logits` of groups.py; OpenVINO has no operation for the logarithm of a sum of exponentials."""
    if not card.groups:
        return logits
    scaled = op.divide(logits, _constant(np.float32(card.temperature)))
    channel, parts = _constant(np.array([1], np.int64)), []
    for members in members_of(card):
        some = op.gather(scaled, _constant(np.array(members, np.int64)), _constant(np.int64(1)))
        best = op.reduce_max(some, channel, True)
        total = op.reduce_sum(op.exp(op.subtract(some, best)), channel, True)
        parts.append(op.add(op.log(total), best))
    return op.multiply(op.concat(parts, 1), _constant(np.float32(card.temperature)))


def _without_void(logits: Node, card: ModelCard) -> Node:
    never = np.zeros((1, len(card.legend), 1, 1), np.float32)
    never[:, list(card.void)] = _NEVER
    return op.add(logits, _constant(never))


def _probabilities(logits: Node, card: ModelCard) -> Node:
    return op.softmax(op.multiply(_without_void(logits, card), _constant(np.float32(1 / card.temperature))), 1)


def _labels(logits: Node, card: ModelCard) -> Node:
    finite = op.is_finite(op.reduce_sum(logits, _constant(np.array([1], np.int64)), True))
    logits = _without_void(logits, card)
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


def _round_inputs(node: Node, card: ModelCard) -> None:
    """Let a convolution see its input and its kernels in the steps of int8, unless the card leaves it out."""
    name = node.get_friendly_name().removesuffix("/WithoutBiases").partition("#")[0]  # used again: onnx_writer.py
    if name in card.quantization.get("not_int8", ()):
        return
    node.input(0).replace_source_output(_rounded(node.input_value(0), name, card.ranges).output(0))
    node.input(1).replace_source_output(_rounded_kernel(_values(node.input_value(1))).output(0))


def _values(output: Node) -> NDArray[np.float32]:
    """The numbers of a kernel: a constant that is widened to float32 and, with groups, has another shape."""
    node = output.get_node()
    values = node.data if node.get_type_name() == "Constant" else _values(node.input_value(0))
    return np.asarray(values, np.float32).reshape(list(output.get_shape()))


def _rounded(x: Node, name: str, ranges: Mapping[str, tuple[float, float]]) -> Node:
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
        return op.fake_quantize(x, *ends, *ends, INT8_STEPS + 1)
    step = (high - low) / np.float32(INT8_STEPS)
    steps = op.round(op.multiply(x, _constant(1 / step)), "half_to_even")
    below, above = (float(np.round(end / step).item()) for end in (low, high))
    return op.multiply(op.clamp(steps, below, above), _constant(step))


def _rounded_kernel(weight: NDArray[np.float32]) -> Node:
    """The kernels in 255 steps around zero, as wide for each output channel as that needs."""
    most = np.maximum(np.abs(weight).max(axis=(-3, -2, -1), keepdims=True), 1e-8)
    if multiplies_int8():
        ends = _constant(-most), _constant(most)
        return op.fake_quantize(_constant(weight), *ends, *ends, INT8_STEPS)
    step = most / np.float32(INT8_STEPS // 2)
    return _constant((np.round(weight / step) * step).astype(np.float32))

"""The exact network as ``network.onnx``: a graph without weights, which lie beside it in ``weights.safetensors``.

It takes normalised images, float32 (batch, bands, height, width), and the crops of a tile (tile_crops.py), and gives
the logits of the tile's core. Its external data (ONNX: "External Data") points into the safetensors file by offset, so
nothing is stored twice. The steps are those of the torch network (fx_trace.py): there is one definition of it.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import fx, nn

from aerialseg._version import __version__
from aerialseg.errors import UsageError
from aerialseg.model.folders import WEIGHTS
from aerialseg.model.fx_trace import trace_network
from aerialseg.model.network import Network
from aerialseg.model.tile_crops import STRIDE
from aerialseg.model.weights_file import StoredTensor, read_header
from aerialseg.raster.grid import Box

OPSET, IR_VERSION = 17, 8
IMAGE, CROPS, LOGITS, REACH = "image", "crops", "logits", "reach"
"""Names in the file: its inputs, its output, and the metadata that says how crops are found."""


def network_graph(network: Network, weights: Path) -> bytes:
    """The bytes of ``network.onnx`` for an exact network whose weights are stored in that file, by their names.

    Raises UsageError where the package onnx is missing.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise UsageError("models are saved with onnx: pip install 'aerialseg[train]'") from error
    writer = _Writer(onnx, network, read_header(weights))
    output, crops = writer.run(), writer.cropped
    shapes = {
        IMAGE: (onnx.TensorProto.FLOAT, ["batch", network.bands, "height", "width"]),
        CROPS: (onnx.TensorProto.INT64, [crops, 2, 2]),
        output: (onnx.TensorProto.FLOAT, ["batch", network.classes, "rows", "columns"]),
    }
    image, crop, logits = (onnx.helper.make_tensor_value_info(name, *shape) for name, shape in shapes.items())
    graph = onnx.helper.make_graph(writer.nodes, "network", [image, crop], [logits], writer.initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "aerialseg", __version__
    onnx.helper.set_model_props(model, {REACH: json.dumps(network.reach.to_json())})
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Torch's steps as ONNX's, one by one."""

    def __init__(self, onnx: Any, network: Network, stored: dict[str, StoredTensor]) -> None:
        self._onnx, self._network, self._stored = onnx, network, stored
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.cropped = 0
        self._used: dict[str, int] = {}
        self._floats: dict[str, str] = {}

    def run(self) -> str:
        """The name of the output, once all steps are written."""
        window = Box(0, 0, STRIDE, STRIDE)
        values: dict[fx.Node, str] = {}
        for step in trace_network(self._network, window, window).nodes:
            if step.op == "placeholder":
                values[step] = IMAGE
            elif step.op == "output":
                self.nodes[-1].output[0] = LOGITS
                return LOGITS
            else:
                values[step] = self._translate(step, values)
        raise AssertionError("a traced network has no output")

    def _translate(self, step: fx.Node, values: dict[fx.Node, str]) -> str:
        if step.op == "call_module":
            name = str(step.target).removeprefix("network.")
            module = self._network.get_submodule(name)
            return _MODULES[type(module)](self, module, name, values[step.args[0]])  # type: ignore[index]
        if step.target is operator.getitem:
            return self._crop(values[step.args[0]])  # type: ignore[index]
        given: Any = fx.node.map_arg(step.args, lambda node: values[node])
        return _FUNCTIONS[step.target](self, step.name, *given)

    def add(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """The name of the output of one more node, the node's own, with a number for a layer used again."""
        self._used[name] = self._used.get(name, 0) + 1
        name = f"{name}#{self._used[name]}" if self._used[name] > 1 else name
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self.initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the safetensors file, as float32."""
        if name not in self._floats:
            tensor, kinds = self._stored[name], self._onnx.TensorProto
            kind = {"F16": kinds.FLOAT16, "F32": kinds.FLOAT, "BF16": kinds.BFLOAT16, "F64": kinds.DOUBLE}[tensor.dtype]
            made = kinds(name=name, data_type=kind, dims=tensor.shape, data_location=kinds.EXTERNAL)
            for key, value in (("location", WEIGHTS), ("offset", tensor.offset), ("length", tensor.length)):
                made.external_data.add(key=key, value=str(value))
            self.initializers.append(made)
            widened = name if tensor.dtype == "F32" else self.add("Cast", f"{name}.float32", [name], to=kinds.FLOAT)
            self._floats[name] = widened
        return self._floats[name]

    def _crop(self, x: str) -> str:
        name = f"crop{self.cropped}"
        self.once("axes", np.array([2, 3]))
        which = self.constant(f"{name}.number", np.array(self.cropped))
        bounds = self.add("Gather", f"{name}.bounds", [CROPS, which], axis=0)
        ends = [
            self.add("Gather", f"{name}.{end}", [bounds, self.once(end, np.array(number))], axis=0)
            for number, end in enumerate(("start", "stop"))
        ]
        self.cropped += 1
        return self.add("Slice", name, [x, *ends, "axes"])

    def once(self, name: str, values: NDArray[Any]) -> str:
        """A constant that several nodes share."""
        known = any(one.name == name for one in self.initializers)
        return name if known else self.constant(name, values)


def _conv(writer: _Writer, module: nn.Conv2d, name: str, x: str) -> str:
    weights = [writer.weight(f"{name}.{kind}") for kind in ("weight", "bias") if getattr(module, kind) is not None]
    pads = [*module.padding, *module.padding]
    steps = {"strides": list(module.stride), "dilations": list(module.dilation), "group": module.groups}
    return writer.add("Conv", name, [x, *weights], kernel_shape=list(module.kernel_size), pads=pads, **steps)


def _batch_norm(writer: _Writer, module: nn.BatchNorm2d, name: str, x: str) -> str:
    weights = [writer.weight(f"{name}.{kind}") for kind in ("weight", "bias", "running_mean", "running_var")]
    return writer.add("BatchNormalization", name, [x, *weights], epsilon=module.eps)


def _pool(kind: str) -> Callable[..., str]:
    def add(writer: _Writer, module: nn.MaxPool2d | nn.AvgPool2d, name: str, x: str) -> str:
        kernel, stride = ([int(value)] * 2 for value in (module.kernel_size, module.stride))  # type: ignore[arg-type]
        return writer.add(kind, name, [x], kernel_shape=kernel, strides=stride, pads=[int(module.padding)] * 4)  # type: ignore[arg-type]

    return add


def _repeat_edge(writer: _Writer, module: nn.ReplicationPad2d, name: str, x: str) -> str:
    left, right, top, bottom = module.padding
    pads = writer.once(f"{name}.pads", np.array([0, 0, top, left, 0, 0, bottom, right]))
    return writer.add("Pad", name, [x, pads], mode="edge")


def _nearest(writer: _Writer, module: nn.UpsamplingNearest2d, name: str, x: str) -> str:
    scales = writer.once(f"{name}.scales", np.array([1, 1, *[module.scale_factor] * 2], np.float32))
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return writer.add("Resize", name, [x, "", scales], **how)


def _shuffle(writer: _Writer, module: nn.PixelShuffle, name: str, x: str) -> str:
    return writer.add("DepthToSpace", name, [x], blocksize=module.upscale_factor, mode="CRD")


_MODULES: dict[type[nn.Module], Callable[[_Writer, Any, str, str], str]] = {
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda writer, _, name, x: writer.add("Relu", name, [x]),
    nn.Identity: lambda *given: given[-1],
    nn.MaxPool2d: _pool("MaxPool"),
    nn.AvgPool2d: _pool("AveragePool"),
    nn.PixelShuffle: _shuffle,
    nn.ReplicationPad2d: _repeat_edge,
    nn.UpsamplingNearest2d: _nearest,
}
_FUNCTIONS: dict[Any, Callable[..., str]] = {
    F.relu: lambda writer, name, x: writer.add("Relu", name, [x]),
    torch.cat: lambda writer, name, parts: writer.add("Concat", name, parts, axis=1),
    operator.add: lambda writer, name, *parts: writer.add("Add", name, parts),
}

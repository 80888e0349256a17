"""Makes torchvision importable beside a CPU build of torch (pytorch/vision#9085)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

_LIBRARY: list[Any] = []


def patch_torchvision() -> bool:
    """True if something was patched: call it before the first import of torchvision (and so of fastai.vision).

    The wheel of torchvision on PyPI is built for CUDA. Beside a CPU torch its operators cannot be loaded, and the
    import fails with "operator torchvision::nms does not exist". Declaring the schemas is all that the import wants;
    nobody here calls them.
    """
    if _LIBRARY or torch.version.cuda or _operators_load():
        return False
    schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    module: Any = torch.library
    library = module.Library("torchvision", "DEF")
    library.define("nms" + schema)
    library.define("qnms" + schema)
    _LIBRARY.append(library)  # the schemas go when the library object does
    return True


def _operators_load() -> bool:
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    compiled = sorted(Path(spec.origin).parent.glob("_C*.so"))
    if not compiled:
        return True
    try:
        operators: Any = torch.ops
        operators.load_library(str(compiled[0]))
    except OSError:
        return False
    return True

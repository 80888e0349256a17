"""The child process that opens a pickle: what comes out of it are numbers and names, in files.

Run by ``convert`` with the pickle and an empty folder. Opening a pickle runs whatever code is in it; a process of its
own keeps that out of the one which writes the model, but it is no sandbox.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

NUMBERS, FACTS = "numbers.safetensors", "facts.json"
WEIGHT, ASKED, ANSWERED = "weight:", "asked", "answered"
"""Names in NUMBERS: each weight of the network, and what it said to an image of noise."""
PROBE_PX = (96, 160)
_MISSING = re.compile(r"Can't get attribute '(\w+)' on <module '[\w.]*__main__'")


def main(pickle: str, folder: str) -> int:
    """0 and two files in ``folder``, or 1 and the reason in FACTS."""
    warnings.simplefilter("ignore")
    try:
        opened, stubs = open_pickle(Path(pickle))
        facts, numbers = describe(opened)
        facts["stubs"] = stubs
        save_file(numbers, Path(folder) / NUMBERS)
    except Exception as error:
        facts = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    (Path(folder) / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    return int("error" in facts)


def open_pickle(path: Path) -> tuple[Any, list[str]]:
    """(what is in the pickle, names of what was missing in ``__main__`` and has been stood in for).

    A learner refers to functions of the notebook that made it, such as ``get_y``, which are not needed to predict.
    """
    from aerialseg.training.torchvision_compat import patch_torchvision

    patch_torchvision()
    import fastai.vision.all  # noqa: F401

    other: Any = pathlib
    other.WindowsPath, other.PosixPath = (type(Path()),) * 2  # paths of the machine that made it
    stubs: list[str] = []
    while True:
        try:
            return torch.load(path, map_location="cpu", weights_only=False), stubs
        except AttributeError as error:
            missing = _MISSING.search(str(error))
            if missing is None or missing[1] in stubs:
                raise
            stubs.append(missing[1])
            setattr(sys.modules["__main__"], missing[1], type(missing[1], (Stub,), {}))


class Stub:
    """Stands for a function or a class that is not here."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def __call__(self, *args: Any, **options: Any) -> Any:
        return args[0] if args else None


def describe(opened: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(facts, numbers) of a fastai learner or of a network alone."""
    network = getattr(opened, "model", opened)
    if not isinstance(network, nn.Module):
        raise TypeError(f"holds a {type(opened).__name__}, wanted a fastai learner (learn.export()) or its network")
    network = network.eval().float()
    numbers = {WEIGHT + name: _plain(tensor) for name, tensor in network.state_dict().items()}
    bands = next(module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d))
    numbers[ASKED] = torch.randn(1, bands, *PROBE_PX, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        numbers[ANSWERED] = _plain(network(numbers[ASKED].clone()))
    loaders = getattr(opened, "dls", None)
    facts = {"network": type(network).__name__, "vocab": _vocab(loaders), "normalisation": _normalisation(loaders)}
    return facts, numbers


def _plain(tensor: Any) -> Tensor:
    plain: Tensor = tensor.detach().as_subclass(torch.Tensor).cpu()
    return (plain.float() if plain.is_floating_point() else plain).contiguous().clone()


def _vocab(loaders: Any) -> list[str]:
    """Names of the classes: fastai's MaskBlock(codes) keeps them in AddMaskCodes, whose vocab the loaders show."""
    try:
        return [str(name) for name in loaders.vocab]
    except (AttributeError, TypeError):
        return []


def _normalisation(loaders: Any) -> dict[str, list[float]] | None:
    """Mean and deviation of fastai's Normalize, if there is one; without, the network takes values of 0..1."""
    for transform in getattr(getattr(loaders, "after_batch", None), "fs", ()):
        if type(transform).__name__ == "Normalize":
            return {name: [float(v) for v in getattr(transform, name).flatten()] for name in ("mean", "std")}
    return None


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:3]))  # whatever the pickle has started ends here

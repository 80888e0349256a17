"""What a training leaves after each epoch: weights, the optimizer's state and the history, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.files import FILE_ERRORS, write_atomically, write_json

NAME = "checkpoint.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True)
class Saved:
    """The last finished epoch.

    weights: the model's state dict. optimizer: tensors by "parameter.name" as ``optimizer_tensors`` gives them.
    history: a record for each epoch. searches: a record for each step's learning rate and batch.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    history: list[dict[str, Any]]
    searches: list[dict[str, Any]]


def write_checkpoint(folder: Path, saved: Saved, name: str = NAME) -> None:
    """``name`` (float32) in ``folder``, and for the last epoch ``checkpoint.json``, for people. Raises OutputError."""
    tensors = {_MODEL + key: tensor for key, tensor in saved.weights.items()}
    tensors |= {_OPTIMIZER + key: tensor for key, tensor in saved.optimizer.items()}
    notes = {"history": saved.history, "searches": saved.searches}
    with write_atomically(folder / name, durable=False, errors=(*FILE_ERRORS, SafetensorError)) as part:
        save_file(tensors, part, metadata={key: json.dumps(value) for key, value in notes.items()})
    if name == NAME:
        write_json(folder / "checkpoint.json", notes)


def read_checkpoint(folder: Path, name: str = NAME) -> Saved | None:
    """What the last finished epoch left, or None if there is nothing. Raises ModelError if it cannot be read."""
    path = folder / name
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            notes = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        return Saved(_part(tensors, _MODEL), _part(tensors, _OPTIMIZER), notes["history"], notes["searches"])
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot read the checkpoint {path}: {error}; delete it to start anew") from error


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict as contiguous CPU tensors, nothing shared."""
    return {name: _plain(tensor) for name, tensor in model.state_dict().items()}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().as_subclass(torch.Tensor).cpu().contiguous().clone()


def optimizer_tensors(optimizer: Any) -> dict[str, Tensor]:
    """The state of fastai's optimizer by "number of the parameter.name"; numbers become float64 tensors."""
    return {
        f"{number}.{key}": _plain(value) if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        for number, state in enumerate(optimizer.state_dict()["state"])
        for key, value in state.items()
    }


def restore_optimizer(optimizer: Any, tensors: Mapping[str, Tensor]) -> None:
    """Put the state of ``optimizer_tensors`` back into fastai's optimizer of the same parameters."""
    states = optimizer.state_dict()["state"]
    parameters = [parameter for parameter, *_ in optimizer.all_params()]
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        like = parameters[int(number)]
        is_number = tensor.dtype == torch.float64 and tensor.ndim == 0
        states[int(number)][key] = _number(tensor) if is_number else _placed(tensor, like)
    optimizer.load_state_dict({"state": states, "hypers": optimizer.hypers})


def _placed(tensor: Tensor, like: Tensor) -> Tensor:
    channels_last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
    kind = torch.channels_last if channels_last else torch.contiguous_format
    return tensor.to(like.device, memory_format=kind)


def _number(tensor: Tensor) -> float | int:
    value = float(tensor)
    return int(value) if value.is_integer() else value

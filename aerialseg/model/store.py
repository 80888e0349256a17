"""Models on disk: a folder with card.json, weights.safetensors and history.json. Pickles are never opened."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerialseg.errors import InputError, ModelError, OutputError, UsageError
from aerialseg.files import one_line, parse_json, part_of, write_json
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, WEIGHTS, model_dir, pickles_in, refuse_pickle
from aerialseg.toml import convert

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from aerialseg.model.network import Network

logger = logging.getLogger(__name__)
HISTORY = "history.json"
"""How the model was trained and calibrated, for people, reports and STAC; maps are made without it."""
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
_FP16_MAX = 65504.0


def load_card(ref: str | Path | None = None) -> ModelCard:
    """The card of a model, checked by itself; its weights are not looked at. Raises ModelError."""
    return ModelCard.read(model_dir(ref) / CARD)


def read_history(folder: Path) -> dict[str, Any]:
    """What ``folder``/history.json says; nothing where there is none. Raises ModelError."""
    path = folder / HISTORY
    try:
        values: dict[str, Any] = convert(parse_json(path, "history") if path.exists() else {}, dict, str(path))
    except (InputError, UsageError) as error:
        raise ModelError(f"{error}; delete it to do without") from error
    return values


def write_history(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``folder``/history.json in place of an older one. Raises OutputError."""
    write_json(folder / HISTORY, dict(values))


def load_whole_card(ref: str | Path | None = None) -> ModelCard:
    """The card of a model with its history in ``training``, where older models have it. Raises ModelError."""
    card = load_card(ref)
    return replace(card, training={**card.training, **read_history(model_dir(ref))})


def verify(folder: Path, card: ModelCard) -> Path:
    """The path of the weights: the file is no pickle and is the one that the card means. Raises ModelError."""
    path = folder / WEIGHTS
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        hint = pickles_in(folder) if folder.is_dir() else ""
        raise ModelError(f"cannot read the weights {path}: {error.strerror}{hint}") from error
    if start.startswith(_PICKLE_STARTS) and not _header_fits(start, path):
        raise ModelError(refuse_pickle(path))
    if digest != card.weights_sha256:
        raise ModelError(
            f"{path} has the SHA-256 {digest[:16]}..., the card wants {card.weights_sha256[:16] or '(none)'}...: "
            "the file is damaged or belongs to another model; fetch it again"
        )
    return path


def _header_fits(start: bytes, path: Path) -> bool:
    """Whether the first eight bytes could be the length of a safetensors header, as they must."""
    return len(start) == 8 and int.from_bytes(start, "little") <= path.stat().st_size - 8


def save(
    folder: str | Path, card: ModelCard, state: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> ModelCard:
    """The card as written, with the hash of the weights, which lie beside it in ``folder``.

    Where the card says exact the network is asked whether it is (probe.py), and the halo that it needs goes into the
    card. Kernels are stored as ``dtype`` (float16 unless told); BatchNorm and biases, which are small, in float32.
    Raises ModelError where a weight is not finite or too large, the weights do not fit the card or the network cannot
    be exact; OutputError where the folder cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    folder, dtype = Path(folder), dtype or torch.float16
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in state.items()}
    card = _probed(card, tensors, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part, card_part = part_of(folder / WEIGHTS), part_of(folder / CARD)
        save_file(tensors, part, metadata={"format": "pt"})
        with open(part, "rb") as file:
            os.fsync(file.fileno())
            card = replace(card, weights_sha256=hashlib.file_digest(file, "sha256").hexdigest())
        card.write(card_part)
        part.chmod(0o644)  # safetensors makes files that only their owner can read
        part.replace(folder / WEIGHTS)
        card_part.replace(folder / CARD)
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder}: {error}") from error
    return card


def _probed(card: ModelCard, state: Mapping[str, Tensor], folder: Path) -> ModelCard:
    """The card with the halo that its network was found to need; unchanged where the card says that it is not exact."""
    from aerialseg.model.probe import probe

    network = _filled(_fitting(card, state, folder), state)
    if not card.exact:
        return card
    if not network.inexact:
        found = probe(network)
        if not found.tight:
            logger.warning("%s: a halo of less than %d px would do for this network", card.name, found.halo)
        card = replace(card, halo=found.halo)
    _check_exact(card, network, folder)
    return card


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    import torch

    plain = tensor.detach().as_subclass(torch.Tensor).cpu()
    if not plain.is_floating_point():
        return plain.clone()
    if not bool(torch.isfinite(plain).all()):
        raise ModelError(f"{name} holds values that are not finite: the training has diverged")
    small = plain.ndim < 2
    if not small and dtype == torch.float16 and float(plain.abs().max()) > _FP16_MAX:
        raise ModelError(f"{name} holds {float(plain.abs().max()):.3g}, too large for float16")
    return plain.to(torch.float32 if small else dtype).contiguous().clone()


def load_network(ref: str | Path | None = None) -> tuple[ModelCard, Network]:
    """(card, network in float32 and eval mode, on the CPU). Raises ModelError that names what does not fit."""
    folder = model_dir(ref)
    card = ModelCard.read(folder / CARD)
    network, state = _checked(folder, card)
    return card, _filled(network, state)


def _filled(network: Network, state: Mapping[str, Tensor]) -> Network:
    """The network with these weights in float32, in eval mode; nothing is copied that is float32 already."""
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    network.load_state_dict(floats, assign=True)
    return network.eval().requires_grad_(False)


def _checked(folder: Path, card: ModelCard) -> tuple[Network, dict[str, Tensor]]:
    """(network without weights, its weights as stored), once everything about them fits together."""
    state = _read_tensors(verify(folder, card))
    network = _fitting(card, state, folder)
    _check_exact(card, network, folder)
    return network, state


def _fitting(card: ModelCard, state: Mapping[str, Tensor], folder: Path) -> Network:
    """The network of the card, without weights, once it is known that these ones fit it."""
    import torch

    from aerialseg.model.networks import build_for

    with torch.device("meta"):
        network = build_for(card)
    _check_classes(card, network, state, folder)
    _check_fit(network, state, folder)
    return network


def _check_exact(card: ModelCard, network: Network, folder: Path) -> None:
    """Raise ModelError where the card promises a tile that equals the whole image and the network cannot keep it."""
    if not card.exact:
        return
    if network.inexact:
        raise ModelError(
            f"{folder}: the card says exact, but the layer {network.inexact[0]} of its network looks at the whole "
            'image at once: set "exact" to false in the card and run it with --tiling approximate'
        )
    if card.halo < network.reach.halo or card.stride % network.reach.stride:
        raise ModelError(
            f"{folder}: the card says exact with a halo of {card.halo} px; this network needs {network.reach.halo} "
            f"(its encoder looks that far) on a lattice of {network.reach.stride} px: correct the card, "
            'or set "exact" to false in it and run it with --tiling approximate'
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} is not a whole safetensors file ({one_line(error)}): it is damaged or cut off"
        ) from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: {name} holds values that are not finite (NaN or infinity)")
    return state


def _check_classes(card: ModelCard, network: Network, state: Mapping[str, Tensor], folder: Path) -> None:
    last = state.get(network.classifier)
    wanted = len(card.groups or card.legend)
    if last is not None and last.shape[0] != wanted:
        raise ModelError(f"{folder}: the network has {last.shape[0]} classes, the legend of its card {wanted}")


def _check_fit(network: Network, state: Mapping[str, Tensor], folder: Path) -> None:
    wanted = network.state_dict()
    missing, unexpected = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unexpected:
        raise ModelError(
            f"{folder}: the weights do not fit the architecture of the card: {len(missing)} tensors missing "
            f"(first {missing[:1]}), {len(unexpected)} not expected (first {unexpected[:1]})"
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise ModelError(
                f"{folder}: {name} has the shape {tuple(tensor.shape)}, wanted {tuple(wanted[name].shape)}"
            )

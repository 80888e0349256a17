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
from aerialseg.files import one_line, parse_json, part_of, remove_if_there, write_json
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, NETWORK, WEIGHTS, model_dir, pickles_in, refuse_pickle
from aerialseg.model.weights_file import check_finite, read_header
from aerialseg.toml import convert

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from aerialseg.model.network import Network
    from aerialseg.model.tile_crops import Reach

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
        raise ModelError(f"{error}; correct or delete it") from error
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
    start, digest = _hashed(path)
    if start.startswith(_PICKLE_STARTS) and not _header_fits(start, path):
        raise ModelError(refuse_pickle(path))
    _check_digest(path, digest, card.weights_sha256)
    return path


def check_files(folder: Path, card: ModelCard) -> None:
    """Raise ModelError unless weights and ``network.onnx`` are those that the card means, and the weights finite."""
    path = verify(folder, card)
    check_finite(path, read_header(path))
    if card.network_sha256:
        _check_digest(folder / NETWORK, _hashed(folder / NETWORK)[1], card.network_sha256)


def _hashed(path: Path) -> tuple[bytes, str]:
    """(first bytes, SHA-256) of a file of a model."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            return start, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        hint = pickles_in(path.parent) if path.parent.is_dir() else ""
        what = "the weights" if path.name == WEIGHTS else "the network"
        raise ModelError(f"cannot read {what} {path}: {error.strerror}{hint}") from error


def _check_digest(path: Path, digest: str, wanted: str) -> None:
    if digest != wanted:
        raise ModelError(
            f"{path} has the SHA-256 {digest[:16]}..., the card wants {wanted[:16] or '(none)'}...: "
            "the file is damaged or belongs to another model; fetch it again"
        )


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
    network = _filled(_fitting(card, tensors, folder), tensors)
    card = _probed(card, network, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = part_of(folder / WEIGHTS)
        save_file(tensors, part, metadata={"format": "pt"})
        with open(part, "rb") as file:
            os.fsync(file.fileno())
            card = replace(card, weights_sha256=hashlib.file_digest(file, "sha256").hexdigest())
        part.chmod(0o644)  # safetensors makes files that only their owner can read
        return _publish(folder, card, network, part)
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder}: {error}") from error


def update(ref: str | Path) -> Path:
    """The folder of a model, once it has a ``network.onnx`` as this version writes it; its weights stay as they are.

    Raises ModelError for a network that cannot be exact, UsageError, OutputError.
    """
    folder = model_dir(ref)
    card, network = load_network(folder)
    if network.inexact:
        raise ModelError(f"{folder} cannot be exact ({network.inexact[0]}), so it has no {NETWORK}: torch runs it")
    try:
        _publish(folder, card, network, folder / WEIGHTS)
    except OSError as error:
        raise OutputError(f"cannot write the model to {folder}: {error}") from error
    return folder


def _publish(folder: Path, card: ModelCard, network: Network, weights: Path) -> ModelCard:
    """The card as written, once weights, graph and card are in their places."""
    from aerialseg.model.onnx_writer import network_graph

    graph = b"" if network.inexact else network_graph(network, weights)
    card = replace(card, network_sha256=hashlib.sha256(graph).hexdigest() if graph else "")
    part, card_part = part_of(folder / NETWORK), part_of(folder / CARD)
    card.write(card_part)
    if graph:
        part.write_bytes(graph)
    if weights != folder / WEIGHTS:
        weights.replace(folder / WEIGHTS)
    if graph:
        part.replace(folder / NETWORK)
    else:
        remove_if_there(folder / NETWORK)
    card_part.replace(folder / CARD)
    return card


def _probed(card: ModelCard, network: Network, folder: Path) -> ModelCard:
    """The card with the halo that its network was found to need; unchanged where the card says that it is not exact."""
    from aerialseg.model.probe import probe

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
        raise ModelError(
            f"{name} holds values that are not finite: the training has diverged: use a smaller learning rate"
        )
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


def load_inexact(folder: Path) -> tuple[str, ...]:
    """The layers that keep the network of a folder from being exact, once all is known to fit. Raises ModelError."""
    return _checked(folder, ModelCard.read(folder / CARD))[0].inexact


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
    check_halo(card, network.reach, folder)


def check_halo(card: ModelCard, reach: Reach, folder: Path) -> None:
    """Raise ModelError where the card says exact with less around a tile than its network looks."""
    if card.exact and (card.halo < reach.halo or card.stride % reach.stride):
        raise ModelError(
            f"{folder}: the card says exact with a halo of {card.halo} px; this network needs {reach.halo} "
            f"(the receptive field of its encoder) on a lattice of {reach.stride} px: correct the card, "
            'or set "exact" to false in it and run it with --tiling approximate'
        )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_finite(path, read_header(path))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({one_line(error)}): fetch it again") from error


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

"""Weights for the encoder: read, deepened, calibrated."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from aerialseg.errors import ModelError
from aerialseg.legend import Legend
from aerialseg.model.card import ModelCard
from aerialseg.model.light_unet import SHARED
from aerialseg.model.network import Network
from aerialseg.model.store import load_card, load_network
from aerialseg.raster.bands import RGB
from aerialseg.training.config import TrainingConfig
from aerialseg.training.more_bands import fit_bands, grow_kernels
from aerialseg.training.norm_folding import fold_batch_norms

logger = logging.getLogger(__name__)
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
BODY = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
"""torchvision's names to places in fastai's encoder, a Sequential cut before the pooling."""
_OTHER_NORMS = ("instance", "group")
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(.+)")


def read_encoder_weights(path: str | Path) -> dict[str, Tensor]:
    """Float32 tensors with torchvision's names, without the classifier. Raises ModelError.

    Takes .safetensors, and torchvision's own .pth files, which are read with ``weights_only`` (tensors, no code).
    """
    path = Path(path)
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise ModelError(f"cannot read the encoder weights {path}: {error}") from error
    except Exception as error:  # pickle.UnpicklingError and what else a foreign pickle may raise
        raise ModelError(f"{path} is not a file of plain tensors: {type(error).__name__}") from error
    if not isinstance(state, Mapping) or "conv1.weight" not in state:
        raise ModelError(f"{path} does not hold a ResNet with torchvision's names (no 'conv1.weight')")
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
        if not name.startswith("fc.")
    }


def deepen(state: Mapping[str, Tensor], depths: tuple[int, ...]) -> dict[str, Tensor]:
    """Weights of a ResNet of ``depths`` blocks a stage that computes the same function as the shallower ``state``.

    Blocks that exist are copied. An added block is a copy of its stage's last one whose last BatchNorm has scale and
    shift zero: its residual is nothing, and relu(x + 0) is x, because x came out of a relu.
    """
    deep = dict(state)
    for stage, depth in enumerate(depths, start=1):
        present = blocks_of(state, stage)
        if not present or depth < present:
            raise ModelError(f"stage {stage} has {present} blocks: it cannot be deepened to {depth}")
        last = {
            m[3]: tensor for name, tensor in state.items() if (m := _BLOCK.match(name)) and _is(m, stage, present - 1)
        }
        closing = max(name for name in last if re.fullmatch(r"bn\d\.weight", name)).split(".")[0]
        for block in range(present, depth):
            for name, tensor in last.items():
                if not name.startswith("downsample"):
                    silent = name in (f"{closing}.weight", f"{closing}.bias")
                    deep[f"layer{stage}.{block}.{name}"] = torch.zeros_like(tensor) if silent else tensor.clone()
    return deep


def blocks_of(state: Mapping[str, Tensor], stage: int) -> int:
    """Number of blocks in a stage, 1 to 4, of a ResNet with torchvision's names."""
    return len({m[2] for name in state if (m := _BLOCK.match(name)) and int(m[1]) == stage})


def _is(match: re.Match[str], stage: int, block: int) -> bool:
    return int(match[1]) == stage and int(match[2]) == block


def encoder_state(arch: str, start: str, path: str | Path) -> dict[str, Tensor]:
    """Weights of ``arch`` with torchvision's names, read from ``path`` and deepened if ``start`` says so.

    Raises ModelError.
    """
    state = read_encoder_weights(path)
    depths = DEPTHS.get(arch)
    if depths is None:
        raise ModelError(f"encoder {arch!r}: wanted one of {', '.join(DEPTHS)}")
    present = tuple(blocks_of(state, stage) for stage in range(1, 5))
    if start == "deepen":
        return deepen(state, depths)
    if present != depths:
        raise ModelError(
            f"{path} has {present} blocks a stage and {arch} wants {depths}: set encoder.start to 'deepen'"
        )
    return state


def load_encoder(body: nn.Module, arch: str, start: str, path: str | Path, bands: tuple[str, ...] = RGB) -> None:
    """Load the weights of ``path`` into an encoder, ``body``, deepened if ``start`` says so. Raises ModelError.

    body: with torchvision's names, or as fastai cuts it. bands: what it looks at; the file's weights look at RGB.
    """
    state = encoder_state(arch, start, path)
    state["conv1.weight"] = grow_kernels(state["conv1.weight"], RGB, bands)
    places = {name: name for name in BODY} if hasattr(body, "conv1") else BODY
    renamed = {".".join([places[name.split(".")[0]], *name.split(".")[1:]]): tensor for name, tensor in state.items()}
    missing, unexpected = body.load_state_dict(renamed, strict=False)
    lost = [name for name in missing if not name.endswith("num_batches_tracked")]
    if lost or unexpected:
        raise ModelError(f"{path} does not fit {arch}: missing {lost[:3]}, unexpected {list(unexpected)[:3]}")


def load_model_weights(
    network: nn.Module, body: nn.Module, model: str | Path | None, config: TrainingConfig
) -> list[str]:
    """Load a model of this project into a network that is trained; the names of what did not fit and stays as it is.

    body: the network's encoder, the only part that fits where the model has a decoder of another kind. The last layers
    fit where the legends have the same names in the same order. Raises ModelError where the encoder is another one,
    the decoder has layers that no training makes, or has no norms where this one has. A BatchNorm that this one lacks
    is folded into its convolution.
    """
    card, source = load_network(model)
    _check_encoder(card, config)
    decoders = card.architecture.decoder, config.architecture.decoder
    narrowed = decoders == ("fastai-dynamic-unet", "light-unet")
    if decoders[0] != decoders[1] and not narrowed:
        return _load_encoder_alone(network, body, card, source, config.data.bands)
    _check_decoder(card)
    classifier = source.classifier.rsplit(".", 2)[0] + "."
    wanted = network.state_dict()
    shapes = {name: tensor.shape for name, tensor in wanted.items()}
    given = fit_bands(fold_batch_norms(source.state_dict(), wanted), shapes, card.bands, config.data.bands)
    fitting = {name: tensor for name, tensor in given.items() if name in wanted and tensor.shape == wanted[name].shape}
    if card.legend.names != Legend.from_csv(config.data.legend).names:
        fitting = {name: tensor for name, tensor in fitting.items() if not name.startswith(classifier)}
    left = sorted(set(wanted) - set(fitting))
    lost = [name for name in left if not name.startswith(classifier)]
    lost = [name for name in lost if int(name.split(".")[1]) < SHARED] if narrowed else lost
    if lost:
        if all(".1." in name or ".0.bias" in name for name in lost):
            raise ModelError(
                f"the decoder of the model {card.name!r} has no batch norm and the configuration's has: set "
                '[decoder] norm = "none"'
            )
        raise ModelError(f"the model {card.name!r} does not fit this network: {lost[0]} and {len(lost) - 1} others")
    network.load_state_dict(fitting, strict=False)
    logger.info("started from %s, but for %s", card.name, left or "nothing")
    return left


def _check_encoder(card: ModelCard, config: TrainingConfig) -> None:
    """Raise ModelError for another ResNet, of which a part might fit."""
    theirs = card.architecture.encoder
    if theirs != config.encoder.arch:
        todo = f'set [encoder] arch = "{theirs}"' if theirs in DEPTHS else "start from another model"
        raise ModelError(
            f"the encoder of the model {card.name!r} is {theirs}, that of the configuration {config.encoder.arch}: "
            f"{todo}"
        )


def _check_decoder(card: ModelCard) -> None:
    """Raise ModelError for a decoder with layers that no training makes: its weights mean something else without."""
    had = card.architecture
    other = {"blur": had.blur, "self_attention": had.self_attention, f"norm {had.norm!r}": had.norm in _OTHER_NORMS}
    if foreign := [name for name, there in other.items() if there]:
        raise ModelError(
            f"the decoder of the model {card.name!r} has {', '.join(foreign)}, which a training does not make: start "
            "from another model"
        )


def _load_encoder_alone(
    network: nn.Module, body: nn.Module, card: ModelCard, source: Network, bands: tuple[str, ...]
) -> list[str]:
    """As ``load_model_weights``, of the encoder. Its layers come in one order, whatever their names are."""
    wanted, given = body.state_dict(), source.encoder_layers().state_dict()
    places = zip(given, (tensor.shape for tensor in wanted.values()), strict=False)
    given = fit_bands(given, dict(places), card.bands, bands)
    shapes = [[tensor.shape for tensor in state.values()] for state in (wanted, given)]
    if shapes[0] != shapes[1]:
        raise ModelError(
            f"the encoder of the model {card.name!r}, {card.architecture.encoder}, does not fit this network"
        )
    body.load_state_dict(dict(zip(wanted, given.values(), strict=True)))
    logger.info("started from the encoder of %s", card.name)
    own = {id(tensor) for tensor in body.state_dict(keep_vars=True).values()}
    return [name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) not in own]


def describe_start(config: TrainingConfig, weights: str | Path | None) -> dict[str, str]:
    """{"start", "file" or "model", "sha256"}: what the network began as. Raises ModelError where it is not there."""
    start = config.encoder.start
    if start == "model":
        card = load_card(weights)
        return {"start": start, "model": card.name, "sha256": card.weights_sha256}
    if start == "scratch" or weights is None:
        return {"start": start}
    try:
        with open(weights, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the encoder weights {weights}: {error.strerror}") from error
    return {"start": start, "file": Path(weights).name, "sha256": digest}


def calibrate(network: nn.Module, batches: Iterable[Tensor], part: nn.Module | None = None) -> int:
    """Number of batches from which each BatchNorm in ``network`` was estimated anew (their plain mean).

    part: the part of the network whose norms are meant; the others go by the statistics that they have.
    """
    modules = (part or network).modules()
    norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    training = network.training
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    count = 0
    with torch.inference_mode():
        for batch in batches:
            network(batch)
            count += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.train(training)
    return count

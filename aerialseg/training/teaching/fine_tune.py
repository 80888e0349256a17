"""Fine-tuning for as many minutes as there are: counted in steps once planned, resumed from the last checkpoint.

What a step sees is drawn from the seed and its number alone, so that an interrupted run ends with the same weights as
one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aerialseg.files import FILE_ERRORS, write_atomically
from aerialseg.legend import NODATA
from aerialseg.model.cpu import has_bf16
from aerialseg.model.network import Network
from aerialseg.progress import Progress
from aerialseg.training.teaching.chip_pixels import ChipPixels

CROP_PX, BATCH = 192, 4
LR, DECAY = 3e-4, 0.01
WARM_UP = 20
"""Steps in which the learning rate rises."""
TUNED_SHARE = 0.7
"""Of the tuned weights in the mean of both. 0.5 was measured, too, and was worse on two draws of labels of Dubai."""
TIMED = 3
"""Steps that are timed to plan the others, after one that is not."""
CHECKPOINTS = 20
"""About how often what was learned is kept."""
CHECKPOINT = "tuning.safetensors"
_MODEL, _OPTIMIZER = "model.", "optimizer."


@dataclass(frozen=True, slots=True)
class Tuning:
    """How long: steps of ``BATCH`` crops of ``crop`` pixels a side; ``keep_norms``: BatchNorm stays as it is."""

    steps: int
    seed: int
    crop: int = CROP_PX
    keep_norms: bool = True


def time_step(network: Network, chips: ChipPixels, tuning: Tuning) -> float:
    """Seconds that a step takes here. The network stays as it is."""
    trial = Tuner(copy.deepcopy(network), chips, tuning)
    trial.step(0)
    start = time.monotonic()
    for number in range(TIMED):
        trial.step(number)
    return (time.monotonic() - start) / TIMED


def fine_tune(network: Network, chips: ChipPixels, tuning: Tuning, work: Path, progress: Progress) -> list[float]:
    """The loss of each step since the start or the last checkpoint in ``work``, after which ``network`` is tuned."""
    tuner = Tuner(network, chips, tuning)
    done = tuner.resume(work / CHECKPOINT)
    progress.stage("train", tuning.steps)
    progress.advance(done)
    losses, every = [], max(1, tuning.steps // CHECKPOINTS)
    for number in range(done, tuning.steps):
        losses.append(tuner.step(number))
        progress.advance(1)
        if (number + 1) % every == 0:
            tuner.keep(work / CHECKPOINT, number + 1)
    network.to("cpu").eval()
    return losses


def mean_of_both(fitted: Mapping[str, Tensor], tuned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights between those before and after fine-tuning, which may do better on ground unlike that of the labels.

    (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv 2109.01903.)
    """
    return {
        name: fitted[name].lerp(one, TUNED_SHARE) if one.is_floating_point() else one for name, one in tuned.items()
    }


class Tuner:
    """A network that learns step by step."""

    def __init__(self, network: Network, chips: ChipPixels, tuning: Tuning) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.chips, self.tuning = chips, tuning
        self.parameters = [one for name, one in network.named_parameters() if not name.startswith("enlarge")]
        for one in self.parameters:
            one.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LR, weight_decay=DECAY, fused=True)

    def step(self, number: int) -> float:
        """The loss of a step, after which the network knows better."""
        rng = np.random.default_rng((self.tuning.seed, number))
        images, masks = self.chips.batch(self.tuning.crop, BATCH, rng)
        self.network.train()
        if self.tuning.keep_norms:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        for group in self.optimizer.param_groups:
            group["lr"] = LR * rate(number, self.tuning.steps)
        with self._precision():
            logits = self.network(images.to(self.device, memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), masks.to(self.device), ignore_index=NODATA)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return float(loss.detach())

    def _precision(self) -> Any:
        fast = self.device.type == "cuda" or has_bf16()
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if fast else nullcontext()

    def keep(self, path: Path, done: int) -> None:
        """Write weights and the optimizer's state. Raises OutputError."""
        tensors = {_MODEL + name: tensor for name, tensor in self.network.state_dict().items()}
        for number, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{number}.{name}": torch.as_tensor(value) for name, value in state.items()}
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        with write_atomically(path, durable=False, errors=FILE_ERRORS) as part:
            save_file(plain, part, metadata={"done": str(done)})

    def resume(self, path: Path) -> int:
        """Steps that are done: those of the checkpoint, which is loaded, or none."""
        if not path.exists():
            return 0
        with safe_open(path, "pt") as file:
            done = int(file.metadata()["done"])
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = {name.removeprefix(_MODEL): one for name, one in tensors.items() if name.startswith(_MODEL)}
        self.network.load_state_dict(weights)
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith(_OPTIMIZER):
                number, key = name.removeprefix(_OPTIMIZER).split(".", 1)
                like = self.parameters[int(number)]
                if tensor.shape == like.shape:  # a fused step takes it to lie in memory as the parameter does
                    tensor = torch.empty_like(like).copy_(tensor)
                states.setdefault(int(number), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": states})
        return done


def rate(number: int, steps: int) -> float:
    """The part of the highest learning rate that a step has: it rises, then falls as a cosine."""
    return min(1.0, (number + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * number / steps))

"""A teacher as a file: written when its training is done, read by trainings that follow it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from aerialseg.datasets.images import read_image
from aerialseg.datasets.masks import read_mask
from aerialseg.datasets.pairs import Pairs, find_pairs, hash_file, resize_ids, split_pairs
from aerialseg.errors import ModelError, UsageError
from aerialseg.evaluation.scores import Confusion
from aerialseg.files import FILE_ERRORS, write_atomically
from aerialseg.legend import Legend
from aerialseg.model.fold import fold_for_inference
from aerialseg.model.folders import CARD, embedded
from aerialseg.model.lineage import Parent
from aerialseg.model.store import load_network, load_whole_card
from aerialseg.progress import Progress
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.pyramid import Pyramid
from aerialseg.training.distillation.torchvision_encoders import bare_resnet
from aerialseg.training.learner import autocast, use_bf16

NAME = "teacher.safetensors"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, slots=True, eq=False)
class Teacher:
    """A ``Pyramid``, or a model, with its weights; what is known of it; the SHA-256 of its weights.

    about: its name, classes, training and scores; of a ``Pyramid`` arch and v1, too.
    """

    network: nn.Module
    about: dict[str, Any]
    sha256: str

    def described(self) -> dict[str, Any]:
        """What the history of a model that followed it says of it."""
        return {**self.about, "sha256": self.sha256}

    @property
    def parent(self) -> Parent:
        """What a model that follows it owes to it."""
        said = self.about["training"].get("config", {})
        return Parent(self.about["name"], said.get("licence", ""), tuple(said.get("lineage", ())), self.sha256)


def export_teacher(
    config: TrainingConfig,
    data_dir: str | Path,
    out_dir: Path,
    weights: Mapping[str, Tensor],
    training: Mapping[str, Any],
    progress: Progress,
) -> Path:
    """The folder ``out_dir`` with the teacher that was trained, scored on the held-out frames.

    training: what it can be repeated from. Raises InputError, ModelError, OutputError.
    """
    legend, notes = Legend.from_csv(config.data.legend), {"training": dict(training)}
    write_teacher(out_dir, config, legend, weights, notes)
    held = split_pairs(find_pairs(data_dir, config.data), config.data.split)[1]
    network = read_teacher(out_dir, legend).network  # what was written is what is scored
    confusion = score_teacher(network, held, legend, config, use_bf16(config.precision))
    scores = confusion.to_json(legend, config.data.void)
    write_teacher(out_dir, config, legend, weights, {**notes, "scores": scores})
    progress.note(f"held out: {confusion.spoken(legend, config.data.void)}")
    progress.note(f"teacher in {out_dir}")
    return out_dir


def write_teacher(
    folder: Path, config: TrainingConfig, legend: Legend, weights: Mapping[str, Tensor], notes: Mapping[str, Any]
) -> Path:
    """The file ``folder``/teacher.safetensors, kernels in half precision. Raises OutputError.

    notes: of the training and its scores.
    """
    encoder = config.encoder
    about = {"name": config.name, "arch": encoder.arch, "v1": encoder.v1, "classes": list(legend.names), **notes}
    halves = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in weights.items()}
    with write_atomically(folder / NAME, errors=(*FILE_ERRORS, SafetensorError)) as part:
        save_file(halves, part, metadata={"teacher": json.dumps(about)})
    return folder / NAME


def read_teacher(path: str | Path, legend: Legend) -> Teacher:
    """The teacher in a folder that ``train`` has made, or in its file; or a model, by its name or folder.

    legend: what it must know: the same classes in the same order. Raises ModelError.
    """
    teacher = _read_model(path) if _is_model(path) else _read_pyramid(path)
    if tuple(teacher.about["classes"]) != tuple(legend.names):
        raise ModelError(f"the teacher {path} has other classes than {', '.join(legend.names[:3])} ...")
    return teacher


def _is_model(path: str | Path) -> bool:
    return str(path) in {"embedded", *embedded()} or (Path(path) / CARD).is_file()


def _read_model(path: str | Path) -> Teacher:
    """A model as a teacher: slower than a ``Pyramid``, and without features to give hints by."""
    _, network = load_network(path)
    card = load_whole_card(path)
    about = {"name": card.name, "classes": list(card.legend.names), "scores": card.scores.get("held_out", {})}
    terms = {"licence": card.licence, "lineage": list(card.lineage)}
    training = {"split_sha256": card.training.get("split_sha256"), "config": terms}
    return Teacher(fold_for_inference(network), {**about, "training": training}, card.weights_sha256)


def _read_pyramid(path: str | Path) -> Teacher:
    path = Path(path) / NAME if Path(path).is_dir() else Path(path)
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["teacher"])
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        with open(path, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        network = Pyramid(bare_resnet(about["arch"], v1=about["v1"]), len(about["classes"]))
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"cannot read the teacher {path}: {first}; wanted what a training with decoder.kind = 'pyramid' leaves"
        ) from error
    return Teacher(network, about, digest)


def followed_teachers(config: TrainingConfig, paths: Sequence[str | Path]) -> tuple[Teacher, ...]:
    """The teachers that the configuration follows, if it does. Raises ModelError; UsageError if they do not fit."""
    if config.follow.wanted and not paths:
        raise UsageError(f"training {config.name!r} follows a teacher: give --teacher DIR, or leave out [follow]")
    if paths and not config.follow.wanted:
        raise UsageError(
            f"training {config.name!r} follows no teacher: give weights in [follow], or leave out --teacher"
        )
    return tuple(_followed(config, path) for path in paths)


def _followed(config: TrainingConfig, path: str | Path) -> Teacher:
    teacher = read_teacher(path, Legend.from_csv(config.data.legend))
    if config.follow.hints and not isinstance(teacher.network, Pyramid):
        raise UsageError(f"the teacher {path} is a model, which provides no features: leave out follow.hints")
    if teacher.about["training"].get("split_sha256") != hash_file(config.data.split):
        raise UsageError(
            f"the teacher {path} learned by another split than {config.data.split}: it may have learned frames that "
            "are held out here; train it by this split"
        )
    return teacher


@torch.inference_mode()
def score_teacher(network: nn.Module, pairs: Pairs, legend: Legend, config: TrainingConfig, bf16: bool) -> Confusion:
    """How a teacher meets whole frames, brought to the configuration's size. Raises InputError."""
    network, total = network.eval(), Confusion.empty(len(legend))
    device = next(network.parameters()).device
    mean, std = (torch.tensor(values, device=device).view(-1, 1, 1) for values in _IMAGENET)
    shape = config.data.size
    for image_path, mask_path in pairs.values():
        image = read_image(image_path).resize(shape[::-1], Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1)).to(device).float() / 255
        with autocast(device, bf16):
            logits = network(((pixels - mean) / std)[None])[0].float()
        logits[list(config.data.void)] = -torch.inf
        truth = resize_ids(read_mask(mask_path, legend, config.data.void), shape)
        total = total + Confusion.of(truth, logits.argmax(0).to(torch.uint8).cpu().numpy(), len(legend))
    return total

"""Making a model ready for int8: ranges from training images, and what it costs on those held out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aerialseg.datasets.images import read_image
from aerialseg.datasets.pairs import find_pairs, split_pairs
from aerialseg.errors import UsageError
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, model_dir
from aerialseg.model.int8_ranges import find_ranges
from aerialseg.model.openvino import PROBABILITIES, OpenVinoNetwork
from aerialseg.model.store import load_network
from aerialseg.raster.grid import Box
from aerialseg.training.config import TrainingConfig

IMAGES = 24
COMPARED = 4
"""Of the images on which ranges are found, those on which each layer's loss is measured."""
LOSSY = 0.05
"""A layer with more than this share of the loss of all layers stays as it is."""


def quantize(
    config_path: str | Path,
    data_dir: str | Path,
    model: str | Path,
    *,
    images: int = IMAGES,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write int8 ranges, and the scores in fp32 and int8, into the model's card; the card's path.

    The ranges come from ``images`` frames that the configuration's split trains on, spread evenly over them; the scores
    from all that it holds out. Layers that lose most in int8 (`find_losses`) are left as they are, by the same training
    frames. Its weights stay as they are. Raises InputError, ModelError, UsageError.
    """
    if images < 1:
        raise UsageError(f"{images} images to find ranges on: wanted 1 or more")
    config = TrainingConfig.read(config_path)
    learnt, _ = split_pairs(find_pairs(data_dir, config.data), config.data.split)
    folder = model_dir(model)
    card, network = load_network(folder)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
    paths = [path for path, _ in islice(learnt.values(), 0, None, max(1, len(learnt) // images))][:images]
    pixels = [np.array(read_image(path, config.data.size, len(card.bands))).transpose(2, 0, 1)[None] for path in paths]
    progress(f"finding ranges on {len(paths)} frames")
    ranges = find_ranges(network, ((torch.from_numpy(image) / 255 - mean) / std for image in pixels))
    found: dict[str, Any] = {"images": len(paths), "ranges": ranges}
    losses = find_losses(folder, replace(card, quantization=found), pixels[:: max(1, len(pixels) // COMPARED)])
    lossy = [name for name, loss in losses.items() if loss > LOSSY * sum(losses.values())]
    shares = [f"{name} ({losses[name] / sum(losses.values()):.0%} of the loss of all layers)" for name in lossy]
    progress(f"not in int8: {', '.join(shares) or 'no layer'}")
    found["not_int8"] = lossy
    replace(card, quantization=found).write(folder / CARD)
    for name in ("fp32", "int8"):
        scored = evaluate(folder, data_dir, config=config_path, device="cpu", precision=name)
        confusion = scored.confusion
        found.setdefault("mean_iou", {})[name] = round(confusion.mean_iou, 4)
        found.setdefault("pixel_accuracy", {})[name] = round(confusion.pixel_accuracy, 4)
        progress(f"{name}: {confusion.spoken(scored.legend, scored.void)}")
    replace(card, quantization=found).write(folder / CARD)
    return folder / CARD


def find_losses(folder: Path, card: ModelCard, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """What int8 changes in each convolution alone, by its name.

    The mean Kullback-Leibler divergence, over all pixels, of the classes' probabilities from those without int8.
    card: with the ranges of all convolutions. images: uint8 (1, bands, h, w) of one size.
    """
    whole = Box(0, 0, *images[0].shape[-2:])
    valid = np.ones((1, *whole.shape), bool)

    def answers(names: Collection[str]) -> NDArray[np.float32]:
        others = [name for name in card.ranges if name not in names]
        one = replace(card, quantization={**card.quantization, "not_int8": others})
        network = OpenVinoNetwork(folder, one, "int8", output=PROBABILITIES)
        return np.concatenate([network.answer(np.ascontiguousarray(image), valid, whole, whole) for image in images])

    usual = answers(())
    return {name: _divergence(usual, answers((name,))) for name in card.ranges}


def _divergence(p: NDArray[np.float32], q: NDArray[np.float32]) -> float:
    least = np.float32(1e-7)
    return float((p * (np.log(p + least) - np.log(q + least))).sum(axis=1).mean())

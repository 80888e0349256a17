"""Making a model ready for int8: ranges from training images, and what it costs on those held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aerialseg.datasets.images import read_image
from aerialseg.datasets.pairs import find_pairs, split_pairs
from aerialseg.errors import UsageError
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.model.folders import CARD, model_dir
from aerialseg.model.int8_ranges import find_ranges
from aerialseg.model.store import load_network
from aerialseg.training.config import TrainingConfig

IMAGES = 24


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
    from all that it holds out. Its weights stay as they are. Raises InputError, ModelError, UsageError.
    """
    if images < 1:
        raise UsageError(f"{images} images to find ranges on: wanted 1 or more")
    config = TrainingConfig.read(config_path)
    learnt, _ = split_pairs(find_pairs(data_dir, config.data), config.data.split)
    folder = model_dir(model)
    card, network = load_network(folder)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (card.mean, card.std))
    paths = [path for path, _ in islice(learnt.values(), 0, None, max(1, len(learnt) // images))][:images]
    pixels = (np.array(read_image(path, config.data.size, len(card.bands))).transpose(2, 0, 1)[None] for path in paths)
    progress(f"finding ranges on {len(paths)} frames")
    ranges = find_ranges(network, ((torch.from_numpy(image) / 255 - mean) / std for image in pixels))
    found: dict[str, Any] = {"images": len(paths), "ranges": ranges}
    replace(card, quantization=found).write(folder / CARD)
    for name in ("fp32", "int8"):
        scored = evaluate(folder, data_dir, config=config_path, device="cpu", precision=name)
        confusion = scored.confusion
        found.setdefault("mean_iou", {})[name] = round(confusion.mean_iou, 4)
        found.setdefault("pixel_accuracy", {})[name] = round(confusion.pixel_accuracy, 4)
        progress(f"{name}: {confusion.spoken(scored.legend, scored.void)}")
    replace(card, quantization=found).write(folder / CARD)
    return folder / CARD

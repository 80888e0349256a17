"""A confidence that tells the truth: one temperature for the logits, fitted on held-out pixels and judged on others.

A network that has learnt for long is surer of itself than it is right. Dividing its logits by one number changes no
label and corrects most of that. (Guo et al. 2017, "On calibration of modern neural networks", arXiv 1706.04599.)

What is reported is cross-fitted: the scenes are parted into two halves, and each is judged with the temperature that
was fitted on the other one. The temperature that goes into the card is fitted on all of them, and it goes there only if
those fitted on the halves have helped: a network that tells the truth already is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F

from aerialseg.datasets.frames import frame_size
from aerialseg.datasets.layout import DataConfig
from aerialseg.errors import InputError, UsageError
from aerialseg.evaluation.samples import Samples, sample_frame
from aerialseg.evaluation.scores import Reliability
from aerialseg.model.card import ModelCard
from aerialseg.model.folders import CARD, model_dir
from aerialseg.model.store import load_card, load_network, read_history, write_history
from aerialseg.model.torch_engine import decide
from aerialseg.progress import Progress, Silent

PIXELS = 20_000
"""Of each frame, at most: neighbouring pixels say the same."""
SEED = 0
"""Of the pixels that are drawn."""
RANGE = (0.05, 20.0)
"""Temperatures that are tried; a network that needs another one has learned nothing."""
_PRECISE = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """fitted: the temperature of all held-out frames. before: how reliable the confidence was without one.

    after: how reliable it is where the temperature comes from the other half (``of_halves``: the two of them).
    """

    fitted: float
    before: Reliability
    after: Reliability
    of_halves: tuple[float, float]
    frames: int

    @property
    def helps(self) -> bool:
        """Whether a temperature made the confidence truer of frames that it was not fitted on."""
        return self.after.expected_calibration_error < self.before.expected_calibration_error

    @property
    def temperature(self) -> float:
        """What goes into the card: the fitted one, or 1.0 where none helps."""
        return round(self.fitted, 4) if self.helps else 1.0

    def text(self) -> str:
        """What was found, in a sentence."""
        before, after = (each.expected_calibration_error for each in (self.before, self.after))
        if not self.helps:
            return (
                f"the confidence is off by {before:.1%} on average and by {after:.1%} with a temperature fitted on "
                "other frames: the card keeps none"
            )
        return (
            f"temperature {self.temperature:g}: the confidence is off by {after:.1%} on average of frames that it was "
            f"not fitted on, {before:.1%} without"
        )

    def to_json(self) -> dict[str, Any]:
        """What goes into the card's scores."""
        return {
            "temperature": self.temperature,
            "temperature_fitted": round(self.fitted, 4),
            "temperatures_of_halves": [round(value, 4) for value in self.of_halves],
            "ece_before": round(self.before.expected_calibration_error, 4),
            "ece_after_cross_fitted": round(self.after.expected_calibration_error, 4),
            "frames": self.frames,
            "pixels": int(self.after.seen.sum()),
        }

    def curves(self) -> dict[str, Any]:
        """What goes into the model's history: pixels seen and right at each per cent; ``reliability`` cross-fitted."""
        return {"reliability_before": self.before.to_json(), "reliability": self.after.to_json()}


def calibrate_on(
    model: str | Path,
    data_dir: str | Path,
    *,
    config: str | Path | DataConfig | None = None,
    split: str | Path | None = None,
    size: tuple[int, int] | None = None,
    pixels: int = PIXELS,
    least: float = RANGE[0],
    progress: Progress | None = None,
) -> Calibration:
    """The calibration of a model on the frames of a data folder that the split holds out (see ``find_frames``).

    Raises UsageError where neither a split nor a configuration says which these are: on frames that a model has learnt
    it is always sure, and right.
    """
    from aerialseg.datasets.frames import find_frames

    if split is None and config is None:
        raise UsageError(
            "a calibration needs test frames that the model was not trained on: give --split FILE or --config FILE"
        )
    frames = find_frames(load_card(model), data_dir, config=config, split=split, size=size)
    return calibrate(
        model, frames.pairs, size=frames.size, scenes=frames.scenes, pixels=pixels, least=least, progress=progress
    )


def calibrate(
    model: str | Path,
    pairs: Mapping[str, tuple[Path, Path]],
    *,
    size: tuple[int, int] | None = None,
    scenes: Mapping[str, str] | None = None,
    pixels: int = PIXELS,
    least: float = RANGE[0],
    progress: Progress | None = None,
) -> Calibration:
    """The calibration of a model on held-out pairs of image and mask, written into its card (and returned).

    size: (rows, columns) to which each frame is resampled; by default the ``frame_size`` of the card's training, else
    frames are taken as they are. scenes: frame to scene, so that no scene is in both halves; without it the halves are
    runs of names. least: the lowest temperature to try; with 1 no confidence is raised. The logits are those of the
    network in fp32. A temperature that the card had before does not matter.
    Raises InputError, ModelError, UsageError.
    """
    if pixels < 1:
        raise UsageError(f"{pixels} pixels of each frame: wanted 1 or more")
    folder = model_dir(model)
    card, network = load_network(folder)
    if card.groups:
        raise UsageError(
            f"the model {card.name!r} predicts groups of classes: calibrate the model that it was made "
            "from, then group that"
        )
    size = size or frame_size(card)
    samples, progress = {}, progress or Silent()
    progress.stage("calibrate", len(pairs))
    for number, (name, (image, mask)) in enumerate(pairs.items()):
        samples[name] = sample_frame(network, card, image, mask, size, pixels, np.random.default_rng((SEED, number)))
        progress.advance(1)
    found = fit(samples, card, scenes, least)
    scores = {**card.scores, "calibration": found.to_json()}
    replace(card, temperature=found.temperature, scores=scores).write(folder / CARD)
    write_history(folder, {**read_history(folder), "calibration": found.curves()})
    return found


def fit(
    samples: Mapping[str, Samples], card: ModelCard, scenes: Mapping[str, str] | None = None, least: float = RANGE[0]
) -> Calibration:
    """The calibration of the samples of at least two frames (or scenes). Raises InputError where there are fewer."""
    known = {name: part.without(card.void) for name, part in samples.items() if len(part)}
    halves = [Samples.joined(known[name] for name in names) for names in part_scenes(list(known), scenes or {})]
    both = Samples.joined(halves)
    first, second = (fit_temperature(half, least) for half in halves)
    return Calibration(
        fitted=fit_temperature(both, least),
        before=reliability(both, card, 1.0),
        after=reliability(halves[0], card, second) + reliability(halves[1], card, first),
        of_halves=(first, second),
        frames=len(known),
    )


def part_scenes(names: list[str], scenes: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The frames in two halves of about the same size, no scene in both; a frame without a scene is one of its own.

    Where no scene is known, the first and the last half of the names: neighbours often show the same place.
    """
    names = sorted(names)
    halves: tuple[list[str], list[str]] = ([], [])
    groups: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        other = f"frame {name}" if scenes else f"half {number >= len(names) // 2}"
        groups.setdefault(f"scene {scenes[name]}" if scenes.get(name) else other, []).append(name)
    for group in sorted(groups.values(), key=lambda group: (-len(group), group)):
        min(halves, key=len).extend(group)
    if not all(halves):
        raise InputError(
            f"a calibration needs held-out frames of two scenes, to test one by the other; met {len(names)} frames of "
            f"{len(groups)}: hold out more"
        )
    return halves


def fit_temperature(samples: Samples, least: float = RANGE[0]) -> float:
    """The temperature of ``least`` or more, within RANGE, with the least negative log-likelihood.

    The loss is convex in 1 / temperature, so it has one valley in the logarithm too: golden-section search.
    """
    shrink = (math.sqrt(5) - 1) / 2
    low, high = math.log(max(least, RANGE[0])), math.log(RANGE[1])
    inner = [high - shrink * (high - low), low + shrink * (high - low)]
    losses = [negative_log_likelihood(samples, math.exp(at)) for at in inner]
    while high - low > _PRECISE:
        if losses[0] <= losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - shrink * (high - low)
            losses[0] = negative_log_likelihood(samples, math.exp(inner[0]))
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + shrink * (high - low)
            losses[1] = negative_log_likelihood(samples, math.exp(inner[1]))
    return math.exp((low + high) / 2)


def negative_log_likelihood(samples: Samples, temperature: float) -> float:
    """Mean over the pixels of -log of the probability that the true class is given."""
    parts = samples.parts()
    total = sum(float(F.cross_entropy(logits / temperature, truth, reduction="sum")) for logits, truth in parts)
    return total / len(samples)


def reliability(samples: Samples, card: ModelCard, temperature: float) -> Reliability:
    """Of the samples, as a run with that temperature would state its confidence."""
    chosen, found = replace(card, temperature=temperature), Reliability.empty()
    for logits, truth in samples.parts():
        finite = logits.nan_to_num(neginf=0.0)  # those of void classes, which have no say anyway
        said = decide(finite.T[None, :, :, None].clone(), chosen)[0, :, :, 0].numpy()
        found += Reliability.of(truth.numpy().astype(np.uint8), said[0], said[1])
    return found

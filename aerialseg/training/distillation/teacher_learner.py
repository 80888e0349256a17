"""The learner of a teacher: a pyramid over a ResNet whose encoder starts from weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aerialseg.errors import UsageError
from aerialseg.training.config import TrainingConfig
from aerialseg.training.distillation.pyramid import Pyramid
from aerialseg.training.distillation.torchvision_encoders import bare_resnet, fill_weights, is_v1
from aerialseg.training.encoder import calibrate, encoder_state
from aerialseg.training.learner import find_weights, plain_learner, some_batches


def teacher_learner(loaders: Any, config: TrainingConfig, classes: int, loss: Any) -> Any:
    """A learner of a pyramid from random weights, for ``make_learner``."""
    return plain_learner(
        loaders, config, Pyramid(bare_resnet(config.encoder.arch, v1=config.encoder.v1), classes), loss
    )


def start_teacher(learner: Any, config: TrainingConfig, weights: str | Path | None) -> None:
    """Load and calibrate the encoder of a pyramid as the configuration says. Raises ModelError, UsageError."""
    encoder, body = config.encoder, learner.model.encoder
    if encoder.start == "scratch":
        return
    file = find_weights(config, weights)
    if encoder.v1 != is_v1(file):
        raise UsageError(f"encoder.v1 is {encoder.v1}, and {file} says otherwise: set it to {not encoder.v1}")
    fill_weights(body.network, encoder_state(encoder.arch, encoder.start, file), file)
    if encoder.calibrate:
        calibrate(body, some_batches(learner.dls, encoder.calibrate))

"""Learning from a teacher as well as from masks: what it says of each batch, and what it sees there.

A mask says of a pixel what it is; a teacher says also what it resembles, and its features what it sees in a place.
Teacher and network are shown the same crops, varied as training varies them, so that the network becomes the same
function where it matters. (Hinton et al. 2015, arXiv 1503.02531; Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent", arXiv 2106.05237; hints: Romero et al. 2015, arXiv 1412.6550.)

Of frames that it has learned by heart a teacher says little more than their masks do. What it would say elsewhere comes
out where crops are blended with one another: no mask tells what they show, and so the teacher alone is followed there
(mixup: Zhang et al. 2018, arXiv 1710.09412; as Beyer et al. use it, without labels).

Several teachers err in different places, and so does one that sees a thing lie otherwise. What is followed is the mean
of their probabilities (ensembles: Hinton et al. 2015; over flips and turns: ``aerialseg.model.tta``).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aerialseg.model.network import Network
from aerialseg.model.tta import TURNS
from aerialseg.training.config import FollowConfig
from aerialseg.training.distillation.pyramid import Pyramid
from aerialseg.training.growing.partial_unet import PartialUNet
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()

from fastai.vision.all import Callback  # noqa: E402

POOLED = 4
"""Pixels a side over which logits are averaged before they are compared: a teacher knows no sharper outlines."""


class TeacherLoss(Callback):
    """Adds the distance to teachers to the loss that gradients come from; the loss that is shown is that of masks."""

    order = 5  # before gradients are scaled for accumulation, and inside of autocast

    def __init__(self, teachers: Sequence[nn.Module], config: FollowConfig) -> None:
        super().__init__()
        self.teachers, self.config = [teacher.eval().requires_grad_(False) for teacher in teachers], config
        self.blended = False
        for teacher in teachers:
            teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def before_fit(self) -> None:
        for teacher in self.teachers:
            teacher.to(self.dls.device)

    def before_batch(self) -> None:
        # Outlines, which the last layers of fastai's network learn in steps of their own, lie double in a blend.
        blendable = isinstance(self.learn.model, PartialUNet | Network)
        wanted = self.config.blend > 0 and self.training and blendable
        self.blended = (
            wanted and random.random() < self.config.blend
        )  # without blending nothing else is drawn otherwise
        if self.blended:
            self.learn.xb = (mix_crops(self.x),)

    def after_loss(self) -> None:
        if not self.training or (self.config.only_blends and not self.blended):
            return
        image, said = plain(self.x), plain(self.pred)
        with torch.no_grad():
            hints, first = self._seen_by_first(image)
            wanted = [first]
            wanted += [self._look(number, image) for number in range(1, max(self.config.looks, len(self.teachers)))]
        distance = self.config.weight * class_distance(said, wanted, self.config.temperature)
        hinted = getattr(self.learn.model, "hinted", None)
        if self.config.hints and hinted is not None:
            distance = distance + self.config.hints * hint_distance(hinted, hints)
        self.learn.loss_grad = distance if self.blended else self.learn.loss_grad + distance

    def _seen_by_first(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(features, logits) of the first teacher; no features where none are followed."""
        first = self.teachers[0]
        if not (self.config.hints and isinstance(first, Pyramid)):
            return torch.empty(0), first(image)
        hints = first.hints(image)
        return hints, first.classes(hints, (image.shape[-2], image.shape[-1]))

    def _look(self, number: int, image: Tensor) -> Tensor:
        """Logits of one of the teachers, which sees the crops in a flip or turn drawn at random."""
        turn = random.choice(TURNS)
        return turn.back(self.teachers[number % len(self.teachers)](turn.ahead(image)))


def mix_crops(images: Tensor) -> Tensor:
    """Images (B, 3, h, w), each blended with the one before it, of which it gets a random share of up to a half."""
    share = torch.rand(len(images), 1, 1, 1, device=images.device) / 2
    return images + share * (images.roll(1, dims=0) - images)


def class_distance(said: Tensor, wanted: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence of logits (B, classes, h, w) from teachers', times temperature squared.

    All are averaged over ``POOLED`` x ``POOLED`` pixels and divided by the temperature first; of the teachers' the mean
    of the probabilities counts. The square makes up for the smaller gradients of a higher temperature (Hinton et al.
    2015).
    """
    ours, *theirs = (F.log_softmax(F.avg_pool2d(x.float(), POOLED) / temperature, dim=1) for x in (said, *wanted))
    mean = torch.stack(theirs).logsumexp(0) - math.log(len(theirs))
    return F.kl_div(ours, mean, reduction="none", log_target=True).sum(1).mean() * temperature**2


def hint_distance(hinted: Tensor, hints: Tensor) -> Tensor:
    """Mean squared difference of (B, C, h, w) to hints, each of whose channels has mean 0 and spread 1 in the batch."""
    hints = F.batch_norm(hints.float(), None, None, training=True)
    if hinted.shape[-2:] != hints.shape[-2:]:
        hinted = F.interpolate(hinted, hints.shape[-2:], mode="area")
    return F.mse_loss(hinted.float(), hints)


def plain(tensor: Tensor) -> Tensor:
    """Without fastai's subclass, whose every operation costs a detour."""
    return tensor.as_subclass(torch.Tensor)

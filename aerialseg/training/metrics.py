"""Scores that are shown while a model is trained."""

from __future__ import annotations

from typing import Any

from aerialseg.legend import NODATA
from aerialseg.training.torchvision_compat import patch_torchvision

patch_torchvision()

from fastai.vision.all import DiceMulti, flatten_check  # noqa: E402


class LabelledDice(DiceMulti):
    """fastai's mean Dice of all classes, over the pixels that have a label: what void is taken for does not count."""

    def accumulate(self, learn: Any) -> None:
        predicted, truth = flatten_check(learn.pred.argmax(dim=self.axis), learn.y)
        labelled = truth != NODATA
        predicted, truth = predicted[labelled], truth[labelled]
        for number in range(learn.pred.shape[self.axis]):
            said, right = predicted == number, truth == number
            both, either = (said & right).sum().item(), (said.sum() + right.sum()).item()
            self.inter[number] = self.inter.get(number, 0) + both
            self.union[number] = self.union.get(number, 0) + either

"""Losses: what they are worked out by hand, and that void and absent classes have no say."""

from __future__ import annotations

import pytest
import torch

from aerialseg.datasets.masks import VOID
from aerialseg.training.config import LOSSES
from aerialseg.training.losses import DiceLoss, FocalLoss, make_loss


@pytest.mark.parametrize("name", LOSSES)
def test_void_pixels_have_no_say_in_any_loss(name: str) -> None:
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 4, 6, 6), torch.randint(0, 4, (2, 6, 6))
    truth[:, :2] = VOID
    changed = logits.clone()
    changed[:, :, :2] += 5 * torch.randn(2, 4, 2, 6)
    loss = make_loss(name)
    assert loss(logits, truth) == pytest.approx(loss(changed, truth).item(), abs=1e-6)
    moved = logits.clone()
    moved[:, :, 2:] += 5 * torch.randn(2, 4, 4, 6)
    assert loss(moved, truth) != pytest.approx(loss(logits, truth).item(), abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_next_to_nothing_and_a_wrong_one_much(name: str) -> None:
    truth = torch.randint(0, 3, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    right = torch.nn.functional.one_hot(truth, 3).movedim(-1, 1) * 30.0
    assert make_loss(name)(right, truth) < 1e-3
    assert make_loss(name)(-right, truth) > 0.5


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, truth, weights = torch.randn(2, 3, 5, 5), torch.randint(0, 3, (2, 5, 5)), torch.tensor([0.5, 1.0, 4.0])
    truth[0, 0] = VOID
    wanted = make_loss("cross-entropy", weights)(logits, truth)
    assert FocalLoss(weights, gamma=0.0)(logits, truth) == pytest.approx(wanted.item(), rel=1e-5)


def test_dice_loss_by_hand_takes_the_mean_over_the_classes_that_occur() -> None:
    """Two pixels of class 0, each given 0.75: Dice 2 x 1.5 / (1.5 + 2); class 1 does not occur and does not count."""
    logits = torch.log(torch.tensor([0.75, 0.25])).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    assert DiceLoss()(logits, torch.zeros(1, 1, 2, dtype=torch.long)) == pytest.approx(1 - 3 / 3.5)


def test_a_batch_of_void_alone_costs_nothing_and_breaks_nothing() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    for name in ("dice", "focal"):
        loss = make_loss(name)(logits, torch.full((1, 4, 4), VOID))
        loss.backward()
        assert loss == 0
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]

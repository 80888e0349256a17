"""Outlines are scored as Csurka et al. say, and the step in which a map is drawn shows in its squares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aerialseg.evaluation.boundaries import TOLERANCE_PX, Boundaries
from aerialseg.legend import NODATA


def halves(at: int, side: int = 40) -> np.ndarray:
    """Class 0 left of a column, class 1 from there on."""
    ids = np.zeros((side, side), np.uint8)
    ids[:, at:] = 1
    return ids


def test_equal_maps_score_one_and_a_class_without_an_outline_has_no_score() -> None:
    found = Boundaries.of(halves(20), halves(20), 3)
    assert found.f_scores[:2].tolist() == [1.0, 1.0]
    assert math.isnan(found.f_scores[2])
    assert found.mean_f_score == 1.0


@pytest.mark.parametrize(("away", "score"), [(TOLERANCE_PX, 1.0), (TOLERANCE_PX + 1, 0.0), (-TOLERANCE_PX - 1, 0.0)])
def test_an_outline_meets_the_truths_within_the_tolerance_and_no_further(away: int, score: float) -> None:
    assert Boundaries.of(halves(20), halves(20 + away), 2).mean_f_score == pytest.approx(score)


def test_an_outline_too_many_costs_precision_and_one_too_few_recall() -> None:
    two = halves(10)
    two[:, 30:] = 0
    more, fewer = Boundaries.of(halves(10), two, 2), Boundaries.of(two, halves(10), 2)
    assert more.f_scores.tolist() == fewer.f_scores.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_pixels_without_truth_count_for_nothing() -> None:
    truth, predicted = halves(20), halves(20)
    truth[:, 28:] = NODATA
    predicted[:, 34:] = 0
    assert Boundaries.of(truth, predicted, 2).mean_f_score == 1.0


def test_two_sets_together_score_as_one_of_all_their_pixels() -> None:
    both = Boundaries.of(halves(20), halves(20), 2) + Boundaries.of(halves(20), halves(30), 2)
    assert both.mean_f_score == pytest.approx(0.5)


def test_a_map_drawn_in_steps_of_two_pixels_shows_it() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 3, (30, 30)).astype(np.uint8)
    truth = rng.integers(0, 3, (60, 60)).astype(np.uint8)
    ours, theirs, moved = Boundaries.of(truth, np.kron(coarse, np.ones((2, 2), np.uint8)), 3).uniform
    assert ours == 1.0
    assert theirs == pytest.approx(1 / 27, abs=0.02)
    assert moved < 0.2


def test_it_is_said_with_its_tolerance_and_kept_as_json() -> None:
    found = Boundaries.of(halves(21), halves(20), 2)
    assert f"boundary F-score 1.0000 (within {TOLERANCE_PX} px)" in found.text()
    assert found.to_json()["uniform_2x2"] == {"map": 1.0, "truth": 0.95, "map_moved_by_1_px": 0.94737}

"""Scores, against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aerialseg.evaluation.scores import Confusion, Reliability
from aerialseg.legend import NODATA, LandClass, Legend

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, NODATA]], dtype=np.uint8)
SAID = np.array([[0, 1, 1, 1], [0, 0, 0, 2]], dtype=np.uint8)


def test_by_hand() -> None:
    """Class 0: 3 of 4 right, one false. Class 1: 2 of 3 right, one false. The void pixel counts nowhere."""
    scores = Confusion.of(TRUTH, SAID, 4)
    assert scores.counts.dtype == np.int64
    assert scores.counts.sum() == 7
    assert scores.pixel_accuracy == pytest.approx(5 / 7)
    assert scores.iou[:2] == pytest.approx([3 / 5, 2 / 4])
    assert scores.dice[:2] == pytest.approx([6 / 8, 4 / 6])
    assert np.isnan(scores.iou[2:]).all()
    assert scores.mean_iou == pytest.approx((3 / 5 + 2 / 4) / 2)
    assert scores.mean_dice == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert scores.frequency_weighted_iou == pytest.approx((4 * 3 / 5 + 3 * 2 / 4) / 7)


def test_a_class_that_is_only_predicted_does_not_enter_the_means() -> None:
    """fastai's JaccardCoeffMulti falls from 1.0 to 0.66 here."""
    truth = np.array([[0, 0, 0, 1]], dtype=np.uint8)
    said = np.array([[0, 0, 2, 1]], dtype=np.uint8)
    scores = Confusion.of(truth, said, 3)
    assert scores.iou[2] == 0
    assert scores.mean_iou == pytest.approx((2 / 3 + 1) / 2)


def test_scores_of_a_set_come_from_one_matrix_not_from_means_of_images() -> None:
    big, small = np.zeros((1, 9), dtype=np.uint8), np.zeros((1, 1), dtype=np.uint8)
    both = Confusion.of(big, big, 2) + Confusion.of(small, small + 1, 2)
    assert both.pixel_accuracy == pytest.approx(0.9)


def test_perfect_is_one_and_nothing_is_nan() -> None:
    perfect = Confusion.of(SAID, SAID, 3)
    assert perfect.pixel_accuracy == perfect.mean_iou == perfect.mean_dice == perfect.frequency_weighted_iou == 1
    assert np.isnan(Confusion.empty(3).pixel_accuracy)
    assert np.isnan(Confusion.empty(3).mean_iou)


def test_json_lists_the_classes_that_are_there() -> None:
    legend = Legend(tuple(LandClass(i, f"c{i}", (i, i, i)) for i in range(4)))
    report = Confusion.of(TRUTH, SAID, 4).to_json(legend)
    assert report["classes_present"] == 2
    assert report["per_class"]["c1"] == {"iou": 0.5, "dice": 0.6667, "share": round(3 / 7, 5)}


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        Confusion.of(TRUTH, SAID[:1], 3)


def test_reliability_by_hand() -> None:
    """Of two pixels at 90 % one is right, the one at 40 % is wrong; the void one does not count."""
    truth = np.array([1, 1, 2, NODATA], dtype=np.uint8)
    found = Reliability.of(truth, np.array([1, 2, 1, 1], np.uint8), np.array([90, 90, 40, 100], np.uint8))
    assert (found.seen[90], found.right[90], found.seen[40], found.right[40], found.seen.sum()) == (2, 1, 1, 0, 3)
    assert found.expected_calibration_error == pytest.approx((abs(1 - 1.8) + 0.4) / 3)
    assert (found + Reliability.empty()).seen.sum() == 3


def test_one_wrong_pixel_of_an_absent_class_costs_one_pixel() -> None:
    """fastai's JaccardCoeffMulti falls from 1.0 to 0.66: it takes the mean over a class that is not there."""
    truth = np.array([[0] * 50 + [1] * 50], dtype=np.uint8)
    said = truth.copy()
    said[0, 0] = 2
    scores = Confusion.of(truth, said, 3)
    assert scores.mean_iou == pytest.approx((49 / 50 + 1) / 2)
    assert scores.mean_dice == pytest.approx((98 / 99 + 1) / 2)
    assert scores.pixel_accuracy == pytest.approx(0.99)
    assert np.isnan(scores.recall[2])
    assert scores.precision[2] == 0


def test_void_is_ignored_whatever_is_said_there() -> None:
    """fastai's metrics count it as a class of its own."""
    truth = np.array([[0, 1, NODATA, NODATA]], dtype=np.uint8)
    for said in ([0, 1, 0, 1], [0, 1, 2, NODATA]):
        scores = Confusion.of(truth, np.array([said], dtype=np.uint8), 3)
        assert scores.pixel_accuracy == scores.mean_iou == scores.mean_dice == 1
        assert scores.counts.sum() == 2


def test_a_perfect_prediction_of_three_classes_has_a_dice_of_one() -> None:
    """fastai's Dice gives 2.0: it is for two classes."""
    truth = np.array([[0, 1, 2, 2]], dtype=np.uint8)
    scores = Confusion.of(truth, truth, 3)
    assert scores.dice.tolist() == [1, 1, 1]
    assert scores.mean_dice == 1


def test_a_score_over_the_set_is_not_the_mean_over_images() -> None:
    """Class 1: nothing of 1 px in the first image, all of 9 px in the second. Some report means over images."""
    images = [(np.array([[0] * 9 + [1]], np.uint8), np.zeros((1, 10), np.uint8))]
    images += [(np.array([[0] + [1] * 9], np.uint8), np.array([[0] + [1] * 9], np.uint8))]
    single = [Confusion.of(truth, said, 2) for truth, said in images]
    whole = single[0] + single[1]
    assert whole.iou == pytest.approx([10 / 11, 9 / 10])
    assert whole.mean_iou == pytest.approx((10 / 11 + 9 / 10) / 2)
    assert np.mean([scores.mean_iou for scores in single]) == pytest.approx(((9 / 10 + 0) / 2 + 1) / 2)


def test_precision_recall_and_share_by_hand() -> None:
    scores = Confusion.of(TRUTH, SAID, 4)
    assert scores.precision[:2] == pytest.approx([3 / 4, 2 / 3])
    assert scores.recall[:2] == pytest.approx([3 / 4, 2 / 3])
    assert scores.share == pytest.approx([4 / 7, 3 / 7, 0, 0])

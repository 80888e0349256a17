"""An evaluation as JSON and CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from aerialseg._version import __version__
from aerialseg.evaluation.results import Evaluation

SCORES, CONFUSION, CLASSES, FRAMES = "scores.json", "confusion.csv", "classes.csv", "frames.csv"


def scores_json(evaluation: Evaluation) -> dict[str, Any]:
    """What was compared, the scores over all of it, per class, and the reliability of the confidence."""
    scores = evaluation.confusion.to_json(evaluation.legend, evaluation.void)
    values = {"aerialseg": __version__, **evaluation.about, **scores}
    if evaluation.spread:
        values["without_one_scene"] = evaluation.spread.to_json()
    if evaluation.boundaries:
        values["boundaries"] = evaluation.boundaries.to_json()
    if evaluation.calibrated:
        values["reliability"] = evaluation.reliability.to_json()
    return values


def write_table(name: str, evaluation: Evaluation, path: Path) -> None:
    """Write one of SCORES, CONFUSION, CLASSES, FRAMES to ``path``."""
    if name == SCORES:
        text = json.dumps(scores_json(evaluation), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
        return
    rows = {CONFUSION: confusion_rows, CLASSES: class_rows, FRAMES: frame_rows}[name](evaluation)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def confusion_rows(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    """A line for each true class, a column for each predicted one: pixels."""
    yield "truth", *evaluation.legend.names
    for name, counts in zip(evaluation.legend.names, evaluation.table.tolist(), strict=True):
        yield name, *counts


def class_rows(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    """A line for each class; empty where a score has no meaning, as the class occurs nowhere."""
    found = evaluation.confusion
    columns = found.share, found.iou, found.dice, found.precision, found.recall
    yield "class", "pixels", "share", "iou", "dice", "precision", "recall"
    for entry in evaluation.legend:
        pixels = int(found.counts[entry.id].sum())
        yield entry.name, pixels, *_rounded(column[entry.id] for column in columns)


def frame_rows(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    """A line for each frame."""
    yield "frame", "scene", "pixels", "pixel_accuracy", "mean_iou", "mean_dice", "expected_calibration_error"
    for frame in evaluation.frames:
        found, pixels = frame.confusion, int(frame.confusion.counts.sum())
        scores = found.pixel_accuracy, found.mean_iou, found.mean_dice, frame.reliability.expected_calibration_error
        yield frame.name, frame.scene, pixels, *_rounded(scores)


def _rounded(values: Iterable[float]) -> list[float | str]:
    return [round(float(value), 6) if math.isfinite(value) else "" for value in values]

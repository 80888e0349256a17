"""The report of an evaluation: tables, and one HTML page that needs nothing else.

The pictures in the page are the data set's own: its terms hold for them.
"""

from __future__ import annotations

import datetime
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerialseg._version import __version__
from aerialseg.errors import UsageError
from aerialseg.evaluation import charts
from aerialseg.evaluation.axes import text
from aerialseg.evaluation.boundaries import TOLERANCE_PX
from aerialseg.evaluation.results import Evaluation, FrameScore
from aerialseg.evaluation.tables import CLASSES, CONFUSION, FRAMES, SCORES, write_table
from aerialseg.files import cannot_write, write_atomically
from aerialseg.model.card import ModelCard

REPORT = "report.html"
EACH = 3
"""Frames that are shown of each kind: best, typical, worst."""
CELL_PX, SIDE_PX = 40.0, 880.0
"""A cell of the confusion matrix; its side at most."""


def check_free(folder: str | Path, *, overwrite: bool = False) -> None:
    """Raise UsageError where ``folder`` is no folder, or holds files of a report that may not be replaced."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output {folder} is not a folder: give another name")
    there = [folder / name for name in (SCORES, CONFUSION, CLASSES, FRAMES, REPORT) if (folder / name).exists()]
    if there and not overwrite:
        raise UsageError(f"output {there[0]} exists: add --overwrite to replace it")


def write_report(
    folder: str | Path,
    evaluation: Evaluation,
    *,
    card: ModelCard | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """The paths written: scores.json, confusion.csv, classes.csv, frames.csv (where there are frames), report.html.

    card: of the model, with its history: the page shows how that was trained. The page comes last. Raises
    UsageError where the files exist, InputError where a frame has gone, OutputError.
    """
    folder = Path(folder)
    check_free(folder, overwrite=overwrite)
    page = draw_page(evaluation, card)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    made = []
    for name in (SCORES, CONFUSION, CLASSES, *([FRAMES] if evaluation.frames else ()), REPORT):
        made.append(folder / name)
        with write_atomically(made[-1]) as part:
            if name == REPORT:
                part.write_text(page, encoding="utf-8")
            else:
                write_table(name, evaluation, part)
    return made


def draw_page(evaluation: Evaluation, card: ModelCard | None) -> str:
    """The HTML page: it takes nothing from elsewhere. Raises InputError where a frame has gone."""
    shown = [(kind, [_frame(frame, evaluation) for frame in frames]) for kind, frames in choose(evaluation.frames)]
    page: str = (
        charts.templates()
        .get_template("report.html.j2")
        .render(
            title=f"Evaluation of {_subject(evaluation)}",
            evaluation=evaluation,
            scores=_headline(evaluation),
            facts=_facts(evaluation),
            shown=shown,
            key=_key(evaluation),
            bars=_class_bars(evaluation),
            classes=_class_lines(evaluation),
            heat=_heat(evaluation),
            absent=evaluation.absent,
            reliability=charts.reliability(evaluation.reliability.seen, evaluation.reliability.right),
            tenths=_tenths(evaluation),
            scenes=_scenes(evaluation),
            training=_training(card),
            card=card,
            version=__version__,
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )
    )
    return page


def choose(frames: Sequence[FrameScore], each: int = EACH) -> list[tuple[str, list[FrameScore]]]:
    """(kind, frames) by pixel accuracy: the best, those around the median, the worst; all where there are few."""
    known = [frame for frame in frames if frame.confusion.counts.sum()]
    ordered = sorted(known, key=lambda frame: (-frame.confusion.pixel_accuracy, frame.name))
    if len(ordered) <= 3 * each:
        return [("All frames, best first", ordered)] if ordered else []
    middle = (len(ordered) - each) // 2
    return [
        ("Best", ordered[:each]),
        ("Typical", ordered[middle : middle + each]),
        ("Worst", ordered[-each:]),
    ]


def _subject(evaluation: Evaluation) -> str:
    about = evaluation.about
    return str(about.get("model") or Path(about.get("classes", "")).name or "a map")


def _headline(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(score, its name, what it means)."""
    found = evaluation.confusion
    lines = [
        (found.pixel_accuracy, "pixel accuracy", "of all pixels, those that are right"),
        (found.mean_iou, "mean IoU", f"over the {int(found.present.sum())} classes that occur"),
        (found.mean_dice, "mean Dice", f"over the {int(found.present.sum())} classes that occur"),
        (found.frequency_weighted_iou, "frequency-weighted IoU", "each class weighs as its pixels do"),
    ]
    if evaluation.calibrated:
        error = evaluation.reliability.expected_calibration_error
        lines.append((error, "calibration error", "mean distance of confidence from truth"))
    if evaluation.boundaries:
        near = f"outlines within {TOLERANCE_PX} px of the truth's, mean of the classes"
        lines.append((evaluation.boundaries.mean_f_score, "boundary F-score", near))
    return [(f"{value:.3f}", name, meaning) for value, name, meaning in lines]


def _facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Facts of ``about``, as people read them; what is not known is left out."""
    facts = {name: value for name, value in evaluation.about.items() if value not in (None, "", {}, False)}
    return [(name.replace("_", " "), spoken(value)) for name, value in facts.items()]


def spoken(value: Any) -> str:
    """A value of a card as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(part, int) for part in value):
        return f"{value[0]} x {value[1]}"
    if isinstance(value, (list, tuple)):
        return ", ".join(spoken(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {spoken(part)}" for name, part in value.items())
    if isinstance(value, (int, float)):
        return text(value) if isinstance(value, float) else f"{value:,}" if value >= 10_000 else str(value)
    return "–" if value is None else str(value)


def _frame(frame: FrameScore, evaluation: Evaluation) -> dict[str, Any]:
    from aerialseg.evaluation.pictures import draw_frame

    return {
        "name": frame.name,
        "scene": frame.scene,
        "accuracy": f"{frame.confusion.pixel_accuracy:.1%}",
        "mean_iou": f"{frame.confusion.mean_iou:.3f}",
        "pictures": draw_frame(frame, evaluation),
    }


def _key(evaluation: Evaluation) -> list[Any]:
    """Classes that occur in truth or prediction, by their share."""
    met = evaluation.confusion.counts.sum(axis=0) + evaluation.confusion.counts.sum(axis=1)
    return [entry for entry in _by_share(evaluation) if met[entry.id]]


def _by_share(evaluation: Evaluation) -> list[Any]:
    share = evaluation.confusion.share
    return sorted(evaluation.legend, key=lambda entry: (-share[entry.id], entry.id))


def _class_bars(evaluation: Evaluation) -> str:
    found = evaluation.confusion
    rows = [
        charts.BarChart(
            entry.name, (found.iou[entry.id], found.dice[entry.id]), entry.hex, share_text(found.share[entry.id])
        )
        for entry in _by_share(evaluation)
        if found.present[entry.id]
    ]
    label = "IoU and Dice, 0 to 1"
    return charts.bars(rows, label, keys=("IoU", "Dice"), top_value=1.0, note_title="share of pixels", width=1040)


def share_text(share: float) -> str:
    """A share in per cent with digits enough to see it."""
    return f"{share:.1%}" if share >= 0.01 else f"{share:.3%}" if share >= 1e-5 else "< 0.001%"


def _class_lines(evaluation: Evaluation) -> list[dict[str, Any]]:
    found = evaluation.confusion
    columns = found.iou, found.dice, found.precision, found.recall
    return [
        {
            "entry": entry,
            "pixels": f"{int(found.counts[entry.id].sum()):,}",
            "share": share_text(found.share[entry.id]),
            "scores": [_number(column[entry.id]) for column in columns],
        }
        for entry in _by_share(evaluation)
        if found.present[entry.id]
    ]


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


def _heat(evaluation: Evaluation) -> str:
    """The confusion matrix of the classes that occur in truth or prediction, by share."""
    entries = _key(evaluation)
    ids = [entry.id for entry in entries]
    counts = evaluation.confusion.counts[np.ix_(ids, ids)]
    return charts.heat(counts, [entry.name for entry in entries], cell=min(CELL_PX, SIDE_PX / len(ids)))


def _tenths(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(confidence from and to, pixels that were given it, part of them that is right), for each tenth of it."""
    groups = np.minimum(np.arange(101) // 10, 9)
    sides = evaluation.reliability.seen, evaluation.reliability.right
    seen, right = (np.bincount(groups, weights=counts, minlength=10) for counts in sides)
    return [
        (f"{n / 10:.1f} to {(n + 1) / 10:.1f}", f"{seen[n] / seen.sum():.1%}", f"{right[n] / seen[n]:.1%}")
        for n in np.flatnonzero(seen)
    ]


def _scenes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Scores of each scene, best first; none where scenes are not known."""
    counts = Counter(frame.scene for frame in evaluation.frames)
    lines = [{"scene": scene, "frames": counts[scene], "found": found} for scene, found in evaluation.scenes.items()]
    return sorted(lines, key=lambda line: -line["found"].pixel_accuracy)


def _training(card: ModelCard | None) -> dict[str, Any] | None:
    """Curves, searches and configuration, as far as they are known."""
    if card is None or not card.training:
        return None
    from aerialseg.evaluation.curves import curves, searches, steps_of

    told = ("history", "searches", "config", "steps", "calibration")
    known = {name: value for name, value in card.training.items() if name not in told}
    config = card.training.get("config")
    return {
        "curves": curves(card.training),
        "searches": searches(card.training),
        "facts": [(name.replace("_", " "), spoken(value)) for name, value in known.items()],
        "steps": [{name: spoken(value) for name, value in step.items()} for step in steps_of(card.training)],
        "config": json.dumps(config, indent=1, ensure_ascii=False) if config else "",
    }

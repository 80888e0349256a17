"""The tables and figures of docs/model.md: a model scored on the frames that its training held out.

    python benchmarks/model_page.py MODEL --data DIR --config configs/training/drone-on.toml [--out docs/images]

Prints Markdown; with --out it writes model-confusion.svg and model-reliability.svg there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aerialseg.evaluation.charts import heat, reliability, standalone
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.evaluation.results import Evaluation


def tables(found: Evaluation) -> str:
    """Scores, and scores by class, the commonest first, as Markdown."""
    confusion, shares = found.confusion, found.confusion.share
    rows = {
        "pixel accuracy": f"**{confusion.pixel_accuracy:.4f}**",
        "mean IoU over the classes present": f"**{confusion.mean_iou:.4f}**",
        "mean Dice": f"{confusion.mean_dice:.4f}",
        "frequency-weighted IoU": f"{confusion.frequency_weighted_iou:.4f}",
        "expected calibration error of the confidence": f"{found.reliability.expected_calibration_error:.4f}",
        "classes in the truth": str(int(confusion.present.sum())),
        "pixels": f"{int(confusion.counts.sum()):,}",
        "always saying the commonest class: accuracy": f"{shares.max():.3f}",
    }
    lines = ["| measure | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["| class | share of pixels | IoU | Dice |", "|---|---|---|---|"]
    entries = list(found.legend)
    for at in np.argsort(-shares):
        if shares[at] > 0:
            scores = f"{confusion.iou[at]:.3f} | {confusion.dice[at]:.3f}"
            lines.append(f"| {entries[at].name} | {shares[at]:.2%} | {scores} |")
    return "\n".join([*lines, "", *places(found)])


def places(found: Evaluation) -> Iterator[str]:
    """Scores by place, the one with most frames first, and how far the whole depends on each, as Markdown."""
    counts = Counter(frame.scene for frame in found.frames)
    yield from ("| place | frames | accuracy | mean IoU |", "|---|---|---|---|")
    for scene, frames in counts.most_common():
        if scene:
            scores = found.scenes[scene]
            yield f"| {scene} | {frames} | {scores.pixel_accuracy:.3f} | {scores.mean_iou:.3f} |"
    if found.spread:
        yield f"\n{found.spread.text()}"


def draw(found: Evaluation, folder: Path) -> list[Path]:
    """The confusion matrix of what occurs or is said, and the reliability of the confidence."""
    counts = found.confusion.counts
    there = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    names = [entry.name for entry in found.legend]
    charts = {
        "model-confusion.svg": heat(counts[np.ix_(there, there)], [names[at] for at in there]),
        "model-reliability.svg": reliability(found.reliability.seen, found.reliability.right),
    }
    for name, chart in charts.items():
        (folder / name).write_text(standalone(chart) + "\n", encoding="utf-8")
    return [folder / name for name in charts]


def main() -> None:
    """Score, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = evaluate(given.model, given.data, config=given.config, precision=given.precision)
    print(f"{found.about['numerics']}, {len(found.frames)} frames\n\n{tables(found)}")
    if given.out:
        print(*draw(found, given.out), sep="\n")


if __name__ == "__main__":
    main()

"""What resolution does to learning: runs of equal computing, judged on the same held-out frames at the same resolution.

The runs differ in the sizes at which they see the frames, and in nothing else. Equal computing means an equal number of
pixels learnt from: a network of convolutions does the same work for each. Where the steps have a stride, the network is
judged with finer layers that pass on what its coarse classifier says. (Howard et al. 2018, "Training Imagenet in 3
hours for 25 minutes", for progressive resizing.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aerialseg.errors import UsageError
from aerialseg.evaluation.resolutions import evaluate_sizes
from aerialseg.files import write_atomically
from aerialseg.model.folders import CARD
from aerialseg.progress import Progress, Silent, counted
from aerialseg.toml import convert, naming_file, read_toml
from aerialseg.training.config import Step, TrainingConfig
from aerialseg.training.export import save_trained
from aerialseg.training.learner import find_weights
from aerialseg.training.loop import TrainingLoop
from aerialseg.training.train_run import locked_folder
from aerialseg.training.training_frames import load_training_frames

RESULTS, SHOWN = "results.json", "pictures"


@dataclass(frozen=True, slots=True)
class Leg:
    """A part of a run: frames of ``size`` (rows, columns), crops, and its ``share`` of the run's pixels."""

    size: tuple[int, int]
    share: float = 1.0
    crop: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """Runs of a training that differ in their legs alone.

    training: everything else of them; its own steps say batch and learning rate of all. budget_mpx: megapixels that
    each run learns from, kept to the nearest whole epoch.
    """

    training: TrainingConfig
    budget_mpx: float
    runs: Mapping[str, tuple[Leg, ...]]

    @classmethod
    def read(cls, path: str | Path) -> Experiment:
        """The experiment of a TOML file: a training configuration with budget_mpx and [[runs]]. Raises UsageError."""
        path = Path(path)
        values = read_toml(path, "experiment")
        budget = convert(values.pop("budget_mpx", None), float, f"{path}: budget_mpx")
        runs = convert(values.pop("runs", []), tuple[dict[str, Any], ...], f"{path}: runs")
        if not 0 < budget < math.inf or not runs:
            raise UsageError(f"{path}: wanted budget_mpx, above 0, and [[runs]]; met {budget!r} and {len(runs)} runs")
        with naming_file(path):
            training = TrainingConfig.from_dict(values, path.parent)
        if training.teaches or training.follow.wanted:
            raise UsageError(
                f"{path}: an experiment compares models without a teacher: leave out [follow] and pyramids"
            )
        return cls(training, budget, {_name(run, path): _legs(run, path) for run in runs})

    def config(self, run: str, frames: int) -> TrainingConfig:
        """The training of a run over so many frames."""
        model = self.training.steps[0]
        steps = tuple(
            replace(model, size=leg.size, crop=leg.crop, epochs=self._epochs(leg, frames)) for leg in self.runs[run]
        )
        return replace(self.training, name=f"{self.training.name}-{run}", steps=steps)

    def _epochs(self, leg: Leg, frames: int) -> int:
        rows, cols = leg.crop or leg.size
        return max(1, round(self.budget_mpx * 1e6 * leg.share / (frames * rows * cols)))


def _name(run: Mapping[str, Any], path: Path) -> str:
    if not isinstance(run.get("name"), str) or not run["name"].replace("-", "").isalnum():
        raise UsageError(f"{path}: a run's name is {run.get('name')!r}; wanted letters, digits and hyphens")
    return str(run["name"])


def _legs(run: Mapping[str, Any], path: Path) -> tuple[Leg, ...]:
    legs: tuple[Leg, ...] = convert(run.get("legs"), tuple[Leg, ...], f"{path}: legs of run {run['name']!r}")
    total = sum(leg.share for leg in legs)
    if abs(total - 1) > 0.01:
        raise UsageError(f"{path}: the shares of run {run['name']!r} add up to {total}; wanted 1")
    return legs


def experiment(
    config_path: str | Path,
    data_dir: str | Path,
    out_dir: str | Path,
    *,
    encoder_weights: str | Path | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """A record for each step of each run, which ``out_dir``/results.json keeps; models lie in ``out_dir``/models.

    Goes on where it was cut off. Each step is scored twice on all held-out frames, always at the final resolution:
    "final" as the model sees them there, "own" as it sees them at the size that it has learnt at, its labels enlarged.
    Raises InputError, ModelError, UsageError, ResourceError, OutputError.
    """
    progress, wanted, out_dir = progress or Silent(), Experiment.read(config_path), Path(out_dir)
    find_weights(wanted.training, encoder_weights)
    with locked_folder(out_dir):
        sides = load_training_frames(wanted.training, data_dir, out_dir / "prepared", progress)
        results = _read_results(out_dir)
        for run in wanted.runs:
            config = wanted.config(run, len(sides.learn))
            steps = [f"{step.size[0]} px x {counted(step.epochs, 'epoch')}" for step in config.steps]
            progress.note(f"run {run}: {', '.join(steps)}")
            work = out_dir / "runs" / run
            work.mkdir(parents=True, exist_ok=True)
            loop = TrainingLoop(config, sides, work, encoder_weights, progress)
            loop.run()
            for number in range(len(config.steps)):
                if not any(record["run"] == run and record["step"] == number for record in results):
                    results.append(_judge(loop, run, number, out_dir, data_dir, progress))
                    _write_results(out_dir, results)
    return results


def _judge(
    loop: TrainingLoop,
    run: str,
    number: int,
    out_dir: Path,
    data_dir: str | Path,
    progress: Progress,
) -> dict[str, Any]:
    """The record of a step: what it took, and how its model does."""
    config, sides, saved = loop.config, loop.sides, loop.learners.whole(number)
    step, folder = config.steps[number], out_dir / "models" / f"{run}-{number}"
    save_trained(folder, config, saved, loop.work)
    history = [record for record in saved.history if record["step"] == number]
    legend, pictures = sides.legend, out_dir / SHOWN / folder.name
    found = evaluate_sizes(folder, data_dir, config.data, step.size, shown=pictures, progress=progress)
    void = config.data.void
    scores = {name: confusion.to_json(legend, void) for name, confusion in found.items()}
    shown = [f"{name}: {confusion.spoken(legend, void)}" for name, confusion in found.items()]
    progress.note(f"{run}, step {number}: {'; '.join(shown)}")
    return {
        "run": run,
        "step": number,
        **_cost(step, history, len(sides.learn)),
        "scores": scores,
        "pictures": f"{SHOWN}/{folder.name}",
        "model": f"models/{folder.name}/{CARD}",
        "search": next((s for s in saved.searches if s["step"] == number), {}),
        "history": history,
    }


def _cost(step: Step, history: list[dict[str, Any]], frames: int) -> dict[str, Any]:
    return {
        "size": list(step.size),
        "crop": list(step.seen),
        "epochs": len(history),
        "mpx": round(len(history) * frames * step.seen[0] * step.seen[1] / 1e6, 1),
        "lr": history[-1]["lr"],
        "batch": history[-1]["batch"],
        "at_once": history[-1]["at_once"],
        "seconds": round(sum(record["seconds"] for record in history), 1),
        "peak_mb": max(record.get("peak_mb", 0) for record in history),
    }


def _read_results(folder: Path) -> list[dict[str, Any]]:
    path = folder / RESULTS
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def _write_results(folder: Path, results: list[dict[str, Any]]) -> None:
    with write_atomically(folder / RESULTS) as part:
        part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

"""One teaching at work: linear classifiers, fine-tuning, the mean of both; held-out ground decides what is kept."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aerialseg._version import __version__
from aerialseg.datasets.chipset import ABOUT, IMAGES, LEGEND, MASKS, SPLIT, ChipSet
from aerialseg.datasets.layout import DataConfig
from aerialseg.errors import InputError, UsageError
from aerialseg.evaluation.calibrate import calibrate_on
from aerialseg.evaluation.evaluate import evaluate
from aerialseg.evaluation.report import REPORT, write_report
from aerialseg.evaluation.results import Evaluation
from aerialseg.files import naming_errors, write_json
from aerialseg.model.card import Architecture, ModelCard
from aerialseg.model.folders import CARD, NETWORK, WEIGHTS
from aerialseg.model.lineage import Parent, derived_from
from aerialseg.model.network import Network
from aerialseg.model.networks import build_for
from aerialseg.model.stage_heads import StageHeads
from aerialseg.model.store import HISTORY, load_whole_card, save, write_history
from aerialseg.progress import Progress, counted, spoken_duration
from aerialseg.training.teaching.chip_pixels import ChipPixels
from aerialseg.training.teaching.fine_tune import CHECKPOINT, Tuning, fine_tune, mean_of_both, time_step
from aerialseg.training.teaching.lesson import LABELS, TEACHING, Lesson, Taught, spoken_sides
from aerialseg.training.teaching.stage_fit import fit_heads

PLAN, REPORTS = "plan.json", "report"
SCRATCH = "scratch"
ARCHITECTURE = Architecture(encoder="resnet34", decoder="stage-heads")
HEAD, TUNED, MEAN = "head alone", "fine-tuned", "mean of both"
LEAST_STEPS = 20
"""Fewer steps of fine-tuning teach nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class TaughtModel:
    """A model that was taught. ``scores``: what was tried -> its evaluation on held-out ground; ``chosen``: the one
    that is the model; ``options``: what a map of these orthophotos needs beside it."""

    folder: Path
    report: Path
    orthos: tuple[str, ...]
    scores: dict[str, Evaluation]
    chosen: str
    options: str = ""

    @property
    def evaluation(self) -> Evaluation:
        return self.scores[self.chosen]

    def text(self) -> str:
        """Scores for people, and what to type next."""
        lines = [f"{'on held-out ground':<20}{'accuracy':>10}{'mean IoU':>10}"]
        for name, found in self.scores.items():
            mark = "  <- the model" if name == self.chosen else ""
            accuracy, iou = found.confusion.pixel_accuracy, found.confusion.mean_iou
            lines.append(f"{name:<20}{accuracy:>10.3f}{iou:>10.3f}{mark}")
        ortho = f"'{self.orthos[0]}'" if " " in self.orthos[0] else self.orthos[0]
        more = " ..." if len(self.orthos) > 1 else ""
        return "\n".join(
            [*lines, f"next: segment-raster {ortho}{more} landcover.gpkg --model {self.folder}{self.options}"]
        )


@dataclass(eq=False)
class Teaching:
    """One teaching at work in its folder."""

    work: Path
    lesson: Lesson
    made: ChipSet
    parent: ModelCard | None
    network: Network | None
    seed: int
    licence: str
    progress: Progress

    @property
    def data(self) -> DataConfig:
        chips, void = self.made.folder, [c.id for c in self.made.legend if c.name not in self.made.labelled]
        return DataConfig(
            chips / LEGEND, chips / SPLIT, self.made.size, self.made.gsd_m, IMAGES, MASKS, void=tuple(void)
        )

    def begin(self, minutes: float, steps: int | None) -> None:
        """Forget what another teaching has left in this folder: of other labels, imagery or settings."""
        wanted = {"data": self._digest(), "seed": self.seed, "minutes": minutes, "steps": steps}
        wanted["parent"] = self.parent.weights_sha256 if self.parent else SCRATCH
        if self._plan_file().get("wanted") != wanted:
            (self.work / CHECKPOINT).unlink(missing_ok=True)
            write_json(self.work / PLAN, {"wanted": wanted})

    def _plan_file(self) -> dict[str, Any]:
        path = self.work / PLAN
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return known

    def _digest(self) -> str:
        """Of the pixels that are taught: the orthophotos' bytes, and the masks'."""
        about = json.loads((self.made.folder / ABOUT).read_text(encoding="utf-8"))
        found = hashlib.sha256(repr([{**one, "path": ""} for one in about["inputs"] if not one.get("labels")]).encode())
        for chip in self.made.chips:
            found.update(f"{chip.frame} {chip.held_out} ".encode())
            found.update((self.made.folder / MASKS / f"{chip.frame}.png").read_bytes())
        return found.hexdigest()

    def teach(self, steps: int | None, budget_s: float | None) -> dict[str, Evaluation]:
        """What was tried, each saved in its folder, and how it did on held-out ground."""
        self.progress.note(_promise(self.made, steps, budget_s, more=self.lesson.before is not None))
        frames = [chip.frame for chip in self.made.chips if not chip.held_out]
        card = self._card()
        chips = ChipPixels(self.made.folder, frames, len(self.made.legend), card)
        network = self._heads(card)
        torch.manual_seed(self.seed)
        scores, clock = {}, time.monotonic()
        if self.parent is not None:
            fit_heads(network, chips, self.seed, self.progress)
            fitted = time.monotonic()
            scores[HEAD] = self._scored(HEAD, card, network)
            clock -= 3 * (time.monotonic() - fitted)  # two more are scored, and one of the three is calibrated
        tuning = self._plan(network, chips, steps, (budget_s or 0.0) - (time.monotonic() - clock))
        if tuning is not None:
            before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
            fine_tune(network, chips, tuning, self.work, self.progress)
            scores[TUNED] = self._scored(TUNED, card, network)
            if self.parent is not None:
                network.load_state_dict(mean_of_both(before, network.state_dict()))
                scores[MEAN] = self._scored(MEAN, card, network)
        if not scores:
            raise UsageError(
                "--from scratch needs more --minutes or --steps, because linear classifiers need a trained encoder: "
                f"the training consists of fine-tuning, of at least {LEAST_STEPS} steps"
            )
        return scores

    def _plan(self, network: Network, chips: ChipPixels, steps: int | None, left_s: float) -> Tuning | None:
        """How much fine-tuning there is time for; an interrupted one goes on with what was planned."""
        known = self._plan_file()
        steps = known.get("steps", steps)
        tuning = Tuning(steps or LEAST_STEPS, self.seed, keep_norms=self.parent is not None)
        if steps is None:
            each = time_step(network, chips, tuning)
            steps = int(max(0.0, left_s) / each)
            wanted = math.ceil(known["wanted"]["minutes"] + (LEAST_STEPS * each - left_s) / 60)
            none = f"no time for {LEAST_STEPS}, the least; --minutes {wanted} would do"
            fits = f"{steps:,} steps" if steps >= LEAST_STEPS else none
            self.progress.note(f"{each:.2f} s for each step of fine-tuning here: {fits}")
            write_json(self.work / PLAN, {**known, "steps": steps})
        return replace(tuning, steps=steps) if steps >= LEAST_STEPS else None

    def _heads(self, card: ModelCard) -> StageHeads:
        network = build_for(card)
        assert isinstance(network, StageHeads)
        if self.network is not None:
            known = self.network.encoder_layers().state_dict().values()  # under names of their own in each network
            network.encoder.load_state_dict(dict(zip(network.encoder.state_dict(), known, strict=True)))
        return network

    def _card(self) -> ModelCard:
        encoder = self.parent.architecture.encoder if self.parent else ARCHITECTURE.encoder
        card = ModelCard(
            name=self.work.parent.name,
            legend=self.made.legend,
            gsd_m=self.made.gsd_m,
            architecture=replace(ARCHITECTURE, encoder=encoder),
            void=self.data.void,
            description=f"Land cover, taught with labels on {Path(self.lesson.orthos[0]).name}: "
            f"{', '.join(self.made.labelled)}.",
            licence=self.licence,
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            code_version=__version__,
        )
        if self.parent is None:
            return card
        card = replace(card, mean=self.parent.mean, std=self.parent.std)
        return derived_from(card, [Parent.of(self.parent)], "Trained on from the model")

    def _scored(self, name: str, card: ModelCard, network: Network) -> Evaluation:
        folder = self.work / name.replace(" ", "-")
        save(folder, card, network.state_dict())
        found = evaluate(folder, self.made.folder, config=self.data, progress=self.progress)
        self.progress.note(f"{name}: {found.confusion.spoken(found.legend, found.void)}")
        return found


def _promise(made: ChipSet, steps: int | None, budget_s: float | None, *, more: bool) -> str:
    held = list(made.blocks.values())
    long = counted(steps, "step") if steps else f"up to {spoken_duration(budget_s or 0)}" if steps is None else ""
    tuned = f"; then fine-tuning, {long}" if long else ""
    return (
        f"teaching {counted(len(made.labelled), 'class')} on {counted(len(made.chips), 'chip')}: linear "
        f"classifiers, in seconds{tuned}; tested on {made.share:.0%} of the labelled pixels, "
        f"{held.count(True)} of {counted(len(held), 'block')} of ground"
        + (", those held out before: added labels alone change their share" if more else "")
    )


def finish(room: Teaching, out: Path, scores: dict[str, Evaluation]) -> TaughtModel:
    """The better one as the model in ``out``: calibrated, with its report and what ``--more`` needs."""
    chosen = max(scores, key=lambda name: (scores[name].confusion.mean_iou, name == HEAD))
    folder = room.work / chosen.replace(" ", "-")
    card, found = load_whole_card(folder), scores[chosen]
    facts = {name: one.confusion.to_json(one.legend, one.void) for name, one in scores.items()}
    replace(card, scores={"held_out": facts[chosen]}, training={}).write(folder / CARD)
    write_history(folder, {"labels": spoken_sides(room.made), "tried": _short(facts), "seed": room.seed})
    try:
        calibration = calibrate_on(folder, room.made.folder, config=room.data, least=1.0, progress=room.progress)
        room.progress.note(calibration.text())  # 1: few labels never justify more confidence
    except InputError as error:  # of one block alone nothing is left to test on
        room.progress.note(f"the confidence is not calibrated: {error}")
    about = {"model": out.name, "chosen": chosen, **_short(facts), "orthophotos": list(room.lesson.orthos)[:5]}
    report = replace(found, about={**found.about, **about})
    write_report(out / REPORTS, report, card=load_whole_card(folder), overwrite=True)
    with naming_errors(out):
        labels = room.work / LABELS
        if labels.exists():
            labels.replace(out / LABELS)
        (out / TEACHING).write_text(Taught.of(room.made, room.lesson).text(), encoding="utf-8")
        for name in (WEIGHTS, NETWORK, HISTORY, CARD):  # the card comes last: with it the model is complete
            (folder / name).replace(out / name)
        shutil.rmtree(room.work, ignore_errors=True)
    return TaughtModel(out, out / REPORTS / REPORT, room.lesson.orthos, scores, chosen, room.lesson.reading.options)


def _short(facts: dict[str, Any]) -> dict[str, str]:
    return {
        name: f"pixel accuracy {found['pixel_accuracy']:.3f}, mean IoU {found['mean_iou']:.3f}"
        for name, found in facts.items()
    }

"""What a run looks like: bars on a terminal, plain lines in a log file, a table at the end. All of it on stderr."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from aerialseg.cli.failures import tell, unharmed
from aerialseg.files import printable
from aerialseg.progress import Progress, Silent, counted, spoken_duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from aerialseg.evaluation.results import Evaluation
    from aerialseg.mapping.result import ClassShare, LayerResult, Result
    from aerialseg.mapping.timeline import StageTime

LABELS = {
    "download": "Fetching",
    "decode": "Decoding the input",
    "blocks": "Classifying",
    "mosaic": "Joining blocks",
    "polygons": "Drawing polygons",
    "rasters": "Writing rasters",
    "report": "Writing the report",
    "prepare": "Preparing images",
    "teach": "Reading features",
    "search": "Searching for the learning rate",
    "train": "Training",
    "score": "Scoring",
    "zones": "Measuring zones",
    "calibrate": "Calibrating",
    "features": "Finding features",
    "links": "Matching frames",
    "classes": "Counting classes",
    "collection": "Writing the STAC collection",
}
TIMES = {
    "decode": "decode the input",
    "blocks": "all blocks",
    "load": "  load the model",
    "read": "  read",
    "queue": "  wait for device",
    "predict": "  predict",
    "write": "  write",
    "mosaic": "  join",
    "hash": "  hash the input",
    "polygons": "polygons",
    "rasters": "rasters",
}
LINE_EVERY_S = 10.0


@contextmanager
def progress(quiet: bool = False, own: Progress | None = None, *, first: str = "") -> Iterator[Progress]:
    """A listener (``own``, if given) for what stderr is: a terminal, or a file that somebody reads tomorrow.

    first: its first line, to be written before heavy imports, which take seconds.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    listener: Progress = Silent() if quiet else ProgressBars(console) if console.is_terminal else ProgressLines()
    listener = own or listener
    handler = _Warnings(listener)
    logger = logging.getLogger("aerialseg")
    logger.addHandler(handler)
    try:
        with listener if isinstance(listener, ProgressBars) else nullcontext():
            if first:
                listener.note(first)
            yield listener
    finally:
        logger.removeHandler(handler)


def opening(sources: Sequence[str | Path]) -> str:
    """The first line of a command that begins with opening these."""
    more = f" and {counted(len(sources) - 1, 'other')}" if len(sources) > 1 else ""
    return f"Opening {printable(sources[0])}{more}"


class _Warnings(logging.Handler):
    """Hands the library's warnings to the listener, so that they do not tear the bars."""

    def __init__(self, listener: Progress) -> None:
        super().__init__(logging.WARNING)
        self.listener = listener

    def emit(self, record: logging.LogRecord) -> None:
        self.listener.note(f"warning: {record.getMessage()}")


class ProgressLines:
    """One plain line when a stage begins and at most every ten seconds after, with the time that is left."""

    def __init__(self, labels: Mapping[str, str] = LABELS, every_s: float = LINE_EVERY_S) -> None:
        self._labels, self._every_s = labels, every_s
        self._name, self._total, self._done = "", 0.0, 0.0
        self._begun = self._said = time.monotonic()

    def note(self, message: str) -> None:
        _line(message)

    def stage(self, name: str, total: float) -> None:
        self._name, self._total, self._done = self._labels.get(name, name), total, 0.0
        self._begun = self._said = time.monotonic()
        self._show_stage()

    def advance(self, amount: float) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said < self._every_s or not 0 < self._done < self._total:
            return  # what is done at the end of a stage is not said to be 0 s away: something else may follow
        self._said = now
        left = (now - self._begun) * (self._total - self._done) / self._done
        self._show_progress(self._done / (self._total or 1), left)

    def _show_stage(self) -> None:
        _line(self._name)

    def _show_progress(self, fraction: float, left_s: float) -> None:
        _line(f"{self._name}: {fraction:.0%}, about {spoken_duration(left_s)} left")


class ProgressBars:
    """Live bars. The estimate is of this stage, from the speed of this run."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import TimeRemainingColumn as Left

        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/]"),
            Left(),
        )
        self._bars = Progress(*columns, console=console, speed_estimate_period=600)
        self._task: TaskID | None = None
        self._total = 0.0

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def note(self, message: str) -> None:
        self._bars.console.print(message, markup=False)

    def stage(self, name: str, total: float) -> None:
        self._finish()
        self._total = total or 1.0
        self._task = self._bars.add_task(LABELS.get(name, name), total=self._total)

    def advance(self, amount: float) -> None:
        if self._task is not None:
            self._bars.advance(self._task, amount)

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=self._total)


@contextmanager
def console_for_people() -> Iterator[Console]:
    """A console whose content is written to stderr at the end of the block."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    with unharmed(sys.stderr):  # rich writes to it while it captures
        with console.capture() as captured:
            yield console
        tell(captured.get(), newline=False)


def show_result(result: Result | LayerResult) -> None:
    """Share and area per class, time per stage."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from aerialseg.mapping.result import Result

    with console_for_people() as console:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("class")
        table.add_column("area", justify="right")
        table.add_column("share", justify="right")
        trust = result.trust.by_class if isinstance(result, Result) else {}
        if trust:
            table.add_column("confidence", justify="right")
        for line in result.classes:
            swatch = f"[{line.color}]■[/] " if console.color_system else ""
            rated = [f"{trust[line.class_id].mean:.0%}" if line.class_id in trust else ""] if trust else []
            table.add_row(swatch + escape(line.name), _area([line], result.classes), f"{line.share:.1%}", *rated)
        total = _area(result.classes, result.classes)
        console.print(table)
        if isinstance(result, Result) and result.trust.whole:
            console.print(result.trust.whole.text)
        console.print(f"{counted(result.polygons, 'polygon')} over {total} in {_times(result.seconds)}", soft_wrap=True)


def show_scores(evaluation: Evaluation) -> None:
    """Scores over all pixels, then each class of the truth, by its share."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    with console_for_people() as console:
        found = evaluation.confusion
        share, iou, dice = found.share, found.iou, found.dice
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("class")
        for title in ("share", "IoU", "Dice"):
            table.add_column(title, justify="right")
        for entry in sorted(evaluation.legend, key=lambda entry: -share[entry.id]):
            if found.present[entry.id]:
                swatch = f"[{entry.hex}]■[/] " if console.color_system else ""
                scores = f"{share[entry.id]:.2%}", f"{iou[entry.id]:.3f}", f"{dice[entry.id]:.3f}"
                table.add_row(swatch + escape(entry.name), *scores)
        console.print(table)
        console.print("\n".join(score_lines(evaluation)), markup=False, soft_wrap=True)


def score_lines(evaluation: Evaluation) -> Iterator[str]:
    """Scores over all pixels, one a line."""
    found, about = evaluation.confusion, evaluation.about
    if evaluation.frames:
        selection, numerics = (about.get(name, "") for name in ("selection", "numerics"))
        yield f"{counted(len(evaluation.frames), 'frame')}, {selection}; computed in {numerics}"
    yield f"{int(found.counts.sum()):,} pixels of {counted(int(found.present.sum()), 'class')}"
    if evaluation.absent:
        yield f"not in the truth, so in no score: {', '.join(evaluation.absent)}"
    yield f"pixel accuracy          {found.pixel_accuracy:.4f}"
    yield f"mean IoU                {found.mean_iou:.4f}"
    yield f"mean Dice               {found.mean_dice:.4f}"
    yield f"frequency-weighted IoU  {found.frequency_weighted_iou:.4f}"
    if evaluation.calibrated:
        yield f"calibration error       {evaluation.reliability.expected_calibration_error:.4f}"
    if evaluation.boundaries:
        yield evaluation.boundaries.text()
    if evaluation.spread:
        yield evaluation.spread.text()


def show_timeline(stages: Iterable[StageTime]) -> None:
    """When each stage was at work and how fast; stages overlap, so their shares add up to more than the whole."""
    from rich import box
    from rich.table import Table

    with console_for_people() as console:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("stage")
        for title in ("from", "to", "at work", "threads", "Mpx/s", "busy"):
            table.add_column(title, justify="right")
        for line in stages:
            times = (line.begin, line.end, line.seconds, line.thread_seconds)
            name, busy = TIMES.get(line.stage, line.stage), f"{line.busy_share:.0%}"
            table.add_row(name, *(f"{seconds:,.1f} s" for seconds in times), _speed(line.mpx_per_s), busy)
        console.print(table)


def _times(seconds: Mapping[str, float]) -> str:
    """All of it, and the stages that a person has seen."""
    stages = {name: seconds[name] for name in ("blocks", "polygons", "rasters") if name in seconds}
    parts = [f"{LABELS[name].lower()} {spoken_duration(spent)}" for name, spent in stages.items()]
    return f"{spoken_duration(seconds.get('total', sum(stages.values())))} ({', '.join(parts)})"


def _speed(mpx_per_s: float | None) -> str:
    if mpx_per_s is None:
        return ""
    return f"{mpx_per_s:,.0f}" if mpx_per_s >= 100 else f"{mpx_per_s:.3g}"


def _area(classes: Sequence[ClassShare], whole: Sequence[ClassShare]) -> str:
    """Of these classes, in the unit that fits the whole map; in pixels where their size on the ground is not known."""
    if any(line.area_m2 is None for line in whole):
        return f"{sum(line.pixels for line in classes):,} px²"
    area_m2, total_m2 = (sum(line.area_m2 or 0.0 for line in lines) for lines in (classes, whole))
    if total_m2 < 1e4:
        return f"{area_m2:,.1f} m²"
    return f"{area_m2 / 1e4:,.3f} ha" if total_m2 < 1e6 else f"{area_m2 / 1e6:,.3f} km²"


def _line(text: str) -> None:
    tell(f"{time.strftime('%H:%M:%S')} {text}")

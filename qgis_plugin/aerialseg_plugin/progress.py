"""The lines of ``--json-progress`` as what Processing shows: stage, per cent, time left, log.

Nothing of QGIS is imported here; ``feedback`` is a QgsProcessingFeedback.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

STAGES = {
    "blocks": ("Classifying", 2, 80),
    "mosaic": ("Joining blocks", 80, 82),
    "polygons": ("Drawing polygons", 82, 97),
    "rasters": ("Writing rasters", 97, 100),
    "zones": ("Measuring zones", 2, 100),
    "teach": ("Reading features", 2, 20),
    "train": ("Training", 20, 98),
}
"""Stage -> what it is called, and the part of the bar that is its own, in per cent."""
ALONE = {"polygons": ("Drawing polygons", 2, 100)}
"""The same where polygons are all that is made."""
EVERY_S = 5.0
"""Each text of progress is also a line of the log."""


class ProgressReader:
    """Takes the lines of a command. ``error`` is its last message of one, ``paths`` what it made."""

    def __init__(self, feedback, stages=STAGES, clock: Callable[[], float] = time.monotonic) -> None:
        self._feedback, self._stages, self._clock = feedback, stages, clock
        self._shown, self._shown_at = "", 0.0
        self.error, self.paths = "", []
        self._plain: list[str] = []

    def take(self, stream: str, line: str) -> None:
        event = _event(line) if stream == "stderr" else {}
        kind = event.get("event")
        if kind == "stage":
            self._show(event["stage"], 0.0, None)
        elif kind == "progress":
            self._show(event["stage"], event["fraction"], event.get("seconds_left"))
        elif kind == "note":
            self._feedback.pushInfo(event["message"])
        elif kind == "warning":
            self._feedback.pushWarning(event["message"])
        elif kind == "error":
            self.error = event["message"]
        elif kind == "done":
            self.paths = event["paths"]
        elif not kind and line.strip():
            self._plain = [*self._plain[-20:], line]
            self._feedback.pushConsoleInfo(line)

    def failure(self, code: int) -> str:
        """What went wrong, of a command that ended with that code."""
        return self.error or "\n".join([*self._plain, f"aerialseg ended with exit code {code}."])

    def _show(self, stage: str, fraction: float, seconds_left: float | None) -> None:
        name, begin, end = self._stages.get(stage, (stage.capitalize(), 0, 100))
        self._feedback.setProgress(begin + (end - begin) * min(max(fraction, 0.0), 1.0))
        now = self._clock()
        if name == self._shown and now - self._shown_at < EVERY_S:
            return
        left = "" if seconds_left is None or fraction >= 1 else f", {spoken_duration(seconds_left)} left"
        self._feedback.setProgressText(f"{name}: {fraction:.0%}{left}" if fraction else f"{name} …")
        self._shown, self._shown_at = name, now


def _event(line: str) -> dict:
    """The JSON object in a line; empty where it holds none."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def spoken_duration(seconds: float) -> str:
    """ "about 40 s", "about 3 min" or "about 2.5 h"."""
    if seconds < 60:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"

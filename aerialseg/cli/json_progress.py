"""--json-progress: one JSON object a line on stderr, for programs that run the command (docs/json-progress.md)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

import click

from aerialseg.cli.display import ProgressLines
from aerialseg.cli.failures import unharmed
from aerialseg.cli.sections import SectionedCommand
from aerialseg.errors import UsageError

OPTION = "--json-progress"
JSON_PROGRESS = click.option(OPTION, is_flag=True, help="Write only JSON lines to stderr (docs/json-progress.md).")
EVERY_S = 0.5
WARNING = "warning: "


class JsonLines(ProgressLines):
    """A listener that writes events to a stream, one a line. ``done`` or ``failed`` is the last."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__({}, EVERY_S)
        self._stream, self._lock, self._ended = stream, Lock(), False

    def note(self, message: str) -> None:
        text = message.removeprefix(WARNING)
        self._write("note" if text == message else "warning", message=text)

    def done(self, paths: Sequence[Path], **more: Any) -> None:
        self._write("done", paths=[str(path) for path in paths], **more)

    def failed(self, text: str, code: int, trace: str = "") -> None:
        more = {"traceback": trace} if trace else {}
        self._write("error", code=code, message=text.removeprefix("error: "), **more)

    def _show_stage(self) -> None:
        self._write("stage", stage=self._name)

    def _show_progress(self, fraction: float, left_s: float) -> None:
        done = round(min(fraction, 1.0), 4)
        self._write("progress", stage=self._name, fraction=done, seconds_left=round(max(left_s, 0.0), 1))

    def _write(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}) + "\n"
        with self._lock, unharmed(self._stream):
            if not self._ended:
                self._stream.write(line)
            self._ended |= event in ("done", "error")


@contextmanager
def json_lines(wanted: bool) -> Iterator[JsonLines | None]:
    """A listener that has stderr for itself: what libraries write there is dropped until the process ends."""
    if not wanted:
        yield None
        return
    with open(os.devnull, "wb") as nowhere:
        own = os.dup(nowhere.fileno() if sys.stderr is None else 2)
        if sys.stderr is not None:  # else 2 may be the number of any file
            os.dup2(nowhere.fileno(), 2)
    with open(own, "w", encoding="ascii") as stream:
        yield JsonLines(stream)


class JsonCommand(SectionedCommand):
    """A command whose usage errors are JSON, too, where that is asked for."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        wanted = OPTION in args
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            with json_lines(wanted) as lines:
                if lines is None:
                    raise
                lines.failed(error.format_message(), UsageError.exit_code)
            sys.exit(UsageError.exit_code)

"""What a batch says while it works: lines for people, and lines of JSON for machines."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

from aerialseg.batch.job_settings import message_for_job

Tell = Callable[[str], None]


class Events:
    """``tell`` is handed lines for people, ``stream`` gets one JSON object a line; either may be None."""

    def __init__(self, tell: Tell | None = None, stream: TextIO | None = None) -> None:
        self._tell, self._stream = tell, stream
        self._lock = threading.Lock()

    def say(self, event: str, message: str, *, level: str = "info", **facts: Any) -> None:
        """One event; people are spared "debug" ones. A reader that has gone away does not end the work."""
        with self._lock, suppress(OSError, ValueError):
            if self._tell is not None and level != "debug":
                self._tell(message if level == "info" else f"{level}: {message}")
            if self._stream is not None:
                line = {"time": now(), "level": level, "event": event, "message": message, **facts}
                self._stream.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
                self._stream.flush()

    @contextmanager
    def warnings(self) -> Iterator[None]:
        """A block in which the library's warnings become events."""
        handler = _Handler(self)
        logger = logging.getLogger("aerialseg")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self._events = events

    def emit(self, record: logging.LogRecord) -> None:
        self._events.say("warning", message_for_job(record.getMessage()), level="warning", logger=record.name)


def now() -> str:
    return spoken_time(datetime.now(UTC).timestamp())


def spoken_time(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Damage that GDAL only mentions: reading goes on with made-up pixels, and a message is all that tells."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_DAMAGE = ("Corrupt JPEG", "Premature end", "GDAL signalled an error")
_log = logging.getLogger("rasterio._err")
_heard = threading.local()


class DamagedPixelsError(OSError):
    """A decoder met damaged data and went on with made-up pixels."""


class _Listener(logging.Filter):
    """Hands what GDAL says to the block in the same thread that listens; others hear what they asked for."""

    def filter(self, record: logging.LogRecord) -> bool:
        messages: list[str] | None = getattr(_heard, "messages", None)
        if messages is not None:
            messages.append(record.getMessage())
        return record.levelno >= logging.getLogger("rasterio").getEffectiveLevel()


_log.addFilter(_Listener())


@contextmanager
def noticing_damage() -> Iterator[None]:
    """A block of reading in which damaged pixels raise DamagedPixelsError, though GDAL makes up others for them.

    libjpeg only warns, and drivers whose tiles are images in a database read a broken one as if it were empty.
    """
    if _log.getEffectiveLevel() > logging.INFO:
        _log.setLevel(logging.INFO)
    messages: list[str] = []
    _heard.messages = messages
    try:
        yield
    finally:
        _heard.messages = None
    damaged = [text for text in messages if "extraneous bytes" not in text and any(one in text for one in _DAMAGE)]
    if damaged:
        raise DamagedPixelsError(damaged[0])

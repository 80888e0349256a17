"""The commands: each parses, calls one library function and prints.

Nothing heavy is imported at the top of any module here, so that ``--help`` answers at once, and nothing at all but the
standard library before signals are heard. stdout carries the paths made and nothing else; everything for people goes to
stderr.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, NoReturn


def main() -> NoReturn:
    """Entry point of ``aerialseg``."""
    _leave_on_signal()
    from aerialseg.cli.commands import cli

    sys.exit(cli(prog_name="aerialseg"))


def segment_raster() -> NoReturn:
    """Entry point of ``segment-raster``, the same as ``aerialseg segment``."""
    _leave_on_signal()
    from aerialseg.cli.segment_command import segment_command

    sys.exit(segment_command(prog_name="segment-raster"))


def _leave_on_signal() -> None:
    """Before and after the work (`failures.errors`) there is nothing to tidy: leave at once, with 130."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is for what a shell starts behind &
            signal.signal(number, _leave)


def _leave(number: int, frame: object) -> NoReturn:
    with suppress(OSError):
        as_json = "--json-progress" in sys.argv
        os.write(2, b'{"event": "error", "code": 130, "message": "interrupted"}\n' if as_json else b"interrupted\n")
    os._exit(130)


def __getattr__(name: str) -> Any:
    """``aerialseg.cli.cli``, imported when it is first used (PEP 562)."""
    if name != "cli":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aerialseg.cli.commands import cli

    return cli

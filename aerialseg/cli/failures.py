"""How a command ends: paths on stdout, or one line on stderr and the right exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import click

from aerialseg.errors import AerialsegError, Interrupted, ResourceError


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """One line on stderr (before it the traceback, if asked for) and the right exit code, for whatever goes wrong."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt as error:
        _say(error, debug, "interrupted")
        os._exit(Interrupted.exit_code)  # a block in the middle of the network would keep the process for long
    except MemoryError as error:
        _say(error, debug, "error: out of memory: close other programs, or use a smaller raster")
        sys.exit(ResourceError.exit_code)
    except AerialsegError as error:
        _say(error, debug, f"error: {_one_line(error)}")
        sys.exit(error.exit_code)
    except Exception as error:
        _say(error, debug, f"error: {type(error).__name__}: {_one_line(error)} (a bug: --debug shows where)")
        sys.exit(1)


def _say(error: BaseException, debug: bool, message: str) -> None:
    if debug:
        traceback.print_exception(error)
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
    with suppress(OSError):
        click.echo(message + notes, err=True)
        sys.stderr.flush()


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def print_paths(paths: Iterable[Path]) -> None:
    """Paths on stdout; a reader that has gone away does not undo what is done."""
    try:
        for path in paths:
            click.echo(str(path))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

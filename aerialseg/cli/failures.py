"""How a command ends: paths on stdout, or one line on stderr and the right exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO

import click

from aerialseg.errors import AerialsegError, Interrupted, ResourceError
from aerialseg.files import printable


@contextmanager
def errors(debug: bool) -> Iterator[None]:
    """One line on stderr (before it the traceback, if asked for) and the right exit code, for whatever goes wrong."""
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the console cannot show undoes nothing
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
    tell(message + notes)


def _terminate(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _one_line(error: BaseException) -> str:
    return printable(" ".join(str(error).split()))


def print_lines(lines: Iterable[object]) -> None:
    """Lines on stdout, such as paths."""
    with unharmed(sys.stdout):
        for line in lines:
            click.echo(str(line))


def tell(text: str, *, newline: bool = True) -> None:
    """A text for people, on stderr."""
    with unharmed(sys.stderr):
        click.echo(text, err=True, nl=newline)


@contextmanager
def unharmed(stream: TextIO | None) -> Iterator[None]:
    """A block that writes: a stream that is closed or full, or whose reader has gone, does not undo what is done."""
    try:
        yield
        if stream is not None:  # it is None where it was closed from the start
            stream.flush()
    except OSError:  # Python would flush it again at its end, and end with 120
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

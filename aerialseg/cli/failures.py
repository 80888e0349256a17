"""How a command ends: paths on stdout, or one line on stderr and the right exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

import click

from aerialseg.errors import AerialsegError, Interrupted, ResourceError, UsageError
from aerialseg.files import printable

LEAVE_WITHIN_S = 4.0
"""Seconds for an orderly end after a signal. What is cut off then is resumed, as after a power cut."""


EXTRAS = {"torch": "gpu", "fastai": "train", "torchvision": "train", "onnx": "onnx", "PIL": "scenes", "cv2": "scenes"}
"""Packages that a light install lacks -> the extra that brings them."""

Say = Callable[[str, int, str], None]
"""Takes what went wrong in one line, the exit code, and the traceback where that is asked for."""


@contextmanager
def errors(debug: bool, say: Say | None = None) -> Iterator[None]:
    """One line on stderr (before it the traceback, if asked for) and the right exit code, for whatever goes wrong.

    say: what says it instead.
    """
    say = say or _tell_error
    told: list[int] = []
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the console cannot show undoes nothing
    try:
        with _hear_signals(told), _limit_time_to_leave():
            yield
    except BaseException as error:
        if told or isinstance(error, KeyboardInterrupt):  # libraries make other errors of it
            say(*_failure(error, debug, "interrupted", Interrupted.exit_code))
            os._exit(Interrupted.exit_code)  # a block in the middle of the network would keep the process for long
        if isinstance(error, MemoryError):
            text = "error: out of memory: close other programs, or use a smaller raster"
            say(*_failure(error, debug, text, ResourceError.exit_code))
            sys.exit(ResourceError.exit_code)
        if isinstance(error, ModuleNotFoundError) and (extra := EXTRAS.get((error.name or "").partition(".")[0])):
            text = f"error: this needs {error.name}: pip install 'aerialseg[{extra}]'"
            say(*_failure(error, debug, text, UsageError.exit_code))
            sys.exit(UsageError.exit_code)
        if isinstance(error, AerialsegError):
            say(*_failure(error, debug, f"error: {_one_line(error)}", error.exit_code))
            sys.exit(error.exit_code)
        if not isinstance(error, Exception):
            raise
        text = f"error: {type(error).__name__}: {_one_line(error)} (a bug: --debug shows where)"
        say(*_failure(error, debug, text, 1))
        sys.exit(1)


@contextmanager
def _hear_signals(told: list[int]) -> Iterator[None]:
    """A block in which SIGINT and SIGTERM raise KeyboardInterrupt and are noted in ``told``."""

    def hear(number: int, frame: object) -> NoReturn:
        told.append(number)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    try:
        for number in heard:
            signal.signal(number, hear)
        yield
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)


@contextmanager
def _limit_time_to_leave() -> Iterator[None]:
    """A block in which a signal ends the process after `LEAVE_WITHIN_S`, whatever its threads are waiting for.

    Python runs handlers between two of its own steps; the system writes to the pipe at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)


def _end_after_signal(reader: int) -> None:
    while number := os.read(reader, 1):
        if number[0] in (signal.SIGINT, signal.SIGTERM):
            time.sleep(LEAVE_WITHIN_S)
            os._exit(Interrupted.exit_code)
    os.close(reader)


if hasattr(os, "register_at_fork"):  # the signals of a child are not ours
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextmanager
def resuming(kept: Path) -> Iterator[None]:
    """A block that says, when it is interrupted, what stays: nothing is removed, and the same command resumes."""
    try:
        yield
    except KeyboardInterrupt as error:
        if kept.is_dir():
            error.add_note(f"what is done is kept in {printable(kept)}: the same command resumes")
        raise


def _failure(error: BaseException, debug: bool, message: str, code: int) -> tuple[str, int, str]:
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", []))
    return message + notes, code, "".join(traceback.format_exception(error)) if debug else ""


def _tell_error(text: str, code: int, trace: str) -> None:
    tell(trace + text)


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

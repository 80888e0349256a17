"""A command in a process of its own: its lines as they come, and an end for it and its children when cancelled.

Nothing of QGIS is imported here.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

POLL_S = 0.1
PATIENCE_S = 20.0
"""How long a cancelled command may take to put its files in order before it is killed."""


def run_lines(
    command: Sequence[str],
    environment: dict[str, str],
    on_line: Callable[[str, str], None],
    is_cancelled: Callable[[], bool],
) -> int:
    """The exit code of the command. ``on_line`` gets ("stdout" or "stderr", line) in this thread.

    When ``is_cancelled`` turns true the command is interrupted, and killed if it does not end; so are its children.
    """
    with _started(command, environment) as process:
        lines = _lines_of(process)
        while process.poll() is None and not is_cancelled():
            _pass_on(lines, on_line, POLL_S)
        if process.poll() is None:
            _stop(process)
    for thread in lines.threads:
        thread.join(PATIENCE_S)
    _pass_on(lines, on_line, 0)
    return process.returncode


class _Lines(queue.SimpleQueue):
    """(stream, line) of a process, put by one thread for each stream."""

    threads: list[threading.Thread]


@contextmanager
def _started(command: Sequence[str], environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    if os.name == "nt":
        alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:
        alone = {"start_new_session": True}
    process = subprocess.Popen(
        [*_with_parent(), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        encoding="utf-8",
        errors="replace",
        **alone,
    )
    try:
        yield process
    finally:
        _kill(process)  # whatever it has left running, too
        process.wait()


def _with_parent() -> list[str]:
    """On Linux, what ends the command when QGIS is killed."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _lines_of(process: subprocess.Popen) -> _Lines:
    lines = _Lines()

    def read(name: str, stream) -> None:
        with stream:
            for line in stream:
                lines.put((name, line.rstrip("\n")))

    lines.threads = [
        threading.Thread(target=read, args=(name, stream), daemon=True)
        for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))
    ]
    for thread in lines.threads:
        thread.start()
    return lines


def _pass_on(lines: _Lines, on_line: Callable[[str, str], None], wait_s: float) -> None:
    with suppress(queue.Empty):
        on_line(*(lines.get(timeout=wait_s) if wait_s else lines.get_nowait()))
        while True:
            on_line(*lines.get_nowait())


def _stop(process: subprocess.Popen) -> None:
    with suppress(OSError):
        if os.name == "nt":
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE_S)


def _kill(process: subprocess.Popen) -> None:
    if os.name == "nt":
        if process.poll() is None:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False, **quiet)
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

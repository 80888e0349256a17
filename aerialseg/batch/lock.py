"""One job at a time in a folder, and told to stop, it comes to an orderly end."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aerialseg.batch.events import spoken_time
from aerialseg.batch.ledger import LEDGER
from aerialseg.errors import Interrupted
from aerialseg.files import check_own
from aerialseg.locks import is_locked, locked

LOCK, OWNER = "lock", "owner.json"
RUNS, REPORTS = "runs", "reports"
"""What else a job's folder holds, beside the ledger."""


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold the job's folder. The system drops the lock of a process that dies, so a dead one's is taken over.

    Raises OutputError "in use" that names the holder, and where a link would lead out of the folder.
    """
    check_own(folder, (LEDGER, f"{LEDGER}-journal", LOCK, OWNER), (RUNS, REPORTS))
    with locked(folder / LOCK, lambda: f"{folder} is in use by {_said(lock_owner(folder))}: wait for it, or stop it"):
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        with suppress(OSError):
            (folder / OWNER).write_text(json.dumps(about))
        try:
            yield
        finally:
            with suppress(OSError):
                (folder / OWNER).unlink()


def is_held(folder: Path) -> bool:
    """Whether a living process holds the folder."""
    return is_locked(folder / LOCK)


def lock_owner(folder: Path) -> dict[str, Any]:
    """Process, machine and begin of the one that holds the folder (or held it when it died); empty if unknown."""
    try:
        values = json.loads((folder / OWNER).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) and isinstance(values.get("since"), int | float) else {}


def _said(about: dict[str, Any]) -> str:
    if not about:
        return "another run"
    return f"process {about.get('pid')} on {about.get('host')} since {spoken_time(about.get('since', 0))}"


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """An event that is set when told to stop (SIGTERM, SIGINT); told twice, leave at once with 130."""
    told = threading.Event()

    def hear(number: int, frame: object) -> None:
        if told.is_set():
            os._exit(Interrupted.exit_code)
        told.set()  # and no more: the interrupted code may hold any lock

    if threading.current_thread() is not threading.main_thread():
        yield told  # signals are the main thread's business
        return
    before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Commands to run when the report is written."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from aerialseg.batch.events import Events
from aerialseg.batch.jobfile import Job

MAX_OUTPUT_BYTES = 1 << 20


def run_hooks(job: Job, reports: Sequence[Path], exit_code: int, totals: Mapping[str, Any], events: Events) -> None:
    """Run the job's hooks, one after the other, without a shell. One that fails is reported, and the next runs."""
    if job.hooks.on == ("success" if exit_code else "failure"):
        return
    fields = {
        "json": str(reports[0]),
        "report": str(reports[1]),
        "exit_code": str(exit_code),
        "job": job.name,
        "done": str(totals["inputs"].get("done", 0)),
        "failed": str(totals["inputs"].get("failed", 0)),
    }
    for command in job.hooks.after:
        words = [_filled(word, fields) for word in shlex.split(command)]
        problem = _run(words, job)
        if problem:
            events.say("hook failed", f"the hook {command!r}: {problem}", level="error", command=command)
        else:
            events.say("hook", f"ran the hook {command!r}", command=command)


def _filled(word: str, fields: Mapping[str, str]) -> str:
    for name, value in fields.items():
        word = word.replace("{" + name + "}", value)
    return word


def _run(words: list[str], job: Job) -> str:
    """What went wrong, or nothing. Whatever the command has started ends with it, or with its time."""
    deadline = time.monotonic() + job.hooks.timeout_s
    try:
        process = subprocess.Popen(
            words,
            cwd=job.base,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    said = bytearray()
    reader = threading.Thread(target=_keep_end, args=(process.stdout, said), daemon=True)
    reader.start()
    try:
        reader.join(job.hooks.timeout_s)  # children that still write hold the pipe
        code = process.wait(max(0.0, deadline - time.monotonic()))
        late = reader.is_alive()
    except subprocess.TimeoutExpired:
        return f"did not end within {job.hooks.timeout_s:g} s"
    finally:
        _end_group(process)
    if late:
        return f"left processes that did not end within {job.hooks.timeout_s:g} s"
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return f"exit code {code} {': '.join(['', *last])}" if code else ""


def _keep_end(pipe: IO[bytes], said: bytearray) -> None:
    """Read to the end, and keep the last part."""
    with pipe:
        while read := os.read(pipe.fileno(), 1 << 16):
            said += read
            del said[:-MAX_OUTPUT_BYTES]


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the command and of what it started."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()

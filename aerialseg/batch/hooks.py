"""Commands to run when the report is written."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aerialseg.batch.events import Events
from aerialseg.batch.jobfile import Job


def run_hooks(job: Job, reports: Sequence[Path], exit_code: int, totals: Mapping[str, Any], events: Events) -> None:
    """Run the job's hooks, one after the other, without a shell. One that fails is told and does not stop the next."""
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
    """What went wrong, or nothing."""
    try:
        done = subprocess.run(
            words, cwd=job.base, capture_output=True, text=True, timeout=job.hooks.timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {job.hooks.timeout_s:g} s"
    except OSError as error:
        return error.strerror or str(error)
    last = (done.stderr or done.stdout).strip().splitlines()[-1:]
    return f"exit code {done.returncode} {': '.join(['', *last])}" if done.returncode else ""

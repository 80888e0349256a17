"""Reads damaged inputs, one after the other, in a process with limits: ``python -m tests.fuzz.worker FOLDER``.

stdin: a JSON list of cases, "SEED/NUMBER" or "SUBJECT/NAME" of the corpus. stdout: "ready", then a line of JSON for
each.
"""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random

from aerialseg.errors import AerialsegError, Interrupted
from tests.fuzz.mutate import mutate
from tests.fuzz.subjects import SUBJECTS, Subject

CORPUS = Path(__file__).parent / "corpus"
AT_WORK = "at work"
MEMORY_MB = 500
"""More than before: what an input may take."""
ADDRESSES = 3 << 30
CPU_S, WALL_S = 10, 60
"""For one input. A limit of CPU time does not depend on what else the machine does."""
_WEIGHTED = [name for name, subject in SUBJECTS.items() for _ in range(subject.weight)]


def main(folder: Path) -> None:
    cases = json.load(sys.stdin)
    warnings.simplefilter("error")
    names = {_subject(case) for case in cases}
    for name in sorted(names):
        _prepare(folder, name)
    print("ready", flush=True)
    faulthandler.register(signal.SIGXCPU, chain=True)
    addresses = _status_mb("VmSize") * 2**20 + ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (addresses, addresses))
    for case in cases:
        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S + 1, resource.RLIM_INFINITY))
        faulthandler.dump_traceback_later(WALL_S, exit=True)
        began = time.process_time()
        fault = _run(case, folder)
        print(json.dumps([case, fault, time.process_time() - began]), flush=True)


def _subject(case: str) -> str:
    first, _, number = case.partition("/")
    return _WEIGHTED[int(number) % len(_WEIGHTED)] if first.isdecimal() else first


def _prepare(folder: Path, name: str) -> None:
    """Make the subject's folder; it is read once, so that code is loaded and compiled and it is known to be whole."""
    template, at_work = folder / name, folder / AT_WORK
    shutil.rmtree(at_work, ignore_errors=True)  # of a process that was ended
    if not template.exists():
        at_work.mkdir()  # not elsewhere: runs and ledgers hold paths
        SUBJECTS[name].make(at_work)
        at_work.rename(template)
    SUBJECTS[name].read(_copied(template))
    shutil.rmtree(at_work)


def _copied(template: Path) -> Path:
    """A copy to damage. Rasters are second names of the template's: a kept run knows its own by number and time."""

    def copy(source: str, target: str) -> str:
        return str(os.link(source, target) if source.endswith(".tif") else shutil.copyfile(source, target))

    return Path(shutil.copytree(template, template.with_name(AT_WORK), copy_function=copy))


def _run(case: str, folder: Path) -> str:
    """What is wrong with how the damaged input ended; empty where all is right."""
    name = _subject(case)
    subject, at_work = SUBJECTS[name], _copied(folder / name)
    try:
        if not case[0].isdecimal():
            found = [path for path in (CORPUS / case).rglob("*") if path.is_file()]
            for path in found:
                target = at_work / path.relative_to(CORPUS / case)
                target.unlink(missing_ok=True)
                shutil.copyfile(path, target)
            victim = found[0].name
        else:
            rng = Random(case)
            damaged = at_work / rng.choice(subject.victims)
            mutate(damaged, rng)
            victim = damaged.name
        return _read(subject, at_work, victim)
    finally:
        if "KEEP" in os.environ:
            shutil.copytree(at_work, os.environ["KEEP"], dirs_exist_ok=True)
        shutil.rmtree(at_work)


def _read(subject: Subject, folder: Path, victim: str) -> str:
    before = _status_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts anew
    fault = ""
    try:
        subject.read(folder)
    except Interrupted:
        raise
    except AerialsegError as error:
        message = str(error)
        if not any(name in message for name in (victim, *subject.named)):
            fault = f"the message does not name the file {victim}: {message[:1000]}"
        elif len(message) > 2000:
            fault = f"a message of {len(message)} characters: {message[:300]}"
    except BaseException:
        fault = traceback.format_exc()
    more = _status_mb("VmHWM") - before
    return fault or (f"took {more:.0f} MB" if more > MEMORY_MB else "")


def _status_mb(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Fault 22: SIGINT and SIGTERM end every command with 130 within five seconds, whatever it is doing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aerialseg.batch.ledger import Ledger
from tests.batch.conftest import Folder, folder

__all__ = ["folder"]

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(sys.executable).parent
KINDS = (signal.SIGINT, signal.SIGTERM)
each_kind = pytest.mark.parametrize("kind", KINDS)


def start(*command: object, cwd: Path = ROOT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def await_handler(process: subprocess.Popen[str]) -> None:
    """Wait until the process hears SIGTERM: before that it is Python's, which has not come to us yet."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next((line for line in status.splitlines() if line.startswith("SigCgt")), "SigCgt: 0")
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def check_interrupted(process: subprocess.Popen[str], kind: signal.Signals) -> None:
    began = time.monotonic()
    process.send_signal(kind)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 130, said
    assert time.monotonic() - began < 5
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("command", ["segment", "batch"])
def test_row_22_a_signal_at_an_early_moment_gives_130_without_a_traceback(folder: Folder, command: str) -> None:
    (folder.path / "night.toml").write_text('[inputs]\nglob = "in/*.tif"\n[outputs]\nlayer = "out/{stem}.gpkg"\n')
    words = {
        "segment": [SCRIPTS / "segment-raster", "in/a.tif", "a.gpkg", "--resolution", "native"],
        "batch": [SCRIPTS / "aerialseg", "batch", "night.toml"],
    }
    chance = random.Random(22)
    for number, longest in enumerate((0, 0, 0.05, 0.2, 0.5, 1)):
        process = start(*words[command], cwd=folder.path)
        await_handler(process)
        time.sleep(chance.uniform(0, longest))
        check_interrupted(process, KINDS[number % 2])
    assert not list(folder.path.glob("**/*.gpkg"))


WAITS = {
    "C code": "import hashlib; print(1, flush=True); hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "a thread": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(1) as pool:
            pool.submit(time.sleep, 60)
            print(1, flush=True)""",
    "a library": """
        try:
            print(1, flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            raise ImportError('failed')""",
}


def waiting_for(what: str) -> subprocess.Popen[str]:
    code = (
        f"import os, signal, sys, time\nfrom aerialseg.cli.failures import errors\nwith errors(False):\n        {what}"
    )
    process = start(sys.executable, "-c", code)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("what", WAITS.values(), ids=WAITS)
def test_row_22_the_process_ends_whatever_it_waits_for(what: str, kind: signal.Signals) -> None:
    check_interrupted(waiting_for(what), kind)


@pytest.mark.slow
def test_row_22_the_signal_of_a_child_is_not_the_parents() -> None:
    code = """
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            time.sleep(60)
        time.sleep(0.3)
        os.kill(child, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(4.5)
        os._exit(code)"""
    process = waiting_for("print(1, flush=True)" + code)
    process.communicate(timeout=30)
    assert process.returncode == 7


@pytest.mark.slow
@each_kind
def test_row_22_batch_does_not_wait_for_a_long_block(folder: Folder, kind: signal.Signals) -> None:
    (folder.path / "night.toml").write_text('[inputs]\nglob = "in/*.tif"\n[outputs]\nlayer = "out/{stem}.gpkg"\n')
    code = f"""
        from aerialseg.batch.events import Events
        from aerialseg.batch.job import run_job
        from aerialseg.batch.jobfile import read_job
        from tests.fakes import Slow
        events = Events(lambda line: print(line, flush=True))
        job = read_job({str(folder.path / "night.toml")!r})
        sys.exit(run_job(job, predictor=Slow(60), events=events).exit_code)"""
    process = waiting_for(code)
    time.sleep(1)
    check_interrupted(process, kind)
    with Ledger(folder.path / "night.job", read_only=True) as ledger:
        run = ledger.last_run()
        assert run is not None
        assert run["exit_code"] == 130
        assert {entry.status for entry in ledger.entries()} == {"waiting"}

"""A real Dask scheduler and real workers, each a process of its own, as on a cluster."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import psutil

ROOT = Path(__file__).resolve().parents[1]


class Processes:
    """A scheduler at a port of its own and the workers that it is given; all of them end with the ``with``."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, python: str | None = None) -> None:
        self.folder, self._python = folder, python or sys.executable
        self.port = _free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._settings = dict(settings or {})
        self.scheduler = self.start_scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for process in [*self.workers, self.scheduler]:
            kill_tree(process)

    def start_scheduler(self) -> subprocess.Popen[bytes]:
        """A scheduler at the port, waited for until it listens."""
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self._dask("scheduler", *options, python=self._python)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self.scheduler
            time.sleep(0.05)
        raise AssertionError(self.log())

    def start_worker(
        self, *options: str, python: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A worker of one thread (unless the options say more), not waited for."""
        place = ["--local-directory", str(self.folder), "--no-dashboard", "--nthreads", "1"]
        worker = self._dask("worker", self.address, *place, *options, python=python, env=env)
        self.workers.append(worker)
        return worker

    def await_workers(self, count: int) -> None:
        """Wait until ``count`` workers have said that they are there."""
        from distributed import Client

        with Client(self.address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def _dask(
        self, *arguments: str, python: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        settings = {**os.environ, "PYTHONPATH": str(ROOT), **self._settings, **(env or {})}
        with open(self.folder / f"{arguments[0]}-{time.monotonic_ns()}.log", "wb") as log:
            return subprocess.Popen(
                [python or sys.executable, "-m", "dask", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=settings,
                cwd=self.folder,
            )


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the process and its children (a worker is the child of its nanny)."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    for each in (process, *children):
        try:
            os.kill(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A process of its own that runs command lines of aerialseg (a JSON list on stdin) and prints how each ended."""

from __future__ import annotations

import json
import sys
import time

from click.testing import CliRunner

from aerialseg.cli import cli


def peak_kb() -> int:
    """VmHWM, not ru_maxrss: that one counts what the parent had when it started this process."""
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


def main() -> None:
    for arguments in json.load(sys.stdin):
        began = time.perf_counter()
        if arguments[0] == "batch with a fake model":  # the real one takes seconds to load
            from aerialseg.batch.job import run_job
            from aerialseg.batch.jobfile import read_job
            from tests.fakes import Oracle

            code, said = run_job(read_job(arguments[1]), predictor=Oracle()).exit_code, ""
        else:
            done = CliRunner().invoke(cli, arguments)
            code, said = done.exit_code, done.stderr + done.stdout
        print(json.dumps([code, said, time.perf_counter() - began, peak_kb()]), flush=True)


if __name__ == "__main__":
    main()

"""Kills a run at random moments and starts it again: ``python -m tests.kills segment|batch FOLDER KILLS``.

A run is a fork of this process, which has everything imported; SIGKILL ends it. Whenever one comes to its end, the
outputs must be those of a run that nobody killed, and nothing else may be left. Then it begins from nothing.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aerialseg.batch.job import run_job
from aerialseg.batch.jobfile import read_job
from aerialseg.mapping.run import PUBLISHING, run_folder
from aerialseg.mapping.segment import segment
from aerialseg.raster import cog, image
from aerialseg.vector import layers, stream, transplant
from tests.fakes import Contextual

IMPORTED_LATE = cog, image, layers, stream, transplant
"""Imported here, so that no fork takes the time. Nothing may run before a fork: it would leave threads behind."""
STAMP = re.compile(rb"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d\dZ")
"""The moment at which a GeoPackage was written."""


def run_segment(folder: Path) -> None:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    layer, rasters = out / "map.gpkg", {"raster": out / "classes.tif", "confidence": out / "sure.tif"}
    ended = layer.exists() and not (run_folder(layer) / PUBLISHING).exists()  # killed, but nothing was left to do
    segment(folder / "in" / "wide.tif", layer, model=Contextual(), block_px=64, overwrite=ended, **rasters)


def run_batch(folder: Path) -> None:
    summary = run_job(read_job(folder / "night.toml"), predictor=Contextual())
    assert summary.exit_code == 0, summary


def is_finished(run: Callable[[], None], seconds: float) -> bool:
    """Whether the run came to its end within so many seconds; else it was killed."""
    pid = os.fork()
    if not pid:
        try:
            run()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            assert status == 0, os.waitstatus_to_exitcode(status)
            return True
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def products(folder: Path) -> dict[str, bytes]:
    """Every file of the folder by its name; the moment at which a GeoPackage was written is taken out of it."""
    return {path.name: STAMP.sub(b"", path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


def main(work: str, folder: Path, kills: int) -> None:
    def run() -> None:
        (run_segment if work == "segment" else run_batch)(folder)

    def made() -> dict[str, bytes]:
        found = products(folder / "out")
        shutil.rmtree(folder / "out")
        shutil.rmtree(folder / "night.job", ignore_errors=True)
        return found

    assert is_finished(run, 120)
    wanted, began = made(), time.monotonic()
    assert is_finished(run, 120)
    took = time.monotonic() - began
    assert made() == wanted
    chance, killed, finished = random.Random(22), 0, 0
    while killed < kills:
        if is_finished(run, chance.uniform(0, 1.1) * took):
            finished += 1
            assert made() == wanted
        else:
            killed += 1
    assert is_finished(run, 120)
    assert made() == wanted
    print(f"{killed} kills, {finished + 1} results of {len(wanted)} files each, {took:.2f} s for a run")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
